//! From JSON to a typed object and back, with errors that name the field.

use ebb_api::field_error::clip;
use k8s_openapi::api::core::v1::PodSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Most items of a list. The longest that makes sense, an environment, is far below; a typed
/// container takes 2 KiB, so that this many take 20 MiB.
const LIST_ITEMS_MAX: usize = 10_000;
/// Most values in an object, however nested: bounds what it takes once it is typed.
const VALUES_MAX: usize = 100_000;

/// The typed object, or a sentence that says where it could not be read. `which` is `new` or
/// `old`.
pub(super) fn object<K: DeserializeOwned>(value: &Value, which: &str) -> Result<K, String> {
    check_size(value)
        .and_then(|()| read::<K>(value))
        .map_err(|problem| format!("cannot decode incoming {which} object: {problem}"))
}

/// The JSON of a typed object.
pub(super) fn encode<K: Serialize>(object: &K) -> Result<Value, String> {
    serde_json::to_value(object).map_err(|error| format!("cannot encode the object: {error}"))
}

fn read<K: DeserializeOwned>(value: &Value) -> Result<K, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let (path, problem) =
            inside_spec(value, &path).unwrap_or_else(|| (path, error.inner().to_string()));
        match path.as_str() {
            // The whole object is of the wrong shape.
            "." => clip(&problem).into_owned(),
            path => format!("{path}: {}", clip(&problem)),
        }
    })
}

/// A pod is flattened into a Revision's spec, and serde forgets the path in what is flattened:
/// the spec is read again on its own.
fn inside_spec(value: &Value, path: &str) -> Option<(String, String)> {
    let pointer = format!("/{}", path.replace('.', "/"));
    let spec = value.pointer(&pointer)?;
    if !path.ends_with("spec") || !spec.is_object() {
        return None;
    }
    let error = serde_path_to_error::deserialize::<_, PodSpec>(spec).err()?;
    Some((format!("{path}.{}", error.path()), error.inner().to_string()))
}

/// Whether the object is small enough to become typed. Walks without recursion.
fn check_size(object: &Value) -> Result<(), String> {
    let mut waiting = vec![object];
    let mut values = 0_usize;
    while let Some(value) = waiting.pop() {
        let room = VALUES_MAX.saturating_sub(values);
        let items = match value {
            Value::Array(items) if items.len() > LIST_ITEMS_MAX => {
                return Err(format!(
                    "a list has {} items, more than {LIST_ITEMS_MAX}",
                    items.len()
                ));
            }
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => continue,
        };
        if items > room {
            return Err(format!("the object holds more than {VALUES_MAX} values"));
        }
        values += items;
        match value {
            Value::Array(items) => waiting.extend(items),
            Value::Object(fields) => waiting.extend(fields.values()),
            _ => {}
        }
    }
    Ok(())
}
