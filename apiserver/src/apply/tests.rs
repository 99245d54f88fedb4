mod managers;
mod properties;

use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::resources::tests::schema_of;

static SERVICE: LazyLock<Arc<Schema>> = LazyLock::new(|| schema_of("Service", true));
static DEPLOYMENT: LazyLock<Arc<Schema>> = LazyLock::new(|| schema_of("Deployment", false));

fn writer(manager: &str, second: i64) -> FieldWriter<'_> {
    FieldWriter {
        manager,
        api_version: "apps/v1",
        subresource: None,
        now: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second),
    }
}

fn applied(live: Option<&Value>, object: &Value, manager: &str, second: i64) -> Value {
    apply(&DEPLOYMENT, (live, &json!({})), object, &writer(manager, second), false).unwrap()
}

fn deployment(spec: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n"},
        "spec": spec,
    })
}

fn containers(list: &Value) -> Value {
    deployment(&json!({"template": {"spec": {"containers": list}}}))
}

fn fields_of<'a>(object: &'a Value, manager: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let mut found = entries.iter().filter(|entry| entry["manager"] == manager);
    found.next().map_or(&Value::Null, |entry| &entry["fieldsV1"])
}

fn conflicts(result: Result<Value, ApplyError>) -> Vec<Conflict> {
    match result {
        Err(ApplyError::Conflicts(conflicts)) => conflicts,
        other => panic!("no conflicts: {other:?}"),
    }
}

#[test]
fn the_applier_owns_what_it_applied_and_no_identity() {
    let object = containers(&json!([{
        "name": "a",
        "image": "i",
        "ports": [{"containerPort": 80}],
        "args": ["x"],
    }]));
    let result = applied(None, &object, "me", 5);
    assert_eq!(
        result["metadata"]["managedFields"],
        json!([{
            "manager": "me",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": "1970-01-01T00:00:05Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"a\"}": {
                    ".": {},
                    "f:name": {},
                    "f:image": {},
                    "f:args": {},
                    "f:ports": {
                        "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                            ".": {},
                            "f:containerPort": {},
                        },
                    },
                },
            }}}}},
        }])
    );
}

#[test]
fn a_change_to_a_field_of_another_manager_is_a_conflict_in_the_words_of_the_real_server() {
    let mut live = deployment(&json!({"replicas": 1}));
    track_update(&DEPLOYMENT, None, &mut live, &writer("kubectl-client-side-apply", 1));
    let wanted = deployment(&json!({"replicas": 2}));
    let error = apply(&DEPLOYMENT, (Some(&live), &json!({})), &wanted, &writer("me", 2), false)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: \
         .spec.replicas"
    );
    assert_eq!(
        conflicts(Err(error)),
        [Conflict {
            field: ".spec.replicas".to_owned(),
            message: "conflict with \"kubectl-client-side-apply\" using apps/v1".to_owned(),
        }]
    );
    let forced =
        apply(&DEPLOYMENT, (Some(&live), &json!({})), &wanted, &writer("me", 2), true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(fields_of(&forced, "me"), &json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(fields_of(&forced, "kubectl-client-side-apply"), &json!({"f:spec": {}}));
}

#[test]
fn several_conflicts_are_grouped_by_manager() {
    let first =
        applied(None, &containers(&json!([{"name": "a", "image": "1", "tty": true}])), "x", 1);
    let wanted = containers(&json!([{"name": "a", "image": "2", "tty": false}]));
    let error = apply(&DEPLOYMENT, (Some(&first), &json!({})), &wanted, &writer("me", 2), false)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"x\":\n\
         - .spec.template.spec.containers[name=\"a\"].image\n\
         - .spec.template.spec.containers[name=\"a\"].tty"
    );
}

#[test]
fn equal_values_are_shared_and_stay_until_the_last_owner_drops_them() {
    let both = deployment(&json!({"replicas": 1}));
    let nothing = deployment(&json!({}));
    let first = applied(None, &both, "x", 1);
    let second = applied(Some(&first), &both, "y", 2);
    let third = applied(Some(&second), &nothing, "x", 3);
    assert_eq!(third["spec"]["replicas"], 1);
    let fourth = applied(Some(&third), &nothing, "y", 4);
    assert!(fourth["spec"].get("replicas").is_none());
}

