//! Kubernetes' own objects, read by way of a JSON value.
//!
//! The code with which serde reads a part of a pod is built anew in each crate that reads it, once
//! for each form in which the JSON comes, and is a large part of such a crate. Crates that read it
//! by way of a [`Value`] share the code that is built here. The cost is a second pass.

use k8s_openapi::api::core::v1::{PodSpec, PodStatus};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A type whose code for reading is built in this crate.
pub trait ReadFromValue: Sized {
    /// Reads the object.
    ///
    /// # Errors
    ///
    /// A field has another type.
    fn read(value: Value) -> Result<Self, serde_json::Error>;
}

impl ReadFromValue for PodSpec {
    fn read(value: Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(value)
    }
}

impl ReadFromValue for PodStatus {
    fn read(value: Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(value)
    }
}

/// Reads a field by way of a JSON value: for `#[serde(deserialize_with)]`.
///
/// # Errors
///
/// The JSON is malformed, or a field has another type.
pub fn read<'de, T: ReadFromValue, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::read(Value::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// As [`read`], for a field that may be `null`.
///
/// # Errors
///
/// The JSON is malformed, or a field has another type.
pub fn read_optional<'de, T: ReadFromValue, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = Option::<Value>::deserialize(deserializer)?;
    value.map(T::read).transpose().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::serving::RevisionSpec;

    #[test]
    fn a_field_of_another_type_is_an_error_that_names_both() {
        let spec = json!({"containers": [{"name": 7}], "timeoutSeconds": 1});
        let error = serde_json::from_str::<RevisionSpec>(&spec.to_string()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("invalid type: integer `7`, expected a string"), "{text}");
    }
}
