//! Facts from the status of a Kubernetes pod, in one place because several parts decide by them.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::names;
use crate::standby::ASLEEP;

mod amounts;
mod shortage;
mod trouble;
mod watched;

pub use amounts::{Amounts, MEMORY, is_extended};
pub use shortage::{Shortage, WAITING_FOR_ROOM, insufficient, shortages};
pub use trouble::{Trouble, ended_before, trouble};
pub use watched::WatchedPod;

/// Status of a pod's condition that holds: text, unlike in the conditions of Ebb's own kinds.
const TRUE: &str = "True";

/// Whether Kubernetes reports the pod as ready. A pod that is being deleted may still be reported
/// so; the caller decides whether that counts.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == TRUE)
}

/// Whether every container of the pod has ended for good. Such a pod is no replica, though its
/// object may linger.
#[must_use]
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Where the model of a revision's pod listens, once the pod has an address.
#[must_use]
pub fn address(pod: &Pod) -> Option<SocketAddr> {
    let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
    let containers = &pod.spec.as_ref()?.containers;
    let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some(names::USER_PORT_NAME))?;
    Some(SocketAddr::new(ip, u16::try_from(port.container_port).ok()?))
}

/// Whether its model was told to sleep, and not yet woken.
#[must_use]
pub fn is_asleep(pod: &Pod) -> bool {
    ASLEEP.get(pod.metadata.annotations.as_ref()).is_some()
}

/// When that was, if the mark says so.
#[must_use]
pub fn asleep_since(pod: &Pod) -> Option<Timestamp> {
    ASLEEP.get(pod.metadata.annotations.as_ref())?.parse().ok()
}

/// The condition of that type, if Kubernetes has set it.
#[must_use]
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"status": status})).unwrap()
    }

    #[test]
    fn a_pod_is_ready_only_when_its_condition_says_true() {
        let with = |type_: &str, status: &str| {
            is_ready(&pod(&json!({"conditions": [{"type": type_, "status": status}]})))
        };
        assert!(with("Ready", "True"));
        assert!(!with("Ready", "False") && !with("Ready", "Unknown"));
        assert!(!with("ContainersReady", "True"), "another condition");
        assert!(!is_ready(&Pod::default()));
    }

    #[test]
    fn a_pod_has_ended_in_its_last_two_phases() {
        let ended = |phase: &str| has_ended(&pod(&json!({"phase": phase})));
        assert!(ended("Failed") && ended("Succeeded"));
        assert!(!ended("Pending") && !ended("Running") && !ended("Unknown"));
        assert!(!has_ended(&Pod::default()));
    }
}
