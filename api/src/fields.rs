//! The fields of a pod that a Revision may have: validation refuses all others, and the CRD's
//! schema is made of these.
//!
//! Sources: knative/serving pkg/apis/serving/fieldmask.go, and its CRDs for the forms.

use crate::config::Feature;

/// The fields that may be set in an object, or in each item of a list of objects.
pub(crate) struct FieldMask {
    /// Fields that may always be set.
    pub(crate) allowed: &'static [&'static str],
    /// Fields that may be set where their feature is allowed, with their form in the schema.
    pub(crate) gated: &'static [(&'static str, Feature, Form)],
    /// Allowed fields whose own fields are checked too.
    pub(crate) inner: &'static [(&'static str, &'static Self)],
}

/// Form in the schema of a field behind a feature flag. Where Knative's CRD keeps such a field
/// whole and undescribed, so does Ebb's.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// As Kubernetes describes it.
    Described,
    /// An object of any fields.
    Object,
    /// A list of such objects.
    Objects,
    /// A text.
    Text,
    /// Texts by name.
    Texts,
    /// True or false.
    Flag,
}

const fn leaf(allowed: &'static [&'static str]) -> FieldMask {
    FieldMask { allowed, gated: &[], inner: &[] }
}

pub(crate) static POD: FieldMask = FieldMask {
    allowed: &[
        "containers",
        "enableServiceLinks",
        "imagePullSecrets",
        "serviceAccountName",
        "volumes",
    ],
    gated: &[
        ("affinity", Feature::Affinity, Form::Object),
        ("dnsConfig", Feature::DnsConfig, Form::Object),
        ("dnsPolicy", Feature::DnsPolicy, Form::Text),
        ("hostAliases", Feature::HostAliases, Form::Objects),
        ("hostIPC", Feature::HostIpc, Form::Flag),
        ("hostNetwork", Feature::HostNetwork, Form::Flag),
        ("hostPID", Feature::HostPid, Form::Flag),
        ("initContainers", Feature::InitContainers, Form::Objects),
        ("nodeSelector", Feature::NodeSelector, Form::Texts),
        ("priorityClassName", Feature::PriorityClassName, Form::Text),
        ("runtimeClassName", Feature::RuntimeClassName, Form::Text),
        ("schedulerName", Feature::SchedulerName, Form::Text),
        ("securityContext", Feature::SecurityContext, Form::Object),
        ("shareProcessNamespace", Feature::ShareProcessNamespace, Form::Flag),
        ("tolerations", Feature::Tolerations, Form::Objects),
        ("topologySpreadConstraints", Feature::TopologySpreadConstraints, Form::Objects),
    ],
    inner: &[
        ("containers", &CONTAINER),
        ("initContainers", &CONTAINER),
        ("securityContext", &POD_SECURITY),
        ("volumes", &VOLUME),
    ],
};

static POD_SECURITY: FieldMask = leaf(&[
    "fsGroup",
    "fsGroupChangePolicy",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seccompProfile",
    "supplementalGroups",
]);

pub(crate) static CONTAINER: FieldMask = FieldMask {
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

static ENV: FieldMask = FieldMask {
    allowed: &["name", "value", "valueFrom"],
    gated: &[],
    inner: &[("valueFrom", &ENV_SOURCE)],
};

static ENV_SOURCE: FieldMask = FieldMask {
    allowed: &["configMapKeyRef", "secretKeyRef"],
    gated: &[
        ("fieldRef", Feature::FieldRef, Form::Described),
        ("resourceFieldRef", Feature::FieldRef, Form::Described),
    ],
    inner: &[],
};

pub(crate) static PROBE: FieldMask = leaf(&[
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

pub(crate) static PORT: FieldMask = leaf(&["containerPort", "name", "protocol"]);

static RESOURCES: FieldMask = leaf(&["limits", "requests"]);

static SECURITY: FieldMask = FieldMask {
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

static CAPABILITIES: FieldMask = FieldMask {
    allowed: &["drop"],
    gated: &[("add", Feature::AddCapabilities, Form::Described)],
    inner: &[],
};

static MOUNT: FieldMask = FieldMask {
    allowed: &["mountPath", "name", "readOnly", "subPath"],
    gated: &[("mountPropagation", Feature::MountPropagation, Form::Described)],
    inner: &[],
};

pub(crate) static VOLUME: FieldMask = FieldMask {
    allowed: &["configMap", "name", "projected", "secret"],
    gated: &[
        ("csi", Feature::VolumesCsi, Form::Object),
        ("emptyDir", Feature::EmptyDir, Form::Object),
        ("ephemeral", Feature::VolumesEphemeral, Form::Object),
        ("hostPath", Feature::HostPath, Form::Object),
        ("image", Feature::VolumesImage, Form::Object),
        ("persistentVolumeClaim", Feature::PersistentVolumeClaim, Form::Object),
    ],
    inner: &[],
};
