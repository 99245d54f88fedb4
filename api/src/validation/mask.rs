//! Which fields of a pod may be set at all.
//!
//! Source: knative/serving pkg/apis/serving/fieldmask.go. The rules are a tree of [`Shape`]s laid
//! over the JSON of the typed pod: what is not named is refused, so that a field that Kubernetes
//! adds is refused too until somebody has thought about it.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

use crate::config::{Feature, FeaturesConfig};
use crate::field_error::FieldErrors;

/// What may be set in an object, in each item where a field is a list.
struct Shape {
    /// Everybody may set these.
    allowed: &'static [&'static str],
    /// These may be set where the feature is allowed.
    gated: &'static [(&'static str, Feature)],
    /// Allowed fields that are looked into.
    inner: &'static [(&'static str, &'static Self)],
}

const fn leaf(allowed: &'static [&'static str]) -> Shape {
    Shape { allowed, gated: &[], inner: &[] }
}

static POD: Shape = Shape {
    allowed: &[
        "containers",
        "enableServiceLinks",
        "imagePullSecrets",
        "serviceAccountName",
        "volumes",
    ],
    gated: &[
        ("affinity", Feature::Affinity),
        ("dnsConfig", Feature::DnsConfig),
        ("dnsPolicy", Feature::DnsPolicy),
        ("hostAliases", Feature::HostAliases),
        ("hostIPC", Feature::HostIpc),
        ("hostNetwork", Feature::HostNetwork),
        ("hostPID", Feature::HostPid),
        ("initContainers", Feature::InitContainers),
        ("nodeSelector", Feature::NodeSelector),
        ("priorityClassName", Feature::PriorityClassName),
        ("runtimeClassName", Feature::RuntimeClassName),
        ("schedulerName", Feature::SchedulerName),
        ("securityContext", Feature::SecurityContext),
        ("shareProcessNamespace", Feature::ShareProcessNamespace),
        ("tolerations", Feature::Tolerations),
        ("topologySpreadConstraints", Feature::TopologySpreadConstraints),
    ],
    inner: &[
        ("containers", &CONTAINER),
        ("initContainers", &CONTAINER),
        ("securityContext", &POD_SECURITY),
        ("volumes", &VOLUME),
    ],
};

static POD_SECURITY: Shape = leaf(&[
    "fsGroup",
    "fsGroupChangePolicy",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seccompProfile",
    "supplementalGroups",
]);

static CONTAINER: Shape = Shape {
    allowed: &[
        "args",
        "command",
        "env",
        "envFrom",
        "image",
        "imagePullPolicy",
        "livenessProbe",
        "name",
        "ports",
        "readinessProbe",
        "resources",
        "securityContext",
        "startupProbe",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "volumeMounts",
        "workingDir",
    ],
    gated: &[],
    inner: &[
        ("env", &ENV),
        ("livenessProbe", &PROBE),
        ("ports", &PORT),
        ("readinessProbe", &PROBE),
        ("resources", &RESOURCES),
        ("securityContext", &SECURITY),
        ("startupProbe", &PROBE),
        ("volumeMounts", &MOUNT),
    ],
};

static ENV: Shape = Shape {
    allowed: &["name", "value", "valueFrom"],
    gated: &[],
    inner: &[("valueFrom", &ENV_SOURCE)],
};

static ENV_SOURCE: Shape = Shape {
    allowed: &["configMapKeyRef", "secretKeyRef"],
    gated: &[("fieldRef", Feature::FieldRef), ("resourceFieldRef", Feature::FieldRef)],
    inner: &[],
};

static PROBE: Shape = leaf(&[
    "exec",
    "failureThreshold",
    "grpc",
    "httpGet",
    "initialDelaySeconds",
    "periodSeconds",
    "successThreshold",
    "tcpSocket",
    "timeoutSeconds",
]);

static PORT: Shape = leaf(&["containerPort", "name", "protocol"]);

static RESOURCES: Shape = leaf(&["limits", "requests"]);

static SECURITY: Shape = Shape {
    allowed: &[
        "allowPrivilegeEscalation",
        "capabilities",
        "readOnlyRootFilesystem",
        "runAsGroup",
        "runAsNonRoot",
        "runAsUser",
        "seccompProfile",
    ],
    gated: &[],
    inner: &[("capabilities", &CAPABILITIES)],
};

static CAPABILITIES: Shape =
    Shape { allowed: &["drop"], gated: &[("add", Feature::AddCapabilities)], inner: &[] };

static MOUNT: Shape = Shape {
    allowed: &["mountPath", "name", "readOnly", "subPath"],
    gated: &[("mountPropagation", Feature::MountPropagation)],
    inner: &[],
};

static VOLUME: Shape = Shape {
    allowed: &["configMap", "name", "projected", "secret"],
    gated: &[
        ("csi", Feature::VolumesCsi),
        ("emptyDir", Feature::EmptyDir),
        ("ephemeral", Feature::VolumesEphemeral),
        ("hostPath", Feature::HostPath),
        ("image", Feature::VolumesImage),
        ("persistentVolumeClaim", Feature::PersistentVolumeClaim),
    ],
    inner: &[],
};

/// The fields of a pod that are set and must not be.
pub(super) fn validate(pod: &PodSpec, features: &FeaturesConfig) -> FieldErrors {
    // A pod that was read from JSON can be written as JSON: its maps have text for keys.
    let pod = serde_json::to_value(pod).unwrap_or_default();
    POD.check(&pod, features)
}

impl Shape {
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
                .any(|(gated, feature)| *gated == field && features.allows(*feature))
    }
}

/// Whether a field says more than its absence would. `false` does not: that is how
/// `privileged` and `automountServiceAccountToken` may be written, but not set.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Object(_) => true,
    }
}
