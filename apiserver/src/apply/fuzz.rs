//! Body of the fuzz target for server-side apply: a series of writes to one object by a few
//! managers, and what must hold after each.

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::ownership::{self, FieldWriter, Managers, Operation, UNOWNED};
use super::{ApplyError, difference, fields, merge, track_update};
use crate::fuzz::objects;
use crate::resources::ResourceType;
use crate::schema::Schema;

/// Most writes to one object.
const WRITES_MAX: i64 = 12;
const MANAGERS: [&str; 3] = ["a", "b", "c"];

/// The object, and what each manager applied last.
struct Series {
    kind: &'static ResourceType,
    live: Option<Value>,
    applied: BTreeMap<&'static str, Value>,
    second: i64,
}

/// An input is choices: a kind, and writes.
///
/// # Panics
/// If the input shows a fault.
pub fn apply(input: &[u8]) {
    writes(&mut Unstructured::new(input)).unwrap_or_default();
}

fn writes(choices: &mut Unstructured<'_>) -> Result<()> {
    let kind = objects::kind(choices)?;
    let mut series = Series { kind, live: None, applied: BTreeMap::new(), second: 0 };
    for _ in 0..WRITES_MAX {
        if choices.is_empty() {
            break;
        }
        let manager = *choices.choose(&MANAGERS)?;
        match choices.int_in_range(0..=7)? {
            0..=3 => series.apply(manager, objects::object(choices, kind)?, false),
            4 => series.apply(manager, objects::object(choices, kind)?, true),
            5 => series.apply(manager, nothing(kind), false),
            6 => series.update(manager, objects::object(choices, kind)?),
            _ => {
                let mut value = series.live.clone().unwrap_or_else(|| nothing(kind));
                json_patch::merge(&mut value, &objects::object(choices, kind)?);
                series.update(manager, value);
            }
        }
    }
    Ok(())
}

/// The object with no more than its name.
fn nothing(kind: &ResourceType) -> Value {
    json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "one"}})
}

// === impl Series ===

impl Series {
    /// An apply as the handler does it: refused if the result is not as its kind has it.
    fn apply(&mut self, manager: &'static str, applied: Value, force: bool) {
        let before = self.live.clone();
        let Some(merged) = self.merged(manager, &applied, force) else {
            assert_eq!(self.live, before);
            return;
        };
        let mut live = merged.clone();
        self.kind.schema.apply_defaults(&mut live);
        if !self.kind.schema.validate(&live).is_empty() {
            return;
        }
        if applied == nothing(self.kind) {
            self.check_release(manager, before.as_ref(), &merged);
        }
        self.live = Some(live.clone());
        self.check_owners();
        // An object without owners gets one for all that is there, and an object that an applier
        // leaves with nothing but empty lists goes with what it held before: as in the real server.
        let is_owned = live["metadata"].get("managedFields").is_some();
        if is_owned && !has_empty_list(&self.kind.schema, &applied) {
            let mut again = self.merged(manager, &applied, force).expect("it was applied before");
            self.kind.schema.apply_defaults(&mut again);
            assert_eq!(again, live, "applied twice");
        }

        let mut applied = applied;
        self.kind.schema.prune(&mut applied);
        ownership::strip_server_metadata(&mut applied);
        if force {
            self.applied.clear();
        }
        self.applied.insert(manager, applied);
        for (manager, applied) in &self.applied {
            self.check_holds(manager, applied);
        }
    }

    fn merged(&mut self, manager: &str, applied: &Value, force: bool) -> Option<Value> {
        let now = self.now();
        let writer = writer(manager, now);
        let blank = Value::Object(serde_json::Map::new());
        match super::apply(&self.kind.schema, (self.live.as_ref(), &blank), applied, &writer, force)
        {
            Ok(merged) => Some(merged),
            Err(ApplyError::Conflicts(conflicts)) => {
                assert!(!force && !conflicts.is_empty());
                assert!(conflicts.iter().all(|conflict| conflict.field.starts_with('.')));
                None
            }
            Err(ApplyError::Invalid(text)) => {
                assert!(!text.is_empty());
                None
            }
        }
    }

