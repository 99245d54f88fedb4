//! Kubernetes' own objects, read by way of a JSON value.
//!
//! The code with which serde reads a pod is built anew in each crate that reads pods, once for each
//! form in which the JSON comes, and is a large part of such a crate. Crates that read pods by way
//! of a [`Value`] share the code that is built here. The cost is a second pass over each object.

use std::borrow::Cow;
use std::ops::Deref;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_core::Resource;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object that is read by way of a JSON value, for a watch. Dereferences to the object.
#[derive(Debug, Clone)]
pub struct ByValue<K>(pub K);

/// A type whose code for reading is built in this crate.
pub trait ReadFromValue: Sized {
    /// Reads the object.
    ///
    /// # Errors
    ///
    /// A field has another type.
    fn read(value: Value) -> Result<Self, serde_json::Error>;
}

impl ReadFromValue for Pod {
    fn read(value: Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(value)
    }
}

impl ReadFromValue for PodSpec {
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

// === impl ByValue ===

impl<'de, K: ReadFromValue> Deserialize<'de> for ByValue<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer).map(Self)
    }
}

impl<K> Deref for ByValue<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0
    }
}

impl<K: Resource> Resource for ByValue<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &K::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &K::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use kube_core::ResourceExt as _;
    use serde_json::json;

    use super::*;
    use crate::serving::RevisionSpec;

    #[test]
    fn a_pod_read_by_value_is_the_pod_itself() {
        let json = json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
            "unknown": 1,
        });
        let direct: Pod = serde_json::from_str(&json.to_string()).unwrap();
        let read: ByValue<Pod> = serde_json::from_str(&json.to_string()).unwrap();
        assert_eq!((read.name_any().as_str(), &read.0), ("a", &direct));
    }

    #[test]
    fn a_field_of_another_type_is_an_error_that_names_both() {
        let spec = json!({"containers": [{"name": 7}], "timeoutSeconds": 1});
        let error = serde_json::from_str::<RevisionSpec>(&spec.to_string()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("invalid type: integer `7`, expected a string"), "{text}");
    }
}
