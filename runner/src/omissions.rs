//! What a manifest asks for and a program of this machine does not get, so that a person can be told.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Serialize;
use serde_json::Value;

/// Most fields that are named for one pod: a person reads no more, and manifests are not trusted.
const FIELDS_MAX: usize = 16;

/// Fields of a pod that do here what they do on a cluster, or that have nothing to do: Knative sets
/// `enableServiceLinks` itself.
const POD: [&str; 6] = [
    "containers",
    "initContainers",
    "volumes",
    "terminationGracePeriodSeconds",
    "restartPolicy",
    "enableServiceLinks",
];

/// The same of a container. No image is pulled, and its requests and limits are looked at one by one.
const CONTAINER: [&str; 15] = [
    "name",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "workingDir",
    "env",
    "envFrom",
    "ports",
    "resources",
    "volumeMounts",
    "readinessProbe",
    "livenessProbe",
    "startupProbe",
    "lifecycle",
];

/// The fields of `spec` that are left out, as paths (`containers[0].securityContext`), and how many
/// more there are than are named. `is_limited` says whether limits of memory and processor time are kept.
pub fn left_out(spec: &PodSpec, is_limited: bool) -> (Vec<String>, usize) {
    let mut fields = others(spec, &POD, "");
    let containers = [("initContainers", spec.init_containers.as_deref().unwrap_or_default())];
    for (field, containers) in
        containers.into_iter().chain([("containers", spec.containers.as_slice())])
    {
        for (index, container) in containers.iter().enumerate() {
            let path = format!("{field}[{index}].");
            fields.extend(others(container, &CONTAINER, &path));
            fields.extend(
                resources(container, is_limited).map(|field| format!("{path}resources.{field}")),
            );
        }
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        if volume.empty_dir.as_ref().is_some_and(|empty| empty.size_limit.is_some()) {
            fields.push(format!("volumes[{index}].emptyDir.sizeLimit"));
        }
    }
    let more = fields.len().saturating_sub(FIELDS_MAX);
    fields.truncate(FIELDS_MAX);
    (fields, more)
}

/// What a container asks for and does not get. Devices, which have a domain in their names, are given out
/// by their number, and requests of memory count as room.
fn resources(container: &Container, is_limited: bool) -> impl Iterator<Item = String> {
    let asked = container.resources.clone().unwrap_or_default();
    let names = |of: Option<BTreeMap<String, Quantity>>| of.unwrap_or_default().into_keys();
    let requests = names(asked.requests).filter(|name| name != "memory");
    let requests = requests.map(|name| format!("requests.{name}"));
    let is_kept = move |name: &String| is_limited && matches!(name.as_str(), "cpu" | "memory");
    let limits = names(asked.limits).filter(move |name| !is_kept(name)).map(|name| match &*name {
        "memory" => "limits.memory (but as the room that is asked for)".to_owned(),
        _ => format!("limits.{name}"),
    });
    requests.chain(limits).filter(|field| !field.contains('/'))
}

/// The fields of an object that are set and not `known`.
fn others(object: &impl Serialize, known: &[&str], path: &str) -> Vec<String> {
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    let fields = serde_json::to_value(object).ok();
    let fields = fields.and_then(|fields| fields.as_object().cloned()).unwrap_or_default();
    let left =
        fields.iter().filter(|(name, value)| !known.contains(&name.as_str()) && is_set(value));
    left.map(|(name, _)| format!("{path}{name}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(spec: &Value) -> (Vec<String>, usize) {
        let spec = serde_json::from_value(spec.clone()).expect("a pod");
        left_out(&spec, false)
    }

    #[test]
    fn only_what_has_no_effect_is_named() {
        let spec = json!({
            "enableServiceLinks": false,
            "nodeSelector": {"gpu": "a100"},
            "tolerations": [],
            "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
                "securityContext": {"runAsNonRoot": true},
                "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "1", "memory": "1Gi"},
                    "requests": {"cpu": "1", "memory": "1Gi"}}}],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
        });
        let named = [
            "nodeSelector",
            "containers[0].securityContext",
            "containers[0].resources.requests.cpu",
            "containers[0].resources.limits.cpu",
            "containers[0].resources.limits.memory (but as the room that is asked for)",
            "volumes[0].emptyDir.sizeLimit",
        ];
        assert_eq!(fields(&spec), (named.map(str::to_owned).to_vec(), 0));
        let kept = named.iter().filter(|field| !field.contains("resources.limits"));
        let kept: Vec<_> = kept.map(|field| (*field).to_owned()).collect();
        let spec = serde_json::from_value(spec).expect("a pod");
        assert_eq!(left_out(&spec, true), (kept, 0));
    }

    #[test]
    fn a_long_list_ends_with_a_number() {
        let container = json!({"name": "c", "tty": true});
        let (named, more) = fields(&json!({"containers": vec![container; 20]}));
        assert_eq!((named.len(), more), (16, 4));
    }
}