    fn update(&mut self, manager: &'static str, mut value: Value) {
        self.kind.schema.prune(&mut value);
        self.kind.schema.apply_defaults(&mut value);
        if !value["metadata"].is_object() || !self.kind.schema.validate(&value).is_empty() {
            return;
        }
        let now = self.now();
        track_update(&self.kind.schema, self.live.as_ref(), &mut value, &writer(manager, now));
        self.live = Some(value.clone());
        self.applied.clear();
        self.check_owners();
        // The same update again changes nothing, not even the times.
        let now = self.now();
        let mut again = value.clone();
        track_update(&self.kind.schema, self.live.as_ref(), &mut again, &writer(manager, now));
        assert_eq!(again, value, "updated twice");
    }

    fn now(&mut self) -> Timestamp {
        self.second += 1;
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(self.second)
    }

    /// Whatever is owned is there, and nothing is owned that has no owner.
    fn check_owners(&self) {
        let live = self.live.as_ref().expect("it was just written");
        let managers = Managers::read(live);
        let owned = managers.union();
        let mut absent = owned.clone();
        absent.subtract(&fields::all_fields(&self.kind.schema, live));
        assert!(absent.is_empty(), "owned, but not there: {:?} in {live}", absent.paths());
        let paths = owned.paths();
        for path in UNOWNED {
            let path = format!(".{}", path.join("."));
            assert!(!paths.contains(&path), "{path} has an owner");
        }
        let entries = live["metadata"]["managedFields"].as_array();
        for entry in entries.into_iter().flatten() {
            let fields = entry["fieldsV1"].as_object();
            assert!(fields.is_some_and(|fields| !fields.is_empty()), "{entry} owns nothing");
        }
    }

    /// What a manager applied last still stands, though others have applied since without force.
    fn check_holds(&self, manager: &str, applied: &Value) {
        let live = self.live.as_ref().expect("it was just written");
        let schema = &self.kind.schema;
        let mut merged = merge::merge(schema, Some(live), applied);
        // Defaults inside of a list that is replaced as a whole.
        schema.apply_defaults(&mut merged);
        // Fields that say nothing, such as an empty list of items, are nobody's.
        let own = ownership::without_unowned(fields::applied_fields(schema, applied));
        let lost = difference::compare(schema, live, &merged).changed.intersection(&own);
        assert!(lost.is_empty(), "{manager} lost {:?}: {live} after {applied}", lost.paths());
    }

    /// A manager that applies nothing any more takes what was its own alone with it.
    fn check_release(&self, manager: &str, before: Option<&Value>, after: &Value) {
        let Some(before) = before else {
            return;
        };
        let writer = writer(manager, Timestamp::UNIX_EPOCH);
        let mut others = Managers::read(before);
        let mut alone = others.set(&writer, Operation::Apply, fields::FieldSet::default());
        alone.subtract(&others.union());
        let left = alone.intersection(&fields::all_fields(&self.kind.schema, after));
        // An item or an object that holds a field of another manager has to stay.
        let kept = others.union().paths();
        let left = left
            .paths()
            .into_iter()
            .filter(|path| !kept.iter().any(|kept| kept.starts_with(path.as_str())));
        let left: Vec<String> = left.collect();
        assert!(left.is_empty(), "{manager} left {left:?} behind: {before} became {after}");
    }
}

/// Whether the value has a list without items, which nobody owns.
fn has_empty_list(schema: &Schema, value: &Value) -> bool {
    match value {
        Value::Object(object) => object.iter().any(|(name, inner)| {
            schema.child(name).is_some_and(|schema| has_empty_list(schema, inner))
        }),
        Value::Array(list) => schema.merged_list().is_some_and(|(items, _)| {
            list.is_empty() || list.iter().any(|item| has_empty_list(items, item))
        }),
        _ => false,
    }
}

fn writer(manager: &str, now: Timestamp) -> FieldWriter<'_> {
    FieldWriter { manager, api_version: "v1", subresource: None, now }
}
