//! Revision: one immutable version of code and configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};
use kube_core::ResourceExt as _;
use kube_derive::CustomResource;
use serde::{Deserialize, Serialize};

use crate::condition::{self, Condition, ConditionSet, Status};
use crate::{by_value, labels, names};

/// [`labels::ROUTING_STATE`] of a Revision that no Route has looked at yet.
pub const ROUTING_PENDING: &str = "pending";
/// [`labels::ROUTING_STATE`] of a Revision that gets requests from a Route.
pub const ROUTING_ACTIVE: &str = "active";
/// [`labels::ROUTING_STATE`] of a Revision that no Route refers to.
pub const ROUTING_RESERVE: &str = "reserve";

/// Revision is an immutable snapshot of code and configuration.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[cfg_attr(not(feature = "schema"), kube(schema = "disabled"))]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "serving.knative.dev",
    version = "v1",
    kind = "Revision",
    plural = "revisions",
    singular = "revision",
    shortname = "rev",
    category = "all",
    category = "knative",
    category = "serving",
    namespaced,
    status = "RevisionStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Revision is an immutable snapshot of code and configuration.",
    printcolumn = r#"{"name":"Config Name","type":"string","jsonPath":".metadata.labels['serving\\.knative\\.dev/configuration']"}"#,
    printcolumn = r#"{"name":"Generation","type":"string","jsonPath":".metadata.labels['serving\\.knative\\.dev/configurationGeneration']"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Actual Replicas","type":"integer","jsonPath":".status.actualReplicas"}"#,
    printcolumn = r#"{"name":"Desired Replicas","type":"integer","jsonPath":".status.desiredReplicas"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RevisionSpec {
    /// Containers, volumes and the rest of a pod, as far as Knative allows them.
    #[serde(flatten, deserialize_with = "by_value::read")]
    pub pod: PodSpec,
    /// Hard limit of requests at once in one replica; 0 means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_concurrency: Option<i64>,
    /// Longest time from arrival to the end of the response, waiting included, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// Longest time from arrival to the first byte of the response, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_start_timeout_seconds: Option<i64>,
    /// Longest pause between two bytes of the response, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<i64>,
}

/// Observed state of a Revision.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Notes for programs, such as how long starts took.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Ready, ResourcesAvailable, ContainerHealthy and Active.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Where the logs of this Revision can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_url: Option<String>,
    /// The images in use, by digest where one is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_statuses: Vec<ContainerStatus>,
    /// The images of the init containers, by digest where one is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Replicas that are running and ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_replicas: Option<i32>,
    /// Replicas that the autoscaler wants; the controller patches the Deployment to match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
}

/// The image of one container.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Name of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
}

/// The protocol that a Revision's containers speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "http1")]
    Http1,
    /// HTTP/2 without TLS.
    #[serde(rename = "h2c")]
    H2c,
}

impl RevisionStatus {
    /// The Deployment could be made and scaled.
    pub const RESOURCES_AVAILABLE: &'static str = "ResourcesAvailable";
    /// The containers start and stay up.
    pub const CONTAINER_HEALTHY: &'static str = "ContainerHealthy";
    /// There are replicas (True), some are on their way (Unknown), or none (False).
    pub const ACTIVE: &'static str = "Active";
    /// Reason and message of a Revision that is inactive in the ordinary way. Reasons and messages
    /// are Knative's (knative/serving pkg/reconciler/autoscaling/kpa/kpa.go).
    pub const NO_TRAFFIC: (&'static str, &'static str) =
        ("NoTraffic", "The target is not receiving traffic.");
    /// Reason and message of a Revision that is inactive after an activation that took too long.
    pub const TIMED_OUT: (&'static str, &'static str) =
        ("TimedOut", "The target could not be activated.");
    /// Reason and message of a Revision that was up before and is neither active nor inactive.
    pub const QUEUED: (&'static str, &'static str) =
        ("Queued", "Requests to the target are being buffered as resources are provisioned.");
    /// The conditions that make up Ready; Active is information only.
    pub const CONDITIONS: ConditionSet =
        ConditionSet { dependents: &[Self::CONTAINER_HEALTHY, Self::RESOURCES_AVAILABLE] };

    /// Whether the start that the conditions describe went wrong.
    pub fn has_failed(&self) -> bool {
        [Self::RESOURCES_AVAILABLE, Self::CONTAINER_HEALTHY]
            .iter()
            .any(|type_| condition::find(&self.conditions, type_).is_some_and(Condition::is_false))
    }

