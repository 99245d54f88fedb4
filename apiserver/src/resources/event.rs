//! The two faces of an Event: core v1, which is stored, and events.k8s.io/v1.
//!
//! They are one kind in two shapes, as in the real server
//! (`pkg/apis/core/v1/conversion.go` and `pkg/apis/events/v1/conversion.go`).

use serde_json::{Map, Value, json};

/// Fields by their name in core v1 and in events.k8s.io/v1; all others have one name in both.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The core v1 Event of an events.k8s.io/v1 Event.
pub fn event_from_events_v1(event: &Value) -> Value {
    let mut core = renamed(event, |core, events| (events, core));
    core["apiVersion"] = json!("v1");
    core
}

/// The events.k8s.io/v1 Event of a core v1 Event.
pub fn event_to_events_v1(event: &Value) -> Value {
    let mut events = renamed(event, |core, events| (core, events));
    events["apiVersion"] = json!("events.k8s.io/v1");
    events
}

fn renamed(
    event: &Value,
    direction: fn(&'static str, &'static str) -> (&'static str, &'static str),
) -> Value {
    let mut result = Map::new();
    for (name, value) in event.as_object().into_iter().flatten() {
        let renamed = RENAMED
            .iter()
            .map(|(core, events)| direction(core, events))
            .find(|(from, _)| from == name);
        let name = renamed.map_or(name.as_str(), |(_, to)| to);
        result.insert(name.to_owned(), value.clone());
    }
    Value::Object(result)
}
