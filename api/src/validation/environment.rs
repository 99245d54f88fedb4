//! Environment variables of a container.

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar};

use super::place::Place;
use crate::field_error::FieldErrors;

/// Variables that the platform sets (runtime contract of Knative).
const RESERVED: &[&str] = &["K_CONFIGURATION", "K_REVISION", "K_SERVICE"];
/// Set by the platform in the container that gets the requests only.
const PORT: &str = "PORT";

/// What is wrong with the environment of a container.
pub(super) fn validate(container: &Container, place: Place) -> FieldErrors {
    let mut errors = FieldErrors::default();
    for (index, variable) in container.env.iter().flatten().enumerate() {
        errors.add(validate_variable(variable, place).via_field_index("env", index));
    }
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        errors.add(validate_source(source).via_field_index("envFrom", index));
    }
    errors
}

fn validate_variable(variable: &EnvVar, place: Place) -> FieldErrors {
    let name = variable.name.as_str();
    let serves = matches!(place, Place::Only | Place::Serving);
    if name.is_empty() {
        FieldErrors::missing(&["name"])
    } else if RESERVED.contains(&name) || (name == PORT && serves) {
        FieldErrors::generic(format!("{name:?} is a reserved environment variable"), &["name"])
    } else {
        FieldErrors::default()
    }
}

fn validate_source(source: &EnvFromSource) -> FieldErrors {
    let EnvFromSource { config_map_ref, prefix: _, secret_ref } = source;
    match (config_map_ref, secret_ref) {
        (Some(_), Some(_)) => FieldErrors::multiple_one_of(&["configMapRef", "secretRef"]),
        (None, None) => FieldErrors::missing_one_of(&["configMapRef", "secretRef"]),
        (Some(_), None) | (None, Some(_)) => FieldErrors::default(),
    }
}
