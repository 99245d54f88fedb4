//! Metadata that the server refuses, in the words of the real one
//! (`k8s.io/apimachinery/pkg/api/validation/objectmeta.go`).

use std::collections::HashSet;

use serde_json::Value;

use crate::failure::Cause;

/// Longest value of a label, and longest name of a key after its prefix.
const PART_BYTES_MAX: usize = 63;
/// Most bytes of all annotations of an object.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
/// Most problems that are named.
const PROBLEMS_MAX: usize = 64;

const KEY_FORM: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
    and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used \
    for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_FORM: &str = "a valid label must be an empty string or consist of alphanumeric \
    characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
    'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// The problems of a new version of an object; `old` is the one before. Not all kinds may have
/// `plain` finalizers, without a domain.
pub(crate) fn problems(old: Option<&Value>, value: &Value, plain: bool) -> Vec<Cause> {
    let metadata = &value["metadata"];
    let mut causes = Vec::new();
    for (key, label) in metadata["labels"].as_object().into_iter().flatten() {
        let found = key_problems(key).into_iter();
        causes.extend(found.map(|message| invalid("labels", key, &message)));
        let label = label.as_str().unwrap_or_default();
        let found = value_problems(label).into_iter();
        causes.extend(found.map(|message| invalid("labels", label, &message)));
    }
    annotations(metadata, &mut causes);
    owners(metadata, &mut causes);
    finalizers(metadata, plain, &mut causes);
    if let Some(old) = old.filter(|old| old["metadata"]["deletionTimestamp"].is_string()) {
        causes.extend(new_finalizers(&old["metadata"], metadata));
    }
    causes.truncate(PROBLEMS_MAX);
    causes
}

/// What is wrong with the key of a label or an annotation.
pub(crate) fn key_problems(key: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut parts = key.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                found.push("prefix part must be non-empty".to_owned());
            } else if !super::is_subdomain(prefix) {
                found.push(format!("prefix part {}", super::SUBDOMAIN_FORM));
            }
            name
        }
        _ => {
            let rest = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {KEY_FORM} {rest}")];
        }
    };
    if name.is_empty() {
        found.push("name part must be non-empty".to_owned());
    } else if name.len() > PART_BYTES_MAX {
        found.push(format!("name part must be no more than {PART_BYTES_MAX} bytes"));
    }
    if !is_word(name) || name.is_empty() {
        found.push(format!("name part {KEY_FORM}"));
    }
    found
}

/// What is wrong with the value of a label.
pub(crate) fn value_problems(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    if value.len() > PART_BYTES_MAX {
        found.push(format!("must be no more than {PART_BYTES_MAX} bytes"));
    }
    if !is_word(value) {
        found.push(VALUE_FORM.to_owned());
    }
    found
}

fn annotations(metadata: &Value, causes: &mut Vec<Cause>) {
    let mut bytes = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        // Unlike a label's, the prefix of a key may have capitals.
        let found = key_problems(&key.to_lowercase()).into_iter();
        causes.extend(found.map(|message| invalid("annotations", key, &message)));
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        let message = format!("Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes");
        causes.push(cause("FieldValueTooLong", "annotations", &message));
    }
}

fn owners(metadata: &Value, causes: &mut Vec<Cause>) {
    let mut controller: Option<String> = None;
    for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
        let text = |key: &str| owner[key].as_str().unwrap_or_default();
        for key in ["apiVersion", "kind", "name", "uid"] {
            if text(key).is_empty() {
                let empty = if key == "apiVersion" {
                    "version must not be empty"
                } else {
                    "must not be empty"
                };
                causes.push(invalid(&format!("ownerReferences.{key}"), "", empty));
            }
        }
        if owner["controller"] != true {
            continue;
        }
        let name = format!("{}/{}", text("kind"), text("name"));
        match &controller {
            Some(first) => {
                let message = format!(
                    "Invalid value: {}: Only one reference can have Controller set to true. Found \
                     \"true\" in references for {first} and {name}",
                    metadata["ownerReferences"]
                );
                causes.push(cause("FieldValueInvalid", "ownerReferences", &message));
            }
            None => controller = Some(name),
        }
    }
}

fn finalizers(metadata: &Value, may_be_plain: bool, causes: &mut Vec<Cause>) {
    let names = texts(metadata);
    for name in &names {
        let found = key_problems(name).into_iter();
        causes.extend(found.map(|message| invalid("finalizers", name, &message)));
    }
    if STANDARD_FINALIZERS[1..].iter().all(|standard| names.contains(standard)) {
        let message = format!(
            "Invalid value: {}: finalizer orphan and foregroundDeletion cannot be both set",
            metadata["finalizers"]
        );
        causes.push(cause("FieldValueInvalid", "finalizers", &message));
    }
    for (index, name) in names.iter().enumerate().filter(|(_, name)| is_plain(name)) {
        if may_be_plain {
            continue;
        }
        let what = "name is neither a standard finalizer name nor is it fully qualified";
        causes.push(invalid(&format!("finalizers[{index}]"), name, what));
    }
}

