//! Route: hosts, and how their requests are split over Revisions.

use std::collections::BTreeMap;

use kube_derive::CustomResource;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, ConditionSet};

/// Route gives a stable address to one or more Revisions and splits requests between them.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "schema"), kube(schema = "disabled"))]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "serving.knative.dev",
    version = "v1",
    kind = "Route",
    plural = "routes",
    singular = "route",
    shortname = "rt",
    category = "all",
    category = "knative",
    category = "serving",
    namespaced,
    status = "RouteStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Route gives a stable address to one or more Revisions and splits requests between them.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// The split; percentages sum to 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}

/// One part of a split, and the address of its tag.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TrafficTarget {
    /// Name of the Configuration whose latest ready Revision gets the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_name: Option<String>,
    /// Whether the latest ready Revision gets the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_revision: Option<bool>,
    /// Share of the requests, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
    /// Name of the Revision that gets the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_name: Option<String>,
    /// Gives this target a host of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The address of the tag; set by the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// An address that events and requests can be sent to.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Addressable {
    /// The address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Observed state of a Route.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// How a gradual rollout goes on, while there is one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, AllTrafficAssigned, IngressReady and CertificateProvisioned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The URL that requests are sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The address inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// The split in force, with Revision names resolved; activators route by this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}

impl RouteStatus {
    /// Every target of the split exists and was ready once.
    pub const ALL_TRAFFIC_ASSIGNED: &'static str = "AllTrafficAssigned";
    /// The gateway serves the hosts.
    pub const INGRESS_READY: &'static str = "IngressReady";
    /// Certificates are there, or not wanted.
    pub const CERTIFICATE_PROVISIONED: &'static str = "CertificateProvisioned";
    /// The models that the Route declares are reached by their names. It says nothing of readiness,
    /// and is there only if the Route declares any.
    pub const MODELS_REACHABLE: &'static str = "ModelsReachable";
    /// The conditions that make up Ready.
    pub const CONDITIONS: ConditionSet = ConditionSet {
        dependents: &[
            Self::ALL_TRAFFIC_ASSIGNED,
            Self::CERTIFICATE_PROVISIONED,
            Self::INGRESS_READY,
        ],
    };
}
