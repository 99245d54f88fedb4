//! A sound Service, and the places and values of edits to it.

use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};

/// Most edits from one version to the next: more would leave nothing sound.
pub(super) const EDITS_MAX: usize = 6;

/// Places in a Service, as JSON pointers without the leading slash.
const METADATA: &[&str] = &[
    "metadata/name",
    "metadata/generateName",
    "metadata/labels/networking.knative.dev~1visibility",
    "metadata/annotations/serving.knative.dev~1rolloutDuration",
    "metadata/annotations/serving.knative.dev~1rollout-duration",
    "metadata/annotations/serving.knative.dev~1creator",
    "metadata/annotations/serving.knative.dev~1lastModifier",
    "spec/traffic",
    "spec/traffic/0/tag",
    "spec/traffic/0/percent",
    "spec/traffic/0/revisionName",
    "spec/traffic/0/configurationName",
    "spec/traffic/0/latestRevision",
    "spec/traffic/0/url",
    "spec/traffic/1/tag",
    "spec/traffic/1/percent",
    "spec/traffic/1/revisionName",
    "spec/template/metadata",
    "spec/template/metadata/name",
    "spec/template/metadata/generateName",
];

/// Annotations of a template.
const ANNOTATIONS: &[&str] = &[
    "autoscaling.knative.dev/class",
    "autoscaling.knative.dev/metric",
    "autoscaling.knative.dev/target",
    "autoscaling.knative.dev/target-utilization-percentage",
    "autoscaling.knative.dev/min-scale",
    "autoscaling.knative.dev/max-scale",
    "autoscaling.knative.dev/maxScale",
    "autoscaling.knative.dev/initial-scale",
    "autoscaling.knative.dev/activation-scale",
    "autoscaling.knative.dev/window",
    "autoscaling.knative.dev/scale-down-delay",
    "autoscaling.knative.dev/scale-to-zero-pod-retention-period",
    "autoscaling.knative.dev/panic-window-percentage",
    "autoscaling.knative.dev/panic-threshold-percentage",
    "autoscaling.knative.dev/target-burst-capacity",
    "serving.knative.dev/progress-deadline",
    "queue.sidecar.serving.knative.dev/cpu-resource-limit",
    "queue.sidecar.serving.knative.dev/resource-percentage",
    "networking.knative.dev/http-protocol",
    "networking.knative.dev~1unknown",
];

/// Places in the spec of a template.
const SPEC: &[&str] = &[
    "containerConcurrency",
    "timeoutSeconds",
    "responseStartTimeoutSeconds",
    "idleTimeoutSeconds",
    "enableServiceLinks",
    "serviceAccountName",
    "imagePullSecrets",
    "initContainers/0",
    "initContainers/0/name",
    "initContainers/0/image",
    "initContainers/0/restartPolicy",
    "containers",
    "containers/1",
    "hostNetwork",
    "securityContext/runAsUser",
    "securityContext/runAsNonRoot",
    "volumes",
    "volumes/0/name",
    "volumes/0/secret",
    "volumes/0/emptyDir",
    "volumes/0/hostPath/path",
    "volumes/0/persistentVolumeClaim/claimName",
    "volumes/1/name",
    "volumes/1/configMap/name",
    "volumes/1/projected/sources/0/secret/name",
    "volumes/1/projected/sources/0/serviceAccountToken/path",
];

/// Places in a container.
const CONTAINER: &[&str] = &[
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "ports",
    "ports/0/name",
    "ports/0/containerPort",
    "ports/0/protocol",
    "ports/0/hostPort",
    "ports/1/containerPort",
    "env/0/name",
    "env/0/value",
    "env/0/valueFrom/fieldRef/fieldPath",
    "env/0/valueFrom/secretKeyRef/name",
    "env/0/valueFrom/secretKeyRef/key",
    "envFrom/0/configMapRef/name",
    "envFrom/0/prefix",
    "resources/limits/cpu",
    "resources/limits/memory",
    "resources/requests/cpu",
    "resources/requests/memory",
    "resources/requests/nvidia.com~1gpu",
    "readinessProbe",
    "readinessProbe/httpGet/path",
    "readinessProbe/httpGet/port",
    "readinessProbe/tcpSocket/port",
    "readinessProbe/grpc/port",
    "readinessProbe/exec/command",
    "readinessProbe/periodSeconds",
    "readinessProbe/timeoutSeconds",
    "readinessProbe/successThreshold",
    "readinessProbe/failureThreshold",
    "livenessProbe/httpGet/port",
    "livenessProbe/periodSeconds",
    "startupProbe/tcpSocket/port",
    "lifecycle/preStop/exec/command",
    "securityContext/capabilities/add",
    "securityContext/privileged",
    "securityContext/runAsUser",
    "securityContext/readOnlyRootFilesystem",
    "volumeMounts",
    "volumeMounts/0/name",
    "volumeMounts/0/mountPath",
    "volumeMounts/0/subPath",
    "volumeMounts/0/mountPropagation",
    "volumeMounts/1/name",
    "volumeMounts/1/mountPath",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "stdin",
];

