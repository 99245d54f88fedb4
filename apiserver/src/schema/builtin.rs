//! Facts that k8s-openapi's types lack: how lists merge, which objects are atomic, and the defaults
//! that the real server fills in.
//!
//! The facts are those of Kubernetes' OpenAPI document (`x-kubernetes-list-map-keys`,
//! `x-kubernetes-patch-merge-key`, `x-kubernetes-map-type`) and of `pkg/apis/*/v1/defaults.go`, for
//! the kinds that are served here. Types are known by the last part of their name.

use serde_json::{Value, json};

use super::shape::{Fields, Shape};

pub(super) const API_VERSION: &str = "APIVersion defines the versioned schema of this \
    representation of an object. Servers should convert recognized schemas to the latest internal \
    value, and may reject unrecognized values. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
pub(super) const KIND: &str = "Kind is a string value representing the REST resource this object \
    represents. Servers may infer this from the endpoint the client submits requests to. Cannot \
    be updated. In CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
pub(super) const METADATA: &str = "Standard object's metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// Lists that merge item by item, and the fields that tell items apart. Strategic merge patch goes
/// by the first field alone.
const MAPS: &[(&str, &str, &[&str])] = &[
    ("Container", "env", &["name"]),
    ("Container", "ports", &["containerPort", "protocol"]),
    ("Container", "volumeDevices", &["devicePath"]),
    ("Container", "volumeMounts", &["mountPath"]),
    ("DeploymentStatus", "conditions", &["type"]),
    ("EphemeralContainer", "env", &["name"]),
    ("EphemeralContainer", "ports", &["containerPort", "protocol"]),
    ("EphemeralContainer", "volumeDevices", &["devicePath"]),
    ("EphemeralContainer", "volumeMounts", &["mountPath"]),
    ("NamespaceStatus", "conditions", &["type"]),
    ("ObjectMeta", "ownerReferences", &["uid"]),
    ("PodSpec", "containers", &["name"]),
    ("PodSpec", "ephemeralContainers", &["name"]),
    ("PodSpec", "hostAliases", &["ip"]),
    ("PodSpec", "imagePullSecrets", &["name"]),
    ("PodSpec", "initContainers", &["name"]),
    ("PodSpec", "resourceClaims", &["name"]),
    ("PodSpec", "schedulingGates", &["name"]),
    ("PodSpec", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("PodSpec", "volumes", &["name"]),
    ("PodStatus", "conditions", &["type"]),
    ("PodStatus", "podIPs", &["ip"]),
    ("PodStatus", "resourceClaimStatuses", &["name"]),
    ("ResourceRequirements", "claims", &["name"]),
    ("ServiceAccount", "secrets", &["name"]),
    ("ServiceSpec", "ports", &["port", "protocol"]),
    ("ServiceStatus", "conditions", &["type"]),
];

/// Lists that merge by value.
const SETS: &[(&str, &str)] = &[("ObjectMeta", "finalizers")];

/// Objects that are replaced as a whole.
const ATOMIC: &[&str] = &[
    "ConfigMapKeySelector",
    "FieldsV1",
    "FileKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "OwnerReference",
    "ResourceFieldSelector",
    "SecretKeySelector",
    "SecretReference",
    "TypedLocalObjectReference",
];

/// Maps that are replaced as a whole.
const ATOMIC_MAPS: &[(&str, &str)] = &[("PodSpec", "nodeSelector"), ("ServiceSpec", "selector")];

/// The shape of a type whose schema says too little; `None` for every other type.
pub(super) fn whole_shape(type_name: &str) -> Option<Shape> {
    match last_part(type_name) {
        "Quantity" => Some(Shape::Quantity),
        "JSON"
        | "JSONSchemaPropsOrArray"
        | "JSONSchemaPropsOrBool"
        | "JSONSchemaPropsOrStringArray" => Some(Shape::Any),
        // The type contains itself, and definitions are only read here, never written.
        "JSONSchemaProps" => {
            Some(Shape::Object(Fields { known: Box::default(), open: true, atomic: true }))
        }
        _ => None,
    }
}

/// Whether objects of the type are replaced as a whole.
pub(super) fn is_atomic(type_name: &str) -> bool {
    ATOMIC.contains(&last_part(type_name))
}

/// Whether field `name` may be left out although the type requires it: the server itself fills in
/// metadata, and does not check a status for missing fields.
pub(super) fn is_optional(parent: &str, name: &str) -> bool {
    name == "metadata" || last_part(parent).ends_with("Status")
}

/// The schema of field `name` of the type `parent`, completed by the facts above; `None` if there
/// are none about it.
pub(super) fn adapted(parent: &str, name: &str, schema: &Value) -> Option<Value> {
    let parent = last_part(parent);
    let mut more = Vec::new();
    if let Some((.., keys)) = MAPS.iter().find(|(p, n, _)| (*p, *n) == (parent, name)) {
        more.push(("x-kubernetes-list-type", json!("map")));
        more.push(("x-kubernetes-list-map-keys", json!(keys)));
    }
    if SETS.contains(&(parent, name)) {
        more.push(("x-kubernetes-list-type", json!("set")));
    }
    if ATOMIC_MAPS.contains(&(parent, name)) {
        more.push(("x-kubernetes-map-type", json!("atomic")));
    }
    if let Some(default) = default(parent, name) {
        more.push(("default", default));
    }
    let mut adapted = None;
    for (keyword, value) in more {
        adapted.get_or_insert_with(|| schema.clone())[keyword] = value;
    }
    adapted
}

/// The default of a field. Only defaults that do not depend on other fields are here.
fn default(parent: &str, name: &str) -> Option<Value> {
    let value = match (parent, name) {
        ("Container" | "EphemeralContainer", "terminationMessagePath") => {
            json!("/dev/termination-log")
        }
        ("Container" | "EphemeralContainer", "terminationMessagePolicy") => json!("File"),
        ("ContainerPort" | "ServicePort", "protocol") => json!("TCP"),
        ("DeploymentSpec", "replicas") | ("Probe", "successThreshold" | "timeoutSeconds") => {
            json!(1)
        }
        ("DeploymentSpec", "revisionHistoryLimit") | ("Probe", "periodSeconds") => json!(10),
        ("DeploymentSpec", "progressDeadlineSeconds") => json!(600),
        ("HTTPGetAction", "scheme") => json!("HTTP"),
        ("HTTPGetAction", "path") => json!("/"),
        ("ObjectFieldSelector", "apiVersion") => json!("v1"),
        ("PodSpec", "dnsPolicy") => json!("ClusterFirst"),
        ("PodSpec", "restartPolicy") => json!("Always"),
        ("PodSpec", "schedulerName") => json!("default-scheduler"),
        ("PodSpec", "terminationGracePeriodSeconds") => json!(30),
        ("Probe", "failureThreshold") => json!(3),
        ("Secret", "type") => json!("Opaque"),
        (
            "SecretVolumeSource"
            | "ConfigMapVolumeSource"
            | "ProjectedVolumeSource"
            | "DownwardAPIVolumeSource",
            "defaultMode",
        ) => json!(0o644),
        ("ServiceSpec", "sessionAffinity") => json!("None"),
        ("ServiceSpec", "type") => json!("ClusterIP"),
        _ => return None,
    };
    Some(value)
}

fn last_part(type_name: &str) -> &str {
    type_name.rsplit('.').next().unwrap_or(type_name)
}