/// Warnings about finalizers that a new version adds: another program may mean the same name.
pub(crate) fn finalizer_warnings(old: Option<&Value>, value: &Value) -> Vec<String> {
    let before = old.map_or_else(Vec::new, |old| texts(&old["metadata"]));
    let names = texts(&value["metadata"]).into_iter();
    let added = names.filter(|name| is_plain(name) && !before.contains(name));
    added
        .map(|name| {
            format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name to avoid \
                 accidental conflicts with other finalizer writers"
            )
        })
        .collect()
}

fn is_plain(finalizer: &str) -> bool {
    !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer)
}

fn new_finalizers(old: &Value, new: &Value) -> Option<Cause> {
    let before: HashSet<&str> = texts(old).into_iter().collect();
    let mut added: Vec<&str> = texts(new).into_iter().filter(|own| !before.contains(own)).collect();
    if added.is_empty() {
        return None;
    }
    added.sort_unstable();
    added.dedup();
    let added: Vec<String> = added.iter().map(|name| format!("{name:?}")).collect();
    let message = format!(
        "Forbidden: no new finalizers can be added if the object is being deleted, found new \
         finalizers []string{{{}}}",
        added.join(", ")
    );
    Some(cause("FieldValueForbidden", "finalizers", &message))
}

fn texts(metadata: &Value) -> Vec<&str> {
    let finalizers = metadata["finalizers"].as_array().into_iter().flatten();
    finalizers.filter_map(Value::as_str).collect()
}

/// Whether a text is empty or of letters, digits and inner `-`, `_` and `.`.
fn is_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().last())
}

fn invalid(field: &str, value: &str, message: &str) -> Cause {
    cause("FieldValueInvalid", field, &format!("Invalid value: {value:?}: {message}"))
}

fn cause(reason: &str, field: &str, message: &str) -> Cause {
    Cause { reason: reason.into(), message: message.into(), field: format!("metadata.{field}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(old: Option<&Value>, metadata: &Value) -> Vec<String> {
        let value = json!({ "metadata": metadata });
        problems(old, &value, false).into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn metadata_that_clients_may_have_is_taken() {
        let good = json!({
            "labels": { "app": "a", "example.com/tier": "", "x": "a_b.c-d" },
            "annotations": { "Example.com/note": "any text at all" },
            "finalizers": ["foregroundDeletion", "example.com/hold"],
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u" }],
        });
        assert_eq!(fields(None, &good), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_part_is_named() {
        let bad = json!({
            "labels": { "a b": "x", "app": "not a value" },
            "annotations": { "/x": "" },
            "finalizers": ["plain"],
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "", "uid": "u" }],
        });
        let expected = [
            "metadata.labels",
            "metadata.labels",
            "metadata.annotations",
            "metadata.ownerReferences.name",
            "metadata.finalizers[0]",
        ];
        assert_eq!(fields(None, &bad), expected);
        let plain = json!({ "metadata": { "finalizers": ["plain"] } });
        assert!(problems(None, &plain, true).is_empty(), "a custom kind may have it");
        assert_eq!(finalizer_warnings(None, &plain).len(), 1);
        assert!(finalizer_warnings(Some(&plain), &plain).is_empty());
        let long = json!({ "annotations": { "a": "x".repeat(ANNOTATIONS_BYTES_MAX) } });
        assert_eq!(fields(None, &long), ["metadata.annotations"]);
    }

    #[test]
    fn an_object_has_one_controller() {
        let owner = json!({
            "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true,
        });
        let two = json!({ "ownerReferences": [owner, owner] });
        assert_eq!(fields(None, &two), ["metadata.ownerReferences"]);
    }

    #[test]
    fn an_object_that_is_being_deleted_gets_no_finalizer() {
        let old = json!({ "metadata": {
            "deletionTimestamp": "1970-01-01T00:00:00Z", "finalizers": ["example.com/a"],
        } });
        let more = json!({ "finalizers": ["example.com/a", "example.com/b"] });
        assert_eq!(fields(Some(&old), &more), ["metadata.finalizers"]);
        assert_eq!(fields(Some(&old), &json!({})), Vec::<String>::new());
        assert_eq!(fields(None, &more), Vec::<String>::new());
    }
}
