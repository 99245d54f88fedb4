use serde_json::{Value, json};

use super::*;
use crate::resources::tests::served;

fn table(group: &str, kind: &str, object: &Value) -> Value {
    let resources = served();
    let resource =
        resources.iter().find(|resource| resource.group == group && resource.kind == kind).unwrap();
    let now = "2024-05-01T00:05:00Z".parse().unwrap();
    let metadata = json!({"resourceVersion": "7"});
    render(resource, [object], metadata, IncludeObject::Metadata, now)
}

/// Headings and cells of the columns that are shown without `-o wide`.
fn shown(table: &Value) -> Vec<(String, Value)> {
    let columns = table["columnDefinitions"].as_array().unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(columns.len(), cells.len());
    columns
        .iter()
        .zip(cells)
        .filter(|(column, _)| column["priority"] == 0)
        .map(|(column, cell)| (column["name"].as_str().unwrap().to_owned(), cell.clone()))
        .collect()
}

fn row(group: &str, kind: &str, object: &Value) -> Vec<Value> {
    let shown = shown(&table(group, kind, object));
    shown.into_iter().map(|(_, cell)| cell).collect()
}

#[test]
fn the_row_of_a_pod_that_has_ended_says_so() {
    let conditions = |phase: &str| {
        let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": phase}});
        table("", "Pod", &pod)["rows"][0]["conditions"].clone()
    };
    assert_eq!(conditions("Failed")[0]["message"], "The pod failed.");
    assert_eq!(conditions("Running"), Value::Null);
}

fn pod_status(status: &Value) -> Value {
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a"}]},
        "status": status,
    });
    row("", "Pod", &pod)[2].clone()
}

#[test]
fn a_custom_kind_has_the_columns_of_its_definition() {
    let service = json!({
        "metadata": {"name": "hello", "creationTimestamp": "2024-05-01T00:00:00Z", "uid": "u"},
        "status": {
            "url": "http://hello.default",
            "conditions": [{"type": "Ready", "status": "False", "reason": "RevisionMissing"}],
        },
    });
    let table = table("serving.knative.dev", "Service", &service);
    let names = ["Name", "URL", "LatestCreated", "LatestReady", "Ready", "Reason"];
    let cells = json!(["hello", "http://hello.default", null, null, "False", "RevisionMissing"]);
    let (headings, values): (Vec<String>, Vec<Value>) = shown(&table).into_iter().unzip();
    assert_eq!(headings, names);
    assert_eq!(json!(values), cells);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["metadata"]["resourceVersion"], "7");
    let object = &table["rows"][0]["object"];
    assert_eq!(object["kind"], "PartialObjectMetadata");
    assert_eq!(object["metadata"]["uid"], "u");
    assert!(object.get("status").is_none());
}

#[test]
fn labels_with_dots_are_found() {
    let revision = json!({"metadata": {"name": "r", "labels": {
        "serving.knative.dev/configuration": "hello",
        "serving.knative.dev/configurationGeneration": "3",
    }}});
    let row = row("serving.knative.dev", "Revision", &revision);
    assert_eq!(row[1..3], [json!("hello"), json!("3")]);
}

#[test]
fn a_running_pod_shows_its_ready_containers_restarts_and_age() {
    let pod = json!({
        "metadata": {"name": "p", "creationTimestamp": "2024-05-01T00:04:00Z"},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}},
            {
                "name": "b",
                "ready": false,
                "restartCount": 2,
                "state": {"running": {}},
                "lastState": {"terminated": {"finishedAt": "2024-05-01T00:04:50Z"}},
            },
        ]},
    });
    assert_eq!(json!(row("", "Pod", &pod)), json!(["p", "1/2", "Running", "2 (10s ago)", "60s"]));
}