    /// Whether the initial scale was ever reached: either a start went well, or `Active` says
    /// anything but that the first start is under way.
    pub fn was_initialized(&self) -> bool {
        let is_available = condition::find(&self.conditions, Self::RESOURCES_AVAILABLE);
        let active = condition::find(&self.conditions, Self::ACTIVE);
        is_available.is_some_and(Condition::is_true)
            || active.is_some_and(|active| match active.status {
                Status::True => true,
                // A first start that was given up, failed or not, is also False here. A Revision
                // that was up before may look the same: it gets the time of a first start once
                // more.
                Status::False => {
                    self.has_failed() && active.reason.as_deref() != Some(Self::TIMED_OUT.0)
                }
                Status::Unknown => active.reason.as_deref() == Some(Self::QUEUED.0),
            })
    }
}

impl RevisionSpec {
    /// The container that gets the requests: the only one, or the one that names a port.
    pub fn serving_container(&self) -> Option<&Container> {
        match self.pod.containers.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|container| serving_port(container).is_some()),
        }
    }

    /// The port that requests go to, [`names::DEFAULT_PORT`] when none is named.
    pub fn port(&self) -> i32 {
        self.serving_container()
            .and_then(serving_port)
            .map(|port| port.container_port)
            .filter(|port| *port != 0)
            .unwrap_or(names::DEFAULT_PORT)
    }

    /// The protocol of the containers: `h2c` when the port has that name.
    pub fn protocol(&self) -> Protocol {
        let name = self.serving_container().and_then(serving_port).and_then(|p| p.name.as_deref());
        if name == Some("h2c") { Protocol::H2c } else { Protocol::Http1 }
    }

    /// The hard limit of requests at once in one replica, if there is one.
    pub fn concurrency_limit(&self) -> Option<u32> {
        self.container_concurrency.and_then(|limit| u32::try_from(limit).ok()).filter(|&l| l > 0)
    }

    /// Longest time from arrival to the end of the response, if one is set.
    pub fn timeout(&self) -> Option<Duration> {
        seconds(self.timeout_seconds)
    }

    /// Longest time from arrival to the first byte of the response, if one is set.
    pub fn response_start_timeout(&self) -> Option<Duration> {
        seconds(self.response_start_timeout_seconds)
    }

    /// Longest pause between two bytes of the response, if one is set.
    pub fn idle_timeout(&self) -> Option<Duration> {
        seconds(self.idle_timeout_seconds)
    }
}

impl Revision {
    /// Whether a Route sends requests to this Revision, by the routing-state label. Without the
    /// label, and in any state but `reserve`, the answer is yes.
    pub fn is_reachable(&self) -> bool {
        self.labels().get(labels::ROUTING_STATE).is_none_or(|state| state != ROUTING_RESERVE)
    }
}

fn serving_port(container: &Container) -> Option<&ContainerPort> {
    container.ports.as_ref().and_then(|ports| ports.first())
}

fn seconds(value: Option<i64>) -> Option<Duration> {
    value.and_then(|value| u64::try_from(value).ok()).filter(|&s| s > 0).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type, status and reason.
    type Told = (&'static str, Status, &'static str);

    fn status(conditions: &[Told]) -> RevisionStatus {
        let condition = |(type_, status, reason): &Told| Condition {
            type_: (*type_).to_owned(),
            status: *status,
            reason: Some((*reason).to_owned()),
            ..Condition::default()
        };
        RevisionStatus {
            conditions: conditions.iter().map(condition).collect(),
            ..RevisionStatus::default()
        }
    }

    #[test]
    fn a_revision_that_was_ever_up_is_told_from_one_that_was_not() {
        let (up, healthy) =
            (RevisionStatus::RESOURCES_AVAILABLE, RevisionStatus::CONTAINER_HEALTHY);
        let active = RevisionStatus::ACTIVE;
        let (yes, no, unknown) = (Status::True, Status::False, Status::Unknown);
        let cases: &[(&[Told], bool)] = &[
            (&[], false),
            (&[(up, unknown, "Deploying"), (active, unknown, "Deploying")], false),
            (&[(up, no, "ErrImagePull"), (active, unknown, "Deploying")], false),
            (&[(up, unknown, "Deploying"), (active, no, "TimedOut")], false),
            (&[(up, unknown, "Deploying"), (active, no, "NoTraffic")], false),
            (&[(up, yes, ""), (active, no, "NoTraffic")], true),
            (&[(up, yes, ""), (healthy, no, "ExitCode1"), (active, unknown, "Queued")], true),
            (&[(up, no, "ErrImagePull"), (active, unknown, "Queued")], true),
            (&[(up, no, "ErrImagePull"), (active, no, "NoTraffic")], true),
            // Given up before it was ever up.
            (&[(up, no, "ErrImagePull"), (active, no, "TimedOut")], false),
        ];
        for (conditions, expected) in cases {
            assert_eq!(status(conditions).was_initialized(), *expected, "{conditions:?}");
        }
    }
}
