//! ConfigMaps of the platform: a setting that cannot be used is refused when it is written.

use std::collections::BTreeMap;

use ebb_api::config::{Config, SYSTEM_NAMESPACE};

use super::{Request, Verdict, written};

/// Whether the request is about a ConfigMap in the namespace of the platform.
pub(super) fn is_config_map(request: &Request<'_>) -> bool {
    (request.group, request.kind) == ("", "ConfigMap")
        && request.object.is_some_and(|object| object["metadata"]["namespace"] == SYSTEM_NAMESPACE)
}

/// Reads the ConfigMap as the platform would.
pub(super) fn validate(request: &Request<'_>, config: &Config) -> Verdict {
    let Some(object) = written(request) else {
        return Verdict::allowed();
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let data: BTreeMap<String, String> = object["data"]
        .as_object()
        .into_iter()
        .flatten()
        // Anything but text is refused by the schema of a ConfigMap.
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    match config.with_map(name, &data) {
        Ok(_) => Verdict::allowed(),
        Err(error) => Verdict::denied(format!("validation failed: {error}")),
    }
}
