//! The four patches.

use http::Method;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::kinds::{Kind, metadata};
use crate::operation::Operation;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

fn patch(kind: &'static Kind, name: &str, form: &'static str, body: Value) -> Operation {
    let operation = Operation::new(Method::PATCH, kind, name).sending(body);
    Operation { content_type: form, ..operation }
}

/// A JSON, merge or strategic merge patch.
pub(crate) fn change(dice: &mut Dice, kind: &'static Kind, name: &str) -> Operation {
    match dice.below(3) {
        0 => patch(kind, name, JSON, json_patch(dice, kind)),
        1 => patch(kind, name, MERGE, merge_patch(dice, kind)),
        _ => {
            let body = if dice.chance(60) { lists(dice, kind) } else { merge_patch(dice, kind) };
            patch(kind, name, STRATEGIC, body)
        }
    }
}

fn json_patch(dice: &mut Dice, kind: &Kind) -> Value {
    let part = kind.part();
    let steps = [
        json!({ "op": "add", "path": "/metadata/labels/app", "value": "b" }),
        json!({ "op": "add", "path": "/metadata/labels", "value": { "app": "a" } }),
        json!({ "op": "replace", "path": "/metadata/labels/app", "value": "a" }),
        json!({ "op": "remove", "path": "/metadata/labels/tier" }),
        json!({ "op": "remove", "path": "/metadata/annotations" }),
        json!({ "op": "test", "path": "/metadata/labels/app", "value": "a" }),
        json!({ "op": "test", "path": "/metadata/name", "value": "a" }),
        json!({ "op": "replace", "path": "/metadata/name", "value": "other" }),
        json!({ "op": "remove", "path": "/metadata/finalizers" }),
        json!({ "op": "add", "path": "/metadata/finalizers", "value": ["example.com/hold"] }),
        json!({ "op": "add", "path": "/metadata/annotations", "value": { "note": "json" } }),
        json!({ "op": "copy", "from": "/metadata/labels", "path": "/metadata/annotations" }),
        json!({ "op": "move", "from": "/metadata/labels/app", "path": "/metadata/labels/tier" }),
        json!({ "op": "add", "path": format!("/{part}/unheard"), "value": {} }),
        json!({ "op": "test", "path": "/metadata/resourceVersion", "value": "{stale}" }),
        json!({ "op": "replace", "path": "/metadata/resourceVersion", "value": "{stale}" }),
        json!({ "op": "jump", "path": "/metadata" }),
        json!({ "op": "add", "path": "/metadata/labels/app", "value": 1 }),
        json!({ "op": "replace", "path": format!("/{part}"), "value": "text" }),
    ];
    let count = 1 + dice.below(2);
    let mut chosen: Vec<Value> = (0..count).map(|_| dice.pick(&steps)).collect();
    if kind.part() == "data" && dice.chance(50) {
        chosen = vec![json!({ "op": "add", "path": "/data/k1", "value": "aGk=" })];
    }
    if dice.chance(2) { chosen[0].clone() } else { chosen.into() }
}

fn merge_patch(dice: &mut Dice, kind: &Kind) -> Value {
    let mut body = match dice.below(8) {
        0 => json!({ "metadata": { "labels": { "app": null } } }),
        1 => json!({ "metadata": { "labels": null } }),
        2 => json!({ "metadata": { "annotations": { "note": "merge" } } }),
        3 => json!({ "metadata": { "finalizers": null } }),
        4 => json!({ "metadata": { "labels": { "app": dice.pick(&["a", "b"]) } } }),
        5 => json!({ "metadata": metadata(dice) }),
        6 => json!({ "unheard": 1, "metadata": { "labels": { "tier": "x" } } }),
        _ => {
            let rest = (kind.rest)(dice);
            // The spec of a pod cannot be changed.
            if kind.plural == "pods" { json!({ "metadata": metadata(dice) }) } else { rest }
        }
    };
    match dice.below(30) {
        0 => body["metadata"]["resourceVersion"] = "{stale}".into(),
        1 => body["metadata"]["resourceVersion"] = "{version}".into(),
        2 => body["metadata"]["uid"] = "11111111-1111-4111-8111-111111111111".into(),
        3 => body["metadata"]["name"] = "other".into(),
        4 => body[kind.part()] = "text".into(),
        5 => body["kind"] = "Unheard".into(),
        6 => body = json!([1]),
        7 => body = json!({}),
        _ => {}
    }
    body
}