const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "digits",
    "digits-v1",
    "digits-00001",
    "user-container",
    "user-container-0",
    "http1",
    "h2c",
    "TCP",
    "UDP",
    "0",
    "1",
    "-1",
    "2",
    "0.5",
    "1e3",
    "100",
    "101",
    "NaN",
    "inf",
    "1e400",
    "100m",
    "1Gi",
    "6s",
    "5s",
    "1h",
    "1h1s",
    "0s",
    "1.5s",
    "9223372036854775807",
    "concurrency",
    "rps",
    "cpu",
    "kpa.autoscaling.knative.dev",
    "hpa.autoscaling.knative.dev",
    "cluster-local",
    "/",
    "/data",
    "/dev",
    "../x",
    "a..b",
    "a/b:c@d",
    "busybox",
    "ghcr.io/x/y:z",
    "é",
    "A",
    "K_SERVICE",
    "PORT",
    "Always",
    "metadata.name",
    "status.hostIP",
    "None",
    "a-",
    "x\u{0}y",
];

const NUMBERS: &[i64] = &[
    0,
    1,
    -1,
    2,
    3,
    99,
    100,
    101,
    300,
    600,
    601,
    1000,
    1001,
    8080,
    8012,
    8013,
    9090,
    65_535,
    65_536,
    2_147_483_647,
    i64::MAX,
    i64::MIN,
];

/// A Service that every check passes.
pub(super) fn sound() -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "digits", "namespace": "models", "annotations": {}, "labels": {}},
        "spec": {"template": {
            "metadata": {"annotations": {"autoscaling.knative.dev/target": "10"}},
            "spec": {"containers": [{
                "image": "ghcr.io/x/digits:v1",
                "ports": [{"containerPort": 8080}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }], "volumes": [{"name": "data", "emptyDir": {}}]},
        }},
    })
}

/// Replaces one field by a value that is mostly of its type.
pub(super) fn edit(choices: &mut Unstructured<'_>, service: &mut Value) -> Result<()> {
    let path = match choices.int_in_range(0..=4)? {
        0 => (*choices.choose(METADATA)?).to_owned(),
        1 => {
            let key = choices.choose(ANNOTATIONS)?.replace('/', "~1");
            format!("spec/template/metadata/annotations/{key}")
        }
        2 => format!("spec/template/spec/{}", choices.choose(SPEC)?),
        3 => format!("spec/template/spec/containers/0/{}", choices.choose(CONTAINER)?),
        _ => format!("spec/template/spec/containers/1/{}", choices.choose(CONTAINER)?),
    };
    put(service, &path, value(choices)?);
    Ok(())
}

fn value(choices: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match choices.int_in_range(0..=9)? {
        0..=3 => json!(choices.choose(TEXTS)?),
        4..=6 => json!(choices.choose(NUMBERS)?),
        7 => json!(choices.ratio(1_u8, 2)?),
        8 => choices
            .choose(&[json!({}), json!([]), Value::Null, json!([{}]), json!([{}, {}])])?
            .clone(),
        _ => json!([choices.choose(TEXTS)?]),
    })
}

/// Puts `value` at `path`, making the objects and lists on the way.
fn put(place: &mut Value, path: &str, value: Value) {
    let Some((step, rest)) =
        path.split_once('/').or_else(|| (!path.is_empty()).then_some((path, "")))
    else {
        *place = value;
        return;
    };
    if let Ok(index) = step.parse::<usize>() {
        if !place.is_array() {
            *place = json!([]);
        }
        if let Value::Array(items) = place {
            items.resize(items.len().max(index + 1), json!({}));
            put(&mut items[index], rest, value);
        }
        return;
    }
    if !place.is_object() {
        *place = json!({});
    }
    put(&mut place[step.replace("~1", "/")], rest, value);
}
