//! Annotation keys of Knative Serving, with the camelCase aliases that old manifests use.

use std::collections::BTreeMap;

/// Group of the autoscaling annotations.
pub const AUTOSCALING_GROUP: &str = "autoscaling.knative.dev";
/// Group of the serving annotations.
pub const SERVING_GROUP: &str = "serving.knative.dev";
/// Group of the networking annotations.
pub const NETWORKING_GROUP: &str = "networking.knative.dev";

/// An annotation and the older spellings that mean the same; the first is the one documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(pub &'static [&'static str]);

impl Key {
    /// The documented spelling.
    pub const fn name(&self) -> &'static str {
        self.0[0]
    }

    /// The key as written and its value, the documented spelling first.
    pub fn find<'a>(
        &self,
        annotations: Option<&'a BTreeMap<String, String>>,
    ) -> Option<(&'static str, &'a str)> {
        let annotations = annotations?;
        self.0.iter().find_map(|key| annotations.get(*key).map(|value| (*key, value.as_str())))
    }

    /// The value, whichever spelling it was written in.
    pub fn get<'a>(&self, annotations: Option<&'a BTreeMap<String, String>>) -> Option<&'a str> {
        self.find(annotations).map(|(_, value)| value)
    }
}

/// Whether Ebb's own autoscaler scales a revision with these annotations. With any other class,
/// something else sets the scale of the Deployment.
pub fn is_scaled_here(annotations: Option<&BTreeMap<String, String>>) -> bool {
    CLASS.get(annotations).is_none_or(|class| class == CLASS_KPA)
}

/// Autoscaler class, [`CLASS_KPA`] when absent.
pub const CLASS: Key = Key(&["autoscaling.knative.dev/class"]);
/// The class that Ebb implements.
pub const CLASS_KPA: &str = "kpa.autoscaling.knative.dev";
/// The horizontal pod autoscaler class.
pub const CLASS_HPA: &str = "hpa.autoscaling.knative.dev";
/// `concurrency` or `rps`.
pub const METRIC: Key = Key(&["autoscaling.knative.dev/metric"]);
/// Soft target for each pod.
pub const TARGET: Key = Key(&["autoscaling.knative.dev/target"]);
/// Share of the target that is aimed at, in percent.
pub const TARGET_UTILIZATION: Key = Key(&[
    "autoscaling.knative.dev/target-utilization-percentage",
    "autoscaling.knative.dev/targetUtilizationPercentage",
]);
/// Fewest replicas.
pub const MIN_SCALE: Key =
    Key(&["autoscaling.knative.dev/min-scale", "autoscaling.knative.dev/minScale"]);
/// Most replicas, 0 for no limit.
pub const MAX_SCALE: Key =
    Key(&["autoscaling.knative.dev/max-scale", "autoscaling.knative.dev/maxScale"]);
/// Replicas that must be reached before a Revision is Ready.
pub const INITIAL_SCALE: Key =
    Key(&["autoscaling.knative.dev/initial-scale", "autoscaling.knative.dev/initialScale"]);
/// Fewest replicas whenever there is any traffic.
pub const ACTIVATION_SCALE: Key =
    Key(&["autoscaling.knative.dev/activation-scale", "autoscaling.knative.dev/activationScale"]);
/// How long a lower decision must hold before it is followed.
pub const SCALE_DOWN_DELAY: Key =
    Key(&["autoscaling.knative.dev/scale-down-delay", "autoscaling.knative.dev/scaleDownDelay"]);
/// The stable window.
pub const WINDOW: Key = Key(&["autoscaling.knative.dev/window"]);
/// The panic window, in percent of the stable window.
pub const PANIC_WINDOW: Key = Key(&[
    "autoscaling.knative.dev/panic-window-percentage",
    "autoscaling.knative.dev/panicWindowPercentage",
]);
/// Load over capacity, in percent, at which panic begins.
pub const PANIC_THRESHOLD: Key = Key(&[
    "autoscaling.knative.dev/panic-threshold-percentage",
    "autoscaling.knative.dev/panicThresholdPercentage",
]);
/// Burst that must be absorbed without queueing in pods.
pub const TARGET_BURST_CAPACITY: Key = Key(&[
    "autoscaling.knative.dev/target-burst-capacity",
    "autoscaling.knative.dev/targetBurstCapacity",
]);
/// How long the last replica is kept after it was decided to remove it.
pub const RETENTION: Key = Key(&[
    "autoscaling.knative.dev/scale-to-zero-pod-retention-period",
    "autoscaling.knative.dev/scaleToZeroPodRetentionPeriod",
]);
/// `linear` or `weighted-exponential`.
pub const AGGREGATION: Key = Key(&[
    "autoscaling.knative.dev/metric-aggregation-algorithm",
    "autoscaling.knative.dev/metricAggregationAlgorithm",
]);
/// How long a rollout to a new revision takes (on a Service or Route).
pub const ROLLOUT_DURATION: Key =
    Key(&["serving.knative.dev/rollout-duration", "serving.knative.dev/rolloutDuration"]);
/// How long a revision may take to reach its initial scale (on the template).
pub const PROGRESS_DEADLINE: Key =
    Key(&["serving.knative.dev/progress-deadline", "serving.knative.dev/progressDeadline"]);
/// Name of the user who created the object.
pub const CREATOR: &str = "serving.knative.dev/creator";
/// Name of the user who last changed the spec of the object.
pub const LAST_MODIFIER: &str = "serving.knative.dev/lastModifier";
/// Routes that send traffic to the Configuration or Revision, comma-separated.
pub const ROUTES: &str = "serving.knative.dev/routes";
/// `true` on a Revision keeps it however old and unused it is.
pub const NO_GC: &str = "serving.knative.dev/no-gc";
/// When the routing state of a Revision last changed.
pub const ROUTING_STATE_MODIFIED: &str = "serving.knative.dev/routingStateModified";