/// A strategic merge patch of lists.
fn lists(dice: &mut Dice, kind: &Kind) -> Value {
    let containers = match dice.below(9) {
        0 => json!([{ "name": "main", "image": "img:3" }]),
        1 => json!([{ "name": "new", "image": "img:1" }]),
        2 => json!([{ "name": "side", "$patch": "delete" }]),
        3 => json!([{ "$patch": "replace" }, { "name": "main", "image": "img:4" }]),
        4 => json!([{ "name": "main", "env": [{ "name": "A", "value": "9" }] }]),
        5 => json!([{ "name": "main", "env": [{ "name": "A", "$patch": "delete" }] }]),
        6 => json!([{ "name": "main", "env": null, "resources": { "$patch": "replace" } }]),
        7 => json!([{ "image": "img:5" }]),
        _ => json!([{ "name": "main", "ports": [{ "containerPort": 80, "name": "p80" }] }]),
    };
    match (kind.plural, kind.custom) {
        ("pods", _) if dice.chance(70) => json!({ "spec": { "containers": [
            { "name": "main", "image": dice.pick(&["img:3", "img:4"]) },
        ] } }),
        ("deployments", _) if dice.chance(20) => json!({ "spec": { "template": { "spec": {
            "$setElementOrder/containers": [{ "name": "side" }, { "name": "main" }],
            "containers": [{ "name": "main", "image": "img:6" }, { "name": "side", "image": "x" }],
        } } } }),
        ("deployments", _) if dice.chance(20) => json!({ "spec": { "strategy": {
            "$retainKeys": ["type"], "type": "Recreate",
        } } }),
        ("deployments", _) => json!({ "spec": { "template": { "spec": {
            "containers": containers,
        } } } }),
        ("services", false) => json!({ "spec": { "ports": dice.pick(&[
            json!([{ "port": 80, "name": "p80", "targetPort": 9000 }]),
            json!([{ "port": 90, "$patch": "delete" }]),
            json!([{ "port": 91, "name": "p91" }]),
            json!([{ "$patch": "replace" }, { "port": 92 }]),
        ]) } }),
        ("configmaps" | "secrets", _) => dice.pick(&[
            json!({ "data": { "k1": null, "k2": "aGk=" } }),
            json!({ "data": { "$patch": "delete" } }),
        ]),
        _ => dice.pick(&[
            json!({ "metadata": { "finalizers": ["example.com/other"] } }),
            json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["example.com/hold"] } }),
            json!({ "$patch": "delete" }),
        ]),
    }
}

/// A server-side apply.
pub(crate) fn apply(dice: &mut Dice, kind: &'static Kind, name: &str) -> Operation {
    let mut body = kind.object(dice, name);
    match dice.below(40) {
        0 => body["unheard"] = 1.into(),
        1 => body["metadata"]["resourceVersion"] = "{stale}".into(),
        2 => body["metadata"]["uid"] = "11111111-1111-4111-8111-111111111111".into(),
        3 => body["metadata"]["managedFields"] = json!([{ "manager": "x" }]),
        4 => {
            body.as_object_mut().unwrap().remove("kind");
        }
        5 => body["metadata"]["name"] = "other".into(),
        // A custom object with such a label is written anew by the next change of nothing.
        6 if !kind.custom => body["metadata"]["labels"] = json!({ "app": null }),
        7 => body[kind.part()] = "text".into(),
        8 => body["metadata"]["labels"] = json!({ "app": 1 }),
        9 => body["apiVersion"] = "v0".into(),
        10 => body["status"] = (kind.status)(dice),
        // Of the others the real server wants more than their schema does.
        11..15 if kind.custom || matches!(kind.plural, "configmaps" | "secrets" | "leases") => {
            body.as_object_mut().unwrap().remove(kind.part());
        }
        _ => {}
    }
    let mut operation = patch(kind, name, APPLY, body);
    if !dice.chance(3) {
        operation = operation.with("fieldManager", dice.pick(&["one", "two"]));
    }
    if dice.chance(35) {
        operation = operation.with("force", "true");
    }
    if kind.has_status && dice.chance(8) {
        let body = json!({
            "apiVersion": kind.api_version, "kind": kind.kind, "metadata": { "name": name },
            "status": (kind.status)(dice),
        });
        operation = operation.below("/status").sending(body);
    }
    operation
}

/// A patch of the status.
pub(crate) fn status(dice: &mut Dice, kind: &'static Kind, name: &str) -> Operation {
    let form = dice.pick(&[MERGE, MERGE, JSON, STRATEGIC]);
    let status = (kind.status)(dice);
    let mut body = json!({ "status": status });
    if dice.chance(30) {
        body["metadata"] = metadata(dice);
        body[kind.part()] = (kind.rest)(dice)[kind.part()].clone();
    }
    if form == JSON {
        let step = json!({ "op": "add", "path": "/status", "value": status });
        body = dice.pick(&[
            json!([step]),
            json!([{ "op": "remove", "path": "/status" }]),
            json!([step, { "op": "add", "path": "/metadata/labels", "value": { "app": "b" } }]),
        ]);
    }
    patch(kind, name, form, body).below("/status")
}

/// A patch of the scale.
pub(crate) fn scale(dice: &mut Dice, kind: &'static Kind, name: &str) -> Operation {
    let replicas = dice.pick(&[json!(1), json!(4), json!(-1), Value::Null]);
    match dice.below(4) {
        0 => {
            let body = json!([{ "op": "replace", "path": "/spec/replicas", "value": replicas }]);
            patch(kind, name, JSON, body).below("/scale")
        }
        1 => {
            let body = json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": name },
                "spec": { "replicas": replicas },
            });
            let operation = patch(kind, name, APPLY, body).below("/scale");
            operation.with("fieldManager", dice.pick(&["one", "scaler"]))
        }
        form => {
            let form = if form == 2 { MERGE } else { STRATEGIC };
            patch(kind, name, form, json!({ "spec": { "replicas": replicas } })).below("/scale")
        }
    }
}
