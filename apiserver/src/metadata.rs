//! The fields of an object's metadata that the server writes, and those that only it may write.

mod validation;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::failure::{Cause, RequestFailure, Subject};
use crate::resources::ResourceType;
pub(crate) use validation::{finalizer_warnings, key_problems, problems, value_problems};

/// Longest name: a DNS subdomain.
const NAME_BYTES_MAX: usize = 253;
/// Longest name of a kind whose name is a DNS label.
const LABEL_BYTES_MAX: usize = 63;
const SUBDOMAIN_FORM: &str = "a lowercase RFC 1123 subdomain must consist of lower case \
    alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character \
    (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_FORM: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
    characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
    '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
/// Characters of a generated name's end; Kubernetes' own, without vowels and look-alikes.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_CHARS: usize = 5;
/// Longest prefix of a generated name: so that the whole still fits a DNS label.
const PREFIX_BYTES_MAX: usize = LABEL_BYTES_MAX - SUFFIX_CHARS;

/// Fields of metadata that only the server sets: an update keeps their old values.
const OWNED_BY_SERVER: [&str; 7] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "name",
    "namespace",
    "uid",
];

/// The object's metadata; made empty if there are none.
pub(crate) fn of(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    let metadata = &mut value["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut().expect("it was made an object above")
}

/// A time as Kubernetes writes it: whole seconds, UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Makes `value` a new object: identity, time and first generation.
pub(crate) fn begin(value: &mut Value, resource: &ResourceType, now: Timestamp) {
    let metadata = of(value);
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(key);
    }
    metadata.insert("uid".into(), Value::from(uid()));
    metadata.insert("creationTimestamp".into(), Value::from(time(now)));
    metadata.remove("resourceVersion");
    if resource.generation {
        metadata.insert("generation".into(), Value::from(1));
    } else {
        metadata.remove("generation");
    }
    if let ("", "namespaces") = (resource.group.as_str(), resource.plural.as_str()) {
        begin_namespace(value);
    }
}

/// A namespace's own bookkeeping: its contents are deleted before it is.
fn begin_namespace(value: &mut Value) {
    let name = value["metadata"]["name"].clone();
    let metadata = of(value);
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("kubernetes.io/metadata.name".into(), name);
    }
    value["spec"] = json!({ "finalizers": ["kubernetes"] });
    value["status"] = json!({ "phase": "Active" });
}

/// Makes `value` a new version of `old`: keeps the fields that only the server sets.
pub(crate) fn carry(old: &Value, value: &mut Value) {
    let metadata = of(value);
    for key in OWNED_BY_SERVER {
        match old["metadata"].get(key) {
            Some(kept) => metadata.insert(key.into(), kept.clone()),
            None => metadata.remove(key),
        };
    }
    metadata.insert("resourceVersion".into(), old["metadata"]["resourceVersion"].clone());
    metadata.remove("selfLink");
    value["apiVersion"] = old["apiVersion"].clone();
    value["kind"] = old["kind"].clone();
}

/// Bumps the generation when something outside metadata and status differs. The annotations of a
/// Deployment count too, because its controller hands them on.
pub(crate) fn count_change(old: &Value, value: &mut Value) {
    let generation = old["metadata"]["generation"].as_u64().unwrap_or(0);
    let is_annotated_alike = old["metadata"]["annotations"] == value["metadata"]["annotations"];
    let is_same = same_but(old, value, &["metadata", "status"])
        && (is_annotated_alike || value["kind"] != "Deployment");
    of(value).insert("generation".into(), Value::from(generation + u64::from(!is_same)));
}

/// Whether storing `new` over `old` would change nothing that matters. The resource version does
/// not count, nor do the times in managedFields alone, as in Kubernetes: an apply loop writes
/// nothing.
pub(crate) fn unchanged(old: &Value, new: &Value) -> bool {
    let (was, is) = (&old["metadata"], &new["metadata"]);
    let entries = |metadata: &Value| metadata["managedFields"].as_array().cloned();
    let (was_managed, is_managed) =
        (entries(was).unwrap_or_default(), entries(is).unwrap_or_default());
    same_but(old, new, &["metadata"])
        && same_but(was, is, &["managedFields", "resourceVersion"])
        && was_managed.len() == is_managed.len()
        && was_managed.iter().zip(&is_managed).all(|(was, is)| same_but(was, is, &["time"]))
}

/// Whether two objects are equal but for some keys; an absent key is as good as null.
fn same_but(left: &Value, right: &Value, except: &[&str]) -> bool {
    let (Some(left), Some(right)) = (left.as_object(), right.as_object()) else {
        return left == right;
    };
    let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
    let absent = Value::Null;
    keys.filter(|key| !except.contains(&key.as_str()))
        .all(|key| left.get(key).unwrap_or(&absent) == right.get(key).unwrap_or(&absent))
}

