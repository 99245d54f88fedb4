//! `autoscaling.internal.knative.dev/v1alpha1`: PodAutoscaler, the contract between the
//! controller (which writes its spec) and the autoscaler (which writes its status).

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, ConditionSet};
use crate::serving::Protocol;

/// PodAutoscaler asks for a Revision to be scaled, and holds the decision.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "autoscaling.internal.knative.dev",
    version = "v1alpha1",
    kind = "PodAutoscaler",
    plural = "podautoscalers",
    singular = "podautoscaler",
    shortname = "kpa",
    shortname = "pa",
    category = "knative-internal",
    category = "autoscaling",
    namespaced,
    status = "PodAutoscalerStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "PodAutoscaler asks for a Revision to be scaled, and holds the decision.",
    printcolumn = r#"{"name":"DesiredScale","type":"integer","jsonPath":".status.desiredScale"}"#,
    printcolumn = r#"{"name":"ActualScale","type":"integer","jsonPath":".status.actualScale"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PodAutoscalerSpec {
    /// Hard limit of requests at once in one replica; 0 means none.
    #[serde(default)]
    pub container_concurrency: i64,
    /// What is scaled: the Revision's Deployment.
    pub scale_target_ref: ScaleTargetRef,
    /// Whether a Route sends requests to the Revision; min-scale counts only if so.
    #[serde(default, skip_serializing_if = "Reachability::is_unknown")]
    pub reachability: Reachability,
    /// What the Revision's containers speak.
    #[serde(default)]
    pub protocol_type: Protocol,
}

/// The object whose `scale` is set.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTargetRef {
    /// API version of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Kind of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the object, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Whether requests can reach a Revision through a Route.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Reachability {
    /// Not known yet; treated as reachable.
    #[default]
    #[serde(rename = "")]
    Unknown,
    /// A Route refers to it.
    Reachable,
    /// No Route refers to it.
    Unreachable,
}

/// What is known of a PodAutoscaler.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodAutoscalerStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Active, ScaleTargetInitialized and SKSReady.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Replicas that the autoscaler wants; the controller patches the Deployment to match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_scale: Option<i32>,
    /// Replicas that are running and ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_scale: Option<i32>,
}

impl Reachability {
    /// Whether nothing is known; the field is then left out, as Knative does.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if wants &self")]
    pub fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }

    /// Whether bounds that exist for requests (min-scale) hold.
    pub fn counts_as_reachable(self) -> bool {
        self != Self::Unreachable
    }
}

impl PodAutoscalerStatus {
    /// There are enough replicas (True), some are on their way (Unknown), or none (False).
    pub const ACTIVE: &'static str = "Active";
    /// The initial scale was reached once.
    pub const SCALE_TARGET_INITIALIZED: &'static str = "ScaleTargetInitialized";
    /// The data plane knows the revision; kept under Knative's name for its tools.
    pub const SKS_READY: &'static str = "SKSReady";
    /// What makes a PodAutoscaler Ready.
    pub const CONDITIONS: ConditionSet = ConditionSet {
        dependents: &[Self::ACTIVE, Self::SKS_READY, Self::SCALE_TARGET_INITIALIZED],
    };
}
