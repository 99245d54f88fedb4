//! Whether a server-side apply would change anything.
//!
//! The API server fills in defaults, so an object is never equal to what was applied. What matters
//! is that every wanted field has the wanted value, and that no field which this manager applied
//! before has been dropped since. A difference reported in error costs an apply that changes
//! nothing; a missed one leaves the field in place for ever.

use ebb_api::quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use serde_json::{Map, Value};

/// Fields whose values are quantities: the server writes them in its own spelling.
const QUANTITIES: &[&str] = &["limits", "requests", "sizeLimit"];

/// Values that the API server adds inside of objects and lists that are owned as a whole (structs
/// and lists marked atomic in Kubernetes' `core/v1/types.go`, with their `defaults.go`).
const DEFAULTS: &[(&str, Filled)] = &[
    ("apiVersion", Filled::Text("v1")),
    ("divisor", Filled::Text("0")),
    ("expirationSeconds", Filled::Number(3600)),
];

/// A value that the API server fills in.
enum Filled {
    Text(&'static str),
    Number(u64),
}

/// Whether applying `desired` as `manager` would change `existing`.
pub(crate) fn differs(existing: &Value, desired: &Value, manager: &str) -> bool {
    !covers(existing, desired, false) || drops_owned(existing, desired, manager)
}

/// Whether `existing` has every value of `desired`. An empty value is the same as none.
fn covers(existing: &Value, desired: &Value, quantity: bool) -> bool {
    match (existing, desired) {
        (Value::Object(existing), Value::Object(desired)) => desired.iter().all(|(key, wanted)| {
            let quantity = quantity || QUANTITIES.contains(&key.as_str());
            existing
                .get(key)
                .map_or_else(|| is_empty(wanted), |found| covers(found, wanted, quantity))
        }),
        (Value::Array(existing), Value::Array(desired)) => {
            existing.len() == desired.len()
                && existing
                    .iter()
                    .zip(desired)
                    .all(|(existing, desired)| covers(existing, desired, quantity))
        }
        (Value::String(existing), Value::String(desired)) if quantity => {
            existing == desired || same_quantity(existing, desired)
        }
        (existing, desired) => existing == desired,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn same_quantity(one: &str, two: &str) -> bool {
    match (quantity::number(one), quantity::number(two)) {
        (Some(one), Some(two)) => (one - two).abs() <= one.abs() * 1e-9,
        _ => false,
    }
}

/// The part of an entry that [`differs`] needs for `manager`, as one line of text: as a tree of
/// maps it would be larger than the object. `None` for an entry that is not an apply of this
/// manager.
pub(crate) fn compact(mut entry: ManagedFieldsEntry, manager: &str) -> Option<ManagedFieldsEntry> {
    if entry.manager.as_deref() != Some(manager)
        || entry.operation.as_deref() != Some("Apply")
        || entry.subresource.is_some()
    {
        return None;
    }
    entry.fields_v1 =
        entry.fields_v1.map(|FieldsV1(fields)| FieldsV1(Value::String(fields.to_string())));
    Some(entry)
}

/// Whether `manager` once applied a field that `desired` no longer has.
fn drops_owned(existing: &Value, desired: &Value, manager: &str) -> bool {
    let entries = existing.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        entry.get("manager").and_then(Value::as_str) == Some(manager)
            && entry.get("operation").and_then(Value::as_str) == Some("Apply")
            && entry.get("subresource").is_none()
            && match entry.get("fieldsV1") {
                Some(Value::Object(fields)) => drops(existing, desired, fields),
                Some(Value::String(text)) => {
                    serde_json::from_str(text).is_ok_and(|fields| drops(existing, desired, &fields))
                }
                _ => false,
            }
    })
}

/// Whether a field of the set is missing from `desired`. An item of a list (`k:`) that is missing
/// there is not looked at, since [`covers`] compares the number and the order of the items.
fn drops(existing: &Value, desired: &Value, fields: &Map<String, Value>) -> bool {
    fields.iter().any(|(step, inner)| {
        let inner = inner.as_object().filter(|inner| !inner.is_empty());
        if let Some(name) = step.strip_prefix("f:") {
            return match (desired.get(name), inner) {
                (None, Some(inner)) => inner.keys().any(|key| key != "."),
                (None, None) => true,
                (Some(wanted), Some(inner)) => {
                    drops(existing.get(name).unwrap_or(&Value::Null), wanted, inner)
                }
                (Some(wanted), None) => {
                    existing.get(name).is_some_and(|found| exceeds(found, wanted))
                }
            };
        }
        let (Some(keys), Some(inner)) = (step.strip_prefix("k:"), inner) else { return false };
        let Ok(Value::Object(keys)) = serde_json::from_str(keys) else { return false };
        match (item(existing, &keys), item(desired, &keys)) {
            (Some(found), Some(wanted)) => drops(found, wanted, inner),
            _ => false,
        }
    })
}

/// The item of a list that these keys identify. A key that the server filled in is absent from the
/// applied item, and is not compared there.
fn item<'a>(list: &'a Value, keys: &Map<String, Value>) -> Option<&'a Value> {
    let is_meant = |item: &&Value| {
        keys.iter().all(|(key, wanted)| item.get(key).is_none_or(|found| found == wanted))
    };
    list.as_array()?.iter().find(is_meant)
}

