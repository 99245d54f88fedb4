//! What a pod holds of the resources that there is room for or not: memory, and devices such as GPUs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::is_asleep;
use crate::quantity;

/// Kubernetes' name of memory.
pub const MEMORY: &str = "memory";
/// Most resources of one pod that are looked at: no node has as many kinds of devices.
const RESOURCES_MAX: usize = 16;

/// Amounts by resource: bytes of memory, numbers of devices. CPU is left out: pods that share it grow
/// slow, and none is refused by a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts(pub BTreeMap<String, u64>);

/// Whether a resource is one that a cluster's owner added, such as `nvidia.com/gpu`. Kubernetes' own
/// names have no domain but its own (k8s.io/kubernetes/pkg/apis/core/v1/helper, `IsExtendedResourceName`).
#[must_use]
pub fn is_extended(resource: &str) -> bool {
    resource.split_once('/').is_some_and(|(domain, _)| domain != "kubernetes.io")
}

type Resources = BTreeMap<String, Quantity>;

// === impl Amounts ===

impl Amounts {
    /// What a pod asks for, as the scheduler counts it: the containers together, or the largest of the
    /// init containers if that is more, and the overhead. Limits count where there are no requests.
    #[must_use]
    pub fn requested(pod: &Pod) -> Self {
        let Some(spec) = pod.spec.as_ref() else { return Self::default() };
        let mut sum = Self::default();
        spec.containers.iter().for_each(|container| sum.add(&Self::of_container(container)));
        for container in spec.init_containers.iter().flatten() {
            let own = Self::of_container(container);
            // A sidecar stays.
            match container.restart_policy.as_deref() {
                Some("Always") => sum.add(&own),
                _ => sum.raise(&own),
            }
        }
        sum.add(&Self::of_list(spec.overhead.iter().flatten()));
        sum
    }

    /// What a pod holds: what it asks for, or what the node says that it has given, where that is more.
    /// One that sleeps holds the memory that the node says it has: kubelet says there what it has set
    /// aside, and local mode what the processes have.
    #[must_use]
    pub fn held(pod: &Pod) -> Self {
        let mut held = Self::requested(pod);
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let mut given = Self::default();
        for status in statuses.into_iter().flatten() {
            given.add(&Self::of_list(status.allocated_resources.iter().flatten()));
        }
        if is_asleep(pod) && given.0.contains_key(MEMORY) {
            held.0.remove(MEMORY);
        }
        held.raise(&given);
        held
    }

    /// Whether the node has said what it has given.
    #[must_use]
    pub fn is_given(pod: &Pod) -> bool {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        statuses.into_iter().flatten().any(|status| status.allocated_resources.is_some())
    }

    /// How much of a resource.
    #[must_use]
    pub fn of(&self, resource: &str) -> u64 {
        self.0.get(resource).copied().unwrap_or(0)
    }

    /// Adds what another pod holds.
    pub fn add(&mut self, other: &Self) {
        for (resource, amount) in &other.0 {
            let sum = self.0.entry(resource.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Each amount at least that of the other.
    pub fn raise(&mut self, other: &Self) {
        for (resource, amount) in &other.0 {
            let most = self.0.entry(resource.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }

    fn of_container(container: &Container) -> Self {
        let Some(ResourceRequirements { requests, limits, .. }) = &container.resources else {
            return Self::default();
        };
        let empty = Resources::new();
        let (requests, limits) = (requests.as_ref(), limits.as_ref());
        let unasked = limits.unwrap_or(&empty).iter().filter(|(resource, _)| {
            !requests.is_some_and(|requests| requests.contains_key(*resource))
        });
        Self::of_list(requests.unwrap_or(&empty).iter().chain(unasked))
    }

    fn of_list<'a>(list: impl Iterator<Item = (&'a String, &'a Quantity)>) -> Self {
        let known = list.filter(|(resource, _)| *resource == MEMORY || is_extended(resource));
        let amounts = known.filter_map(|(resource, Quantity(text))| {
            let amount = quantity::whole(text).filter(|amount| *amount > 0)?;
            Some((resource.clone(), amount))
        });
        Self(amounts.take(RESOURCES_MAX).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_holds_what_its_containers_ask_for_or_were_given() {
        let mut pod: Pod = serde_json::from_value(json!({
            "spec": {
                "initContainers": [
                    {"name": "fetch", "resources": {"requests": {"memory": "3Gi"}}},
                    {"name": "log", "restartPolicy": "Always", "resources": {"requests": {"memory": "1Mi"}}},
                ],
                "containers": [
                    {"name": "a", "resources": {
                        "requests": {"memory": "1Gi", "cpu": "7"},
                        "limits": {"memory": "2Gi", "nvidia.com/gpu": "2"},
                    }},
                    {"name": "b", "resources": {"limits": {"memory": "1Gi", "hugepages-2Mi": "4Mi"}}},
                    {"name": "c"},
                ],
                "overhead": {"memory": "1Ki"},
            },
        }))
        .unwrap();
        let requested = Amounts::requested(&pod);
        // The init container that fetches ends before the sidecar counts on top of it: at least 3 Gi.
        assert_eq!(requested.of(MEMORY), (3 << 30) + (1 << 20) + (1 << 10));
        assert_eq!(requested.of("nvidia.com/gpu"), 2);
        assert_eq!(requested.0.len(), 2, "{requested:?}");
        assert_eq!(Amounts::held(&pod), requested);
        pod.status = serde_json::from_value(json!({"containerStatuses": [
            {"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
             "allocatedResources": {"memory": "5Gi"}},
            {"name": "b", "image": "", "imageID": "", "ready": true, "restartCount": 0,
             "allocatedResources": {"memory": "1Gi", "cpu": "1"}},
        ]}))
        .unwrap();
        assert_eq!(Amounts::held(&pod).of(MEMORY), 6 << 30);
        assert_eq!(Amounts::held(&pod).of("nvidia.com/gpu"), 2);
        assert_eq!(Amounts::requested(&Pod::default()), Amounts::default());
    }

    #[test]
    fn a_pod_that_sleeps_holds_the_memory_that_it_has_and_its_devices() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"annotations": {"serving.ebb.dev/asleep": "2026-11-27T19:00:00Z"}},
            "spec": {"containers": [{"name": "a", "resources": {
                "limits": {"memory": "2Gi", "nvidia.com/gpu": "1"},
            }}]},
        }))
        .unwrap();
        assert_eq!(Amounts::held(&pod).of(MEMORY), 2 << 30, "nobody says what it has");
        pod.status = serde_json::from_value(json!({"containerStatuses": [
            {"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
             "allocatedResources": {"memory": "64Mi"}},
        ]}))
        .unwrap();
        assert_eq!(Amounts::held(&pod).of(MEMORY), 64 << 20);
        assert_eq!(Amounts::held(&pod).of("nvidia.com/gpu"), 1);
        pod.metadata.annotations = None;
        assert_eq!(Amounts::held(&pod).of(MEMORY), 2 << 30);
    }

    #[test]
    fn extended_resources_have_a_domain_of_their_own() {
        assert!(is_extended("nvidia.com/gpu") && is_extended("example.com/slot"));
        assert!(!is_extended("memory") && !is_extended("cpu") && !is_extended("kubernetes.io/x"));
    }
}
