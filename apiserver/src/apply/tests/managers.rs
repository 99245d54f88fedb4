//! What ordinary writes do to the managers of an object.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{DEPLOYMENT, deployment, fields_of, writer};
use crate::apply::{FieldWriter, track_update};

#[test]
fn an_update_owns_what_it_changed_and_takes_it_from_others() {
    let mut created = deployment(&json!({"replicas": 1, "paused": true}));
    track_update(&DEPLOYMENT, None, &mut created, &writer("creator", 1));
    assert_eq!(
        fields_of(&created, "creator"),
        &json!({"f:spec": {".": {}, "f:replicas": {}, "f:paused": {}}})
    );
    let mut scaled = created.clone();
    scaled["spec"]["replicas"] = json!(3);
    track_update(&DEPLOYMENT, Some(&created), &mut scaled, &writer("scaler", 2));
    assert_eq!(fields_of(&scaled, "scaler"), &json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields_of(&scaled, "creator"), &json!({"f:spec": {".": {}, "f:paused": {}}}));
    let mut shrunk = scaled.clone();
    shrunk["spec"].as_object_mut().unwrap().remove("replicas");
    track_update(&DEPLOYMENT, Some(&scaled), &mut shrunk, &writer("other", 3));
    assert_eq!(fields_of(&shrunk, "scaler"), &Value::Null);
    assert_eq!(fields_of(&shrunk, "other"), &Value::Null);
}

#[test]
fn an_update_that_changes_nothing_leaves_ownership_alone() {
    let mut created = deployment(&json!({"replicas": 1}));
    track_update(&DEPLOYMENT, None, &mut created, &writer("creator", 1));
    let mut again = created.clone();
    again["metadata"].as_object_mut().unwrap().remove("managedFields");
    track_update(&DEPLOYMENT, Some(&created), &mut again, &writer("other", 9));
    assert_eq!(again, created);
}

#[test]
fn an_empty_list_of_managers_resets_ownership() {
    let mut live = deployment(&json!({"replicas": 1}));
    track_update(&DEPLOYMENT, None, &mut live, &writer("a", 1));
    let mut reset = live.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    track_update(&DEPLOYMENT, Some(&live), &mut reset, &writer("b", 2));
    assert!(reset["metadata"].get("managedFields").is_none());
}

#[test]
fn managers_of_one_second_are_ordered_by_name_and_stay_so() {
    let late = |manager, millis| {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_millis(millis);
        FieldWriter { now, ..writer(manager, 0) }
    };
    let mut live = deployment(&json!({"paused": true}));
    track_update(&DEPLOYMENT, None, &mut live, &late("b", 1_200));
    let mut next = live.clone();
    next["spec"]["replicas"] = json!(1);
    track_update(&DEPLOYMENT, Some(&live), &mut next, &late("a", 1_700));
    let entries = next["metadata"]["managedFields"].as_array().unwrap();
    let names: Vec<&Value> = entries.iter().map(|entry| &entry["manager"]).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn an_object_without_managers_gets_none_by_an_update() {
    let live = deployment(&json!({"replicas": 1}));
    let mut updated = deployment(&json!({"replicas": 2}));
    track_update(&DEPLOYMENT, Some(&live), &mut updated, &writer("b", 2));
    assert!(updated["metadata"].get("managedFields").is_none());
}

#[test]
fn many_updaters_become_one() {
    let mut live = deployment(&json!({ "paused": true }));
    track_update(&DEPLOYMENT, None, &mut live, &writer("creator", 0));
    for index in 0..30 {
        let mut next = live.clone();
        let label = format!("l{index}");
        next["metadata"]["labels"][&label] = json!("x");
        track_update(&DEPLOYMENT, Some(&live), &mut next, &writer(&format!("m{index}"), index));
        live = next;
    }
    let entries = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    let ancient = fields_of(&live, "ancient-changes");
    assert!(ancient["f:metadata"]["f:labels"].get("f:l0").is_some());
    assert!(ancient["f:metadata"]["f:labels"].get("f:l20").is_some());
}

#[test]
fn subresources_are_managers_of_their_own() {
    let mut live = deployment(&json!({"replicas": 1}));
    track_update(&DEPLOYMENT, None, &mut live, &writer("me", 1));
    let mut with_status = live.clone();
    with_status["status"] = json!({"replicas": 1});
    let status = FieldWriter { subresource: Some("status"), ..writer("me", 2) };
    track_update(&DEPLOYMENT, Some(&live), &mut with_status, &status);
    let entries = with_status["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(entries[1]["fieldsV1"], json!({"f:status": {".": {}, "f:replicas": {}}}));
}
