//! Which fields of a pod may be set at all.
//!
//! The tree of [`FieldMask`]s is laid over the JSON of the typed pod. A field that is not named is
//! refused, so that a field that Kubernetes adds stays refused until somebody has thought about it.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

use crate::config::FeaturesConfig;
use crate::field_error::FieldErrors;
use crate::fields::{FieldMask, POD};

/// The fields of a pod that are set and must not be.
pub(super) fn validate(pod: &PodSpec, features: &FeaturesConfig) -> FieldErrors {
    // A pod that was read from JSON can be written as JSON: its maps have text for keys.
    let pod = serde_json::to_value(pod).unwrap_or_default();
    POD.check(&pod, features)
}

impl FieldMask {
    fn check(&self, value: &Value, features: &FeaturesConfig) -> FieldErrors {
        let mut errors = FieldErrors::default();
        for (field, value) in value.as_object().into_iter().flatten() {
            let name = field.as_str();
            if !is_set(value) {
                continue;
            }
            if !self.allows(name, features) {
                errors.add(FieldErrors::disallowed(&[name]));
                continue;
            }
            let Some((_, shape)) = self.inner.iter().find(|(inner, _)| *inner == name) else {
                continue;
            };
            if let Value::Array(items) = value {
                for (index, item) in items.iter().enumerate() {
                    errors.add(shape.check(item, features).via_index(index).via_field(name));
                }
            } else {
                errors.add(shape.check(value, features).via_field(name));
            }
        }
        errors
    }

    fn allows(&self, field: &str, features: &FeaturesConfig) -> bool {
        self.allowed.contains(&field)
            || self
                .gated
                .iter()
                .any(|(gated, feature, _)| *gated == field && features.allows(*feature))
    }
}

/// Whether a field says more than its absence would. `false` does not, so `privileged` and
/// `automountServiceAccountToken` may be written as `false`, but not set.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Object(_) => true,
    }
}