#[test]
fn a_pod_shows_why_it_does_not_run() {
    let container = |state: Value| json!({"phase": "Running", "containerStatuses": [{"name": "a", "state": state}]});
    for (status, text) in [
        (json!({"phase": "Pending"}), "Pending"),
        (json!({}), "Unknown"),
        (json!({"phase": "Failed", "reason": "Evicted"}), "Evicted"),
        (container(json!({"waiting": {"reason": "CrashLoopBackOff"}})), "CrashLoopBackOff"),
        (container(json!({"terminated": {"reason": "Completed", "exitCode": 0}})), "Completed"),
        (container(json!({"terminated": {"reason": "Error", "exitCode": 1}})), "Error"),
        (container(json!({"terminated": {"exitCode": 3}})), "ExitCode:3"),
        (container(json!({"terminated": {"signal": 9, "exitCode": 137}})), "Signal:9"),
        (
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
            ]}),
            "Init:ImagePullBackOff",
        ),
    ] {
        assert_eq!(pod_status(&status), text, "{status}");
    }
}

#[test]
fn a_pod_that_is_being_deleted_is_terminating_unless_it_is_done() {
    let mut pod = json!({
        "metadata": {"name": "p", "deletionTimestamp": "2024-05-01T00:05:30Z"},
        "status": {"phase": "Running"},
    });
    assert_eq!(row("", "Pod", &pod)[2], "Terminating");
    pod["status"]["phase"] = json!("Succeeded");
    assert_eq!(row("", "Pod", &pod)[2], "Succeeded");
}

/// `object` with a name and an age of two minutes.
fn named(mut object: Value) -> Value {
    object["metadata"] = json!({"name": "x", "creationTimestamp": "2024-05-01T00:03:00Z"});
    object
}

#[test]
fn built_in_kinds_show_what_kubectl_shows() {
    for (group, kind, object, cells) in [
        (
            "apps",
            "Deployment",
            named(json!({
                "spec": {"replicas": 3},
                "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1},
            })),
            json!(["x", "1/3", 2, 1, "2m"]),
        ),
        (
            "",
            "Service",
            named(
                json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}}),
            ),
            json!(["x", "ClusterIP", "<none>", "<none>", "80/TCP", "2m"]),
        ),
        (
            "",
            "Namespace",
            named(json!({"status": {"phase": "Active"}})),
            json!(["x", "Active", "2m"]),
        ),
        ("", "ConfigMap", named(json!({"data": {"a": "", "b": ""}})), json!(["x", 2, "2m"])),
        ("", "Secret", named(json!({"type": "Opaque"})), json!(["x", "Opaque", 0, "2m"])),
        ("", "ServiceAccount", named(json!({})), json!(["x", "2m"])),
        (
            "coordination.k8s.io",
            "Lease",
            named(json!({"spec": {"holderIdentity": "me"}})),
            json!(["x", "me", "2m"]),
        ),
        (
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            named(json!({})),
            json!(["x", "2024-05-01T00:03:00Z"]),
        ),
    ] {
        assert_eq!(json!(row(group, kind, &object)), cells, "{kind}");
    }
}

#[test]
fn an_event_shows_what_happened_to_what_and_when_in_either_version() {
    for (group, kind, object, cells) in [
        (
            "",
            "Event",
            named(json!({
                "lastTimestamp": "2024-05-01T00:04:30Z",
                "type": "Warning",
                "reason": "BackOff",
                "involvedObject": {"kind": "Pod", "name": "p"},
                "message": "Back-off\n",
            })),
            json!(["30s", "Warning", "BackOff", "pod/p", "Back-off"]),
        ),
        (
            "events.k8s.io",
            "Event",
            named(json!({
                "eventTime": "2024-05-01T00:04:30Z",
                "regarding": {"kind": "Pod", "name": "p"},
                "note": "Pulled",
            })),
            json!(["30s", "", "", "pod/p", "Pulled"]),
        ),
    ] {
        assert_eq!(json!(row(group, kind, &object)), cells, "{group}");
    }
}