#[test]
fn a_dropped_item_is_removed_with_its_unowned_fields() {
    let two = containers(&json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]));
    let mut live = applied(None, &two, "me", 1);
    // A default that the server filled in.
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = json!("Always");
    let one = containers(&json!([{"name": "a", "image": "1"}]));
    let result = applied(Some(&live), &one, "me", 2);
    assert_eq!(
        result["spec"]["template"]["spec"]["containers"],
        json!([{"name": "a", "image": "1"}])
    );
}

#[test]
fn a_dropped_item_stays_where_another_owns_something_in_it() {
    let live =
        applied(None, &containers(&json!([{"name": "a", "image": "1", "tty": true}])), "me", 1);
    let live = applied(Some(&live), &containers(&json!([{"name": "a", "stdin": true}])), "you", 2);
    let result = applied(Some(&live), &containers(&json!([])), "me", 3);
    assert_eq!(
        result["spec"]["template"]["spec"]["containers"],
        json!([{"name": "a", "stdin": true}])
    );
}

#[test]
fn a_dropped_object_goes_with_its_defaults() {
    let with = json!([{"name": "a", "readinessProbe": {"httpGet": {"port": 80}}}]);
    let mut live = applied(None, &containers(&with), "me", 1);
    live["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] =
        json!(10);
    let result = applied(Some(&live), &containers(&json!([{"name": "a"}])), "me", 2);
    assert_eq!(result["spec"]["template"]["spec"]["containers"], json!([{"name": "a"}]));
}

#[test]
fn items_of_others_keep_their_place() {
    let live = applied(None, &containers(&json!([{"name": "a"}, {"name": "b"}])), "x", 1);
    let result = applied(Some(&live), &containers(&json!([{"name": "c"}, {"name": "b"}])), "y", 2);
    let names: Vec<&Value> = result["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| &container["name"])
        .collect();
    assert_eq!(names, ["a", "c", "b"]);
}

#[test]
fn an_atomic_list_is_owned_and_replaced_as_a_whole() {
    let service = |image: &str| {
        json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "s"},
            "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
        })
    };
    let live = apply(&SERVICE, (None, &json!({})), &service("a"), &writer("x", 1), false).unwrap();
    assert_eq!(
        fields_of(&live, "x"),
        &json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}})
    );
    let refused = apply(&SERVICE, (Some(&live), &json!({})), &service("b"), &writer("y", 2), false);
    assert_eq!(conflicts(refused)[0].field, ".spec.template.spec.containers");
}

#[test]
fn fields_from_before_the_first_apply_have_no_known_owner() {
    let live = deployment(&json!({"replicas": 1, "paused": true}));
    let same = applied(Some(&live), &deployment(&json!({"replicas": 1})), "me", 1);
    assert_eq!(same["spec"], live["spec"]);
    let refused = apply(
        &DEPLOYMENT,
        (Some(&live), &json!({})),
        &deployment(&json!({"replicas": 2})),
        &writer("me", 1),
        false,
    );
    assert_eq!(conflicts(refused)[0].message, "conflict with \"before-first-apply\" using apps/v1");
    let blank = (Some(&live), &json!({ "spec": { "paused": true } }));
    let wanted = deployment(&json!({ "replicas": 1 }));
    let same = apply(&DEPLOYMENT, blank, &wanted, &writer("me", 1), false).unwrap();
    let kept = json!({ "f:spec": { "f:replicas": {} } });
    assert_eq!(*fields_of(&same, "before-first-apply"), kept, "nobody wrote what a blank one has");
}

#[test]
fn items_twice_or_without_a_key_are_refused() {
    for (list, text) in [
        (
            json!([{"name": "a"}, {"name": "a"}]),
            ".spec.template.spec.containers: duplicate entries for key {\"name\":\"a\"}",
        ),
        (
            json!([{"image": "i"}]),
            ".spec.template.spec.containers: element 0: associative list with keys has an element \
             that omits a key field that has no default value",
        ),
    ] {
        let error =
            apply(&DEPLOYMENT, (None, &json!({})), &containers(&list), &writer("me", 1), false);
        assert_eq!(error, Err(ApplyError::Invalid(text.to_owned())));
    }
}

#[test]
fn nulls_that_clients_write_for_nothing_are_not_owned() {
    let object = deployment(&json!({
        "replicas": null,
        "template": {"metadata": {"creationTimestamp": null, "labels": {"a": "b"}}},
    }));
    let result = applied(None, &object, "me", 1);
    assert_eq!(
        fields_of(&result, "me"),
        &json!({"f:spec": {"f:template": {"f:metadata": {"f:labels": {"f:a": {}}}}}})
    );
    assert!(result["spec"].get("replicas").is_none());
}
