//! Service: the whole of a model endpoint in one object.

use kube_derive::CustomResource;
use serde::{Deserialize, Serialize};

use super::{Addressable, RevisionTemplateSpec, TrafficTarget};
use crate::condition::{Condition, ConditionSet};

/// Service manages a Configuration, the Revisions that it stamps out, and a Route to them.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(not(feature = "schema"), kube(schema = "disabled"))]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "serving.knative.dev",
    version = "v1",
    kind = "Service",
    plural = "services",
    singular = "service",
    shortname = "kservice",
    shortname = "ksvc",
    category = "all",
    category = "knative",
    category = "serving",
    namespaced,
    status = "ServiceStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Service manages a Configuration, the Revisions that it stamps out, and a Route to them.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url"}"#,
    printcolumn = r#"{"name":"LatestCreated","type":"string","jsonPath":".status.latestCreatedRevisionName"}"#,
    printcolumn = r#"{"name":"LatestReady","type":"string","jsonPath":".status.latestReadyRevisionName"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// The template of the next Revision; a change of the template makes a new Revision.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(transform = crate::schema::without_default))]
    pub template: RevisionTemplateSpec,
    /// How requests are split over Revisions; all to the latest ready one when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}

/// Observed state of a Service.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, ConfigurationsReady and RoutesReady.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The last Revision made from the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_created_revision_name: Option<String>,
    /// The last Revision that became Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ready_revision_name: Option<String>,
    /// The URL that requests are sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The address inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// The split in force, with Revision names resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}

impl ServiceStatus {
    /// The Configuration is ready.
    pub const CONFIGURATIONS_READY: &'static str = "ConfigurationsReady";
    /// The Route is ready.
    pub const ROUTES_READY: &'static str = "RoutesReady";
    /// The conditions that make up Ready.
    pub const CONDITIONS: ConditionSet =
        ConditionSet { dependents: &[Self::CONFIGURATIONS_READY, Self::ROUTES_READY] };
}