/// Whether a value that is owned as a whole has a field that `desired` lacks and that the API
/// server does not fill in.
fn exceeds(existing: &Value, desired: &Value) -> bool {
    match (existing, desired) {
        (Value::Object(existing), Value::Object(desired)) => {
            existing.iter().any(|(key, found)| match desired.get(key) {
                Some(wanted) => exceeds(found, wanted),
                None => !is_empty(found) && !is_default(key, found),
            })
        }
        (Value::Array(existing), Value::Array(desired)) => {
            existing.iter().zip(desired).any(|(existing, desired)| exceeds(existing, desired))
        }
        _ => false,
    }
}

fn is_default(name: &str, value: &Value) -> bool {
    DEFAULTS.iter().any(|(field, default)| {
        *field == name
            && match default {
                Filled::Text(text) => value.as_str() == Some(text),
                Filled::Number(number) => value.as_u64() == Some(*number),
            }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn existing() -> Value {
        json!({
            "metadata": {
                "labels": {"a": "1", "foreign": "x"},
                "managedFields": [{
                    "manager": "me", "operation": "Apply",
                    "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:n": {}}},
                }],
            },
            "spec": {"n": 1, "defaulted": true, "limits": {"cpu": "1", "memory": "1Gi"}, "list": [{"a": 1, "b": 2}]},
        })
    }

    #[test]
    fn defaults_and_foreign_fields_are_no_difference() {
        let desired = json!({
            "metadata": {"labels": {"a": "1"}},
            "spec": {"n": 1, "list": [{"a": 1}], "empty": {}, "limits": {"cpu": "1000m", "memory": "1024Mi"}},
        });
        assert!(!differs(&existing(), &desired, "me"));
    }

    #[test]
    fn a_changed_added_or_dropped_field_is_a_difference() {
        let cases = [
            ("changed", json!({"metadata": {"labels": {"a": "2"}}, "spec": {"n": 1}})),
            ("added", json!({"metadata": {"labels": {"a": "1", "b": "1"}}, "spec": {"n": 1}})),
            ("dropped", json!({"metadata": {"labels": {}}, "spec": {"n": 1}})),
            ("dropped map", json!({"metadata": {}, "spec": {"n": 1}})),
            (
                "longer list",
                json!({"metadata": {"labels": {"a": "1"}}, "spec": {"n": 1, "list": [{"a": 1}, {}]}}),
            ),
            (
                "quantity",
                json!({"metadata": {"labels": {"a": "1"}}, "spec": {"n": 1, "limits": {"cpu": "2"}}}),
            ),
        ];
        for (name, desired) in cases {
            assert!(differs(&existing(), &desired, "me"), "{name}");
        }
    }

    #[test]
    fn a_compact_set_of_fields_finds_the_same_differences() {
        let entries = |own: Value| -> ManagedFieldsEntry { serde_json::from_value(own).unwrap() };
        let fields = json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {"f:n": {}, "f:list": {".": {}, "k:{\"a\":1}": {"f:a": {}}}, "f:map": {".": {}}},
        });
        let of = |manager: &str, operation: &str| {
            entries(json!({"manager": manager, "operation": operation, "fieldsV1": fields}))
        };
        assert_eq!(compact(of("me", "Update"), "me"), None);
        assert_eq!(compact(of("other", "Apply"), "me"), None);
        let mut status = of("me", "Apply");
        status.subresource = Some("status".to_owned());
        assert_eq!(compact(status, "me"), None);
        let kept = compact(of("me", "Apply"), "me").unwrap();
        assert!(matches!(&kept.fields_v1, Some(FieldsV1(Value::String(_)))));

        let (mut whole, mut small) = (existing(), existing());
        whole["metadata"]["managedFields"] = json!([of("me", "Apply")]);
        small["metadata"]["managedFields"] = json!([kept]);
        let full =
            json!({"metadata": {"labels": {"a": "1"}}, "spec": {"n": 1, "list": [{"a": 1}]}});
        let mut cases = vec![(full.clone(), false)];
        for (pointer, field) in
            [("/metadata", "labels"), ("/metadata/labels", "a"), ("/spec", "n"), ("/spec", "list")]
        {
            let mut dropped = full.clone();
            dropped.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(field);
            cases.push((dropped, true));
        }
        for (desired, expected) in cases {
            assert_eq!(differs(&whole, &desired, "me"), expected, "{desired}");
            assert_eq!(differs(&small, &desired, "me"), expected, "{desired}");
        }
    }

    #[test]
    fn what_another_manager_dropped_is_not_ours_to_remove() {
        let desired = json!({"metadata": {"labels": {"a": "1"}}});
        assert!(differs(&existing(), &desired, "me"));
        assert!(!differs(&existing(), &desired, "somebody"));
    }

    /// A container as the API server keeps it, with defaults filled in; the apply gave no protocol.
    fn container() -> Value {
        json!({
            "metadata": {"managedFields": [{
                "manager": "me", "operation": "Apply",
                "fieldsV1": {"f:spec": {"f:containers": {"k:{\"name\":\"model\"}": {
                    ".": {}, "f:name": {}, "f:args": {},
                    "f:resources": {"f:limits": {"f:cpu": {}}},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                        {".": {}, "f:containerPort": {}, "f:name": {}}},
                    "f:securityContext": {"f:capabilities": {"f:drop": {}}},
                    "f:env": {"k:{\"name\":\"HOST\"}":
                        {".": {}, "f:name": {}, "f:valueFrom": {"f:fieldRef": {}}}},
                }}}},
            }]},
            "spec": {"containers": [{
                "name": "model", "args": ["--fast"], "imagePullPolicy": "Always",
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}],
                "securityContext": {"capabilities": {"drop": ["ALL"]}},
                "env": [{"name": "HOST",
                    "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}}],
            }]},
        })
    }

    /// A field that a template no longer has must leave the Deployment.
    #[test]
    fn a_field_dropped_inside_an_item_of_a_list_is_a_difference() {
        let same = json!({"spec": {"containers": [{
            "name": "model", "args": ["--fast"],
            "resources": {"limits": {"cpu": "1000m"}},
            "ports": [{"containerPort": 80, "name": "http"}],
            "securityContext": {"capabilities": {"drop": ["ALL"]}},
            "env": [{"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        }]}});
        assert!(!differs(&container(), &same, "me"));
        for (parent, field) in [
            ("", "args"),
            ("", "resources"),
            ("/resources/limits", "cpu"),
            ("/ports/0", "name"),
            ("/securityContext", "capabilities"),
            ("/securityContext/capabilities", "drop"),
        ] {
            let mut dropped = same.clone();
            let parent = format!("/spec/containers/0{parent}");
            dropped.pointer_mut(&parent).unwrap().as_object_mut().unwrap().remove(field);
            assert!(differs(&container(), &dropped, "me"), "{parent}/{field}");
        }
    }

    /// No list of Knative's own kinds declares how it merges: each is owned as a whole.
    #[test]
    fn a_field_dropped_inside_a_list_owned_as_a_whole_is_a_difference() {
        let existing = json!({
            "metadata": {"managedFields": [{
                "manager": "me", "operation": "Apply", "fieldsV1": {"f:spec": {"f:traffic": {}}},
            }]},
            "spec": {"traffic": [{"percent": 100, "tag": "new", "url": ""}]},
        });
        let same = json!({"spec": {"traffic": [{"percent": 100, "tag": "new"}]}});
        assert!(!differs(&existing, &same, "me"));
        let untagged = json!({"spec": {"traffic": [{"percent": 100}]}});
        assert!(differs(&existing, &untagged, "me"));
        assert!(!differs(&existing, &untagged, "somebody"));
    }
}