/// Finds the name of a new object: its own, or one generated from `generateName`.
pub(crate) fn name(value: &mut Value, resource: &ResourceType) -> Result<String, RequestFailure> {
    let metadata = of(value);
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let (name, prefix) = (text("name").to_owned(), text("generateName").to_owned());
    let subject = |name: &str| Subject::new(&resource.group, &resource.kind, name);
    if name.is_empty() && prefix.is_empty() {
        let cause = cause("FieldValueRequired", "Required value: name or generateName is required");
        return Err(RequestFailure::invalid(subject(""), vec![cause]));
    }
    let name = if name.is_empty() { generated(&prefix) } else { name };
    // Their names become names of hosts.
    let is_label =
        resource.group.is_empty() && matches!(resource.plural.as_str(), "namespaces" | "services");
    let form = if is_label { LABEL_FORM } else { SUBDOMAIN_FORM };
    if !is_subdomain(&name) || (is_label && (name.contains('.') || name.len() > LABEL_BYTES_MAX)) {
        let message = format!("Invalid value: \"{name}\": {form}");
        let cause = cause("FieldValueInvalid", &message);
        return Err(RequestFailure::invalid(subject(&name), vec![cause]));
    }
    metadata.insert("name".into(), Value::from(name.as_str()));
    Ok(name)
}

fn cause(reason: &str, message: &str) -> Cause {
    Cause { reason: reason.into(), message: message.into(), field: "metadata.name".into() }
}

fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(label)
}

fn generated(prefix: &str) -> String {
    let cut = prefix.floor_char_boundary(PREFIX_BYTES_MAX);
    let suffix = (0..SUFFIX_CHARS).map(|_| {
        let index = rand::random_range(0..SUFFIX_ALPHABET.len());
        char::from(SUFFIX_ALPHABET[index])
    });
    prefix[..cut].chars().chain(suffix).collect()
}

/// A random UUID, version 4.
fn uid() -> String {
    let mut bits = rand::random::<u128>();
    bits = (bits & !(0xF << 76)) | (0x4 << 76);
    bits = (bits & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_a_random_uuid_of_version_four() {
        let one = uid();
        assert_eq!(one.len(), 36);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(matches!(one.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{one}");
        assert_ne!(one, uid());
    }

    #[test]
    fn names_are_subdomains() {
        for good in ["a", "web-1", "a.b-c.d"] {
            assert!(is_subdomain(good), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a..b", "a_b", &"a".repeat(254)] {
            assert!(!is_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn a_service_has_the_name_of_a_host() {
        let served = crate::resources::tests::served();
        let taken = |kind: &str, custom: bool, own: &str| {
            let mut found = served.iter();
            let resource = found.find(|one| one.kind == kind && one.custom == custom).unwrap();
            name(&mut json!({ "metadata": { "name": own } }), resource).is_ok()
        };
        assert!(taken("Service", false, "a-1") && !taken("Service", false, "a.b"));
        assert!(!taken("Service", false, &"a".repeat(64)) && !taken("Service", false, "A"));
        assert!(taken("ConfigMap", false, "a.b") && taken("Service", true, "a.b"));
    }

    #[test]
    fn a_change_of_a_spec_is_counted_and_so_are_annotations_of_a_deployment() {
        let object = |kind: &str, note: &str, spec: &str| {
            json!({
                "kind": kind, "spec": spec,
                "metadata": { "generation": 1, "annotations": { "note": note } },
            })
        };
        let counted = |kind: &str, note: &str, spec: &str| {
            let mut new = object(kind, note, spec);
            count_change(&object(kind, "a", "a"), &mut new);
            new["metadata"]["generation"].clone()
        };
        assert_eq!(counted("Pod", "a", "b"), 2);
        assert_eq!(counted("Pod", "b", "a"), 1);
        assert_eq!(counted("Deployment", "b", "a"), 2);
        assert_eq!(counted("Deployment", "a", "a"), 1);
    }

    #[test]
    fn only_a_new_time_of_managed_fields_changes_nothing() {
        let object = |time: &str, revision: &str, replicas: u32| {
            json!({
                "metadata": {
                    "resourceVersion": revision,
                    "managedFields": [{ "manager": "m", "time": time }],
                },
                "spec": { "replicas": replicas },
            })
        };
        assert!(unchanged(&object("1", "1", 1), &object("2", "2", 1)));
        assert!(!unchanged(&object("1", "1", 1), &object("1", "1", 2)));
    }
}
