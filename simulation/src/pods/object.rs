//! The objects of pods: what a kubelet reads in them and writes to them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::labels;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::identity::Identity;

/// The status of a pod's process, which is ready, or is not, from now on.
pub(super) fn status(address: IpAddr, restarts: i32, state: &Value, is_ready: bool) -> Value {
    let word = if is_ready { "True" } else { "False" };
    // The API's times are whole seconds.
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    json!({
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": word, "lastTransitionTime": now.to_string()},
        ],
        "containerStatuses": [{
            "name": "user-container", "image": "simulated", "imageID": "", "ready": is_ready,
            "restartCount": restarts, "state": state,
        }],
    })
}

/// What the pod is; `None` if it belongs to no revision.
pub(super) fn identity(pod: &Pod) -> Option<Identity> {
    let label = |key: &str| pod.labels().get(key).map(|value| Arc::from(value.as_str()));
    Some(Identity {
        name: pod.name_any().into(),
        uid: pod.uid()?.into(),
        namespace: pod.namespace()?,
        // The same name, where there is a Service; without one there are a Route and this.
        service: label(labels::CONFIGURATION)?,
        revision_uid: label(labels::REVISION_UID)?,
    })
}

/// How long kubelet waits from a pod's deletion to SIGTERM.
pub(super) fn pre_stop(pod: &Pod) -> Duration {
    let sleep = pod.spec.as_ref().and_then(|spec| {
        let hook = spec.containers.first()?.lifecycle.as_ref()?.pre_stop.as_ref()?;
        hook.sleep.as_ref().map(|sleep| sleep.seconds)
    });
    Duration::from_secs(sleep.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0))
}
