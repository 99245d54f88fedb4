//! The parameters of one revision's scaling: annotations over the cluster's settings.
//!
//! Resolution follows knative/serving pkg/reconciler/autoscaling/resources/target.go and
//! pkg/apis/autoscaling. Admission has checked the annotations already; a bad value that slips
//! through all the same (a webhook that was down) counts as absent, so that it never stops a
//! revision.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use ebb_api::annotations::{self, Key};
use ebb_api::config::Config;
use ebb_api::standby::Standby;
use ebb_api::{duration, first_scale, progress};

use crate::window::Aggregation;

/// Smallest target (Knative's `TargetMin`).
const TARGET_MIN: f64 = 0.01;
/// Requests-per-second targets have no utilisation of their own in the settings; Knative's is 0.7.
const RPS_UTILIZATION: f64 = 0.7;
/// Bounds of the stable window (Knative's `WindowMin` and `WindowMax`).
const WINDOW_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(6)..=Duration::from_hours(1);
/// Longest scale-down delay and retention (Knative's `WindowMax`).
const DELAY_MAX: Duration = Duration::from_hours(1);
/// Time after the progress deadline until an activation counts as failed (knative/serving
/// pkg/reconciler/autoscaling/kpa/scaler.go, `activationTimeoutBuffer`).
const ACTIVATION_BUFFER: Duration = Duration::from_secs(30);

/// The unit of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// Requests at once.
    #[default]
    Concurrency,
    /// Arrivals in a second.
    Rps,
}

/// Everything that a decision about one revision depends on besides its load.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingSpec {
    /// The unit of the load.
    pub metric: Metric,
    /// How a window becomes one number.
    pub aggregation: Aggregation,
    /// Load that one replica should have.
    pub target: f64,
    /// Load that one replica can have.
    pub total: f64,
    /// Burst to absorb without queueing; -1 for any.
    pub burst_capacity: f64,
    /// The long window, whole seconds.
    pub stable_window: Duration,
    /// The short window, whole seconds, at least one.
    pub panic_window: Duration,
    /// Wanted over ready replicas at which panic begins.
    pub panic_threshold: f64,
    /// Largest factor of one raise.
    pub up_rate: f64,
    /// Largest factor of one cut.
    pub down_rate: f64,
    /// Fewest replicas while reachable.
    pub min_scale: u32,
    /// Most replicas; 0 means no limit.
    pub max_scale: u32,
    /// Fewest replicas whenever there is load; 1 without the annotation.
    pub activation_scale: u32,
    /// The scale with which the controller makes the Deployment, whether reachable or not.
    pub first_scale: u32,
    /// Replicas to reach once before the revision is Ready.
    pub initial_scale: u32,
    /// How long a lower decision must hold.
    pub down_delay: Duration,
    /// How long the last replica is kept after the decision to remove it.
    pub retention: Duration,
    /// How long requests must have been able to wake the revision before its last replica goes.
    pub grace: Duration,
    /// Whether the last replica may go.
    pub to_zero: bool,
    /// How long an activation may take until it counts as failed.
    pub activation_timeout: Duration,
    /// How the last replica sleeps instead of being stopped, if it does.
    pub standby: Option<Box<Standby>>,
    /// Whether a Route may send requests.
    pub reachable: bool,
}

// === impl ScalingSpec ===

impl ScalingSpec {
    /// The spec of a Revision with this concurrency limit (0 for none) and these annotations, under
    /// these settings.
    pub fn resolve(
        limit: i64,
        reachable: bool,
        annotations: &BTreeMap<String, String>,
        config: &Config,
    ) -> Self {
        let read = Reader(annotations);
        let scaler = &config.autoscaler;
        let metric = match annotations::METRIC.get(Some(annotations)) {
            Some("rps") => Metric::Rps,
            _ => Metric::Concurrency,
        };
        let (target, total) = target(&read, metric, limit, config);
        let stable_window = read
            .duration(&annotations::WINDOW)
            .filter(|window| WINDOW_RANGE.contains(window))
            .unwrap_or(scaler.stable_window);
        let panic_percentage = read
            .number(&annotations::PANIC_WINDOW, 1.0, 100.0)
            .unwrap_or(scaler.panic_window_percentage);
        let max_scale =
            read.scale(&annotations::MAX_SCALE).unwrap_or_else(|| scale(scaler.max_scale));
        Self {
            metric,
            aggregation: aggregation(&read),
            target,
            total,
            burst_capacity: read
                .number(&annotations::TARGET_BURST_CAPACITY, -1.0, f64::MAX)
                .unwrap_or(scaler.target_burst_capacity),
            stable_window,
            panic_window: panic_window(stable_window, panic_percentage),
            panic_threshold: read
                .number(&annotations::PANIC_THRESHOLD, 110.0, 1000.0)
                .unwrap_or(scaler.panic_threshold_percentage)
                / 100.0,
            up_rate: scaler.max_scale_up_rate,
            down_rate: scaler.max_scale_down_rate,
            min_scale: read
                .scale(&annotations::MIN_SCALE)
                .unwrap_or_else(|| scale(scaler.min_scale)),
            max_scale,
            activation_scale: read.scale(&annotations::ACTIVATION_SCALE).unwrap_or(1).max(1),
            first_scale: first_scale::first_scale(Some(annotations), config),
            initial_scale: first_scale::initial_scale(Some(annotations), config),
            down_delay: read
                .delay(&annotations::SCALE_DOWN_DELAY)
                .unwrap_or(scaler.scale_down_delay),
            retention: read.delay(&annotations::RETENTION).unwrap_or(scaler.retention),
            grace: scaler.scale_to_zero_grace_period,
            to_zero: scaler.enable_scale_to_zero,
            activation_timeout: progress::deadline(Some(annotations), config)
                .saturating_add(ACTIVATION_BUFFER),
            standby: Standby::of(Some(annotations)).ok().flatten().map(Box::new),
            reachable,
        }
    }
}

/// Target and total load of one replica.
fn target(read: &Reader<'_>, metric: Metric, limit: i64, config: &Config) -> (f64, f64) {
    let scaler = &config.autoscaler;
    #[allow(clippy::cast_precision_loss, reason = "limits are at most a few thousand")]
    let limit = (metric == Metric::Concurrency && limit > 0).then_some(limit as f64);
    let (default, fraction) = match metric {
        Metric::Concurrency => {
            (scaler.concurrency_target_default, scaler.target_percentage / 100.0)
        }
        Metric::Rps => (scaler.rps_target_default, RPS_UTILIZATION),
    };
    let asked = read.number(&annotations::TARGET, TARGET_MIN, f64::MAX);
    let total = match (asked, limit) {
        (Some(asked), Some(limit)) => asked.min(limit),
        (Some(value), None) | (None, Some(value)) => value,
        (None, None) => default,
    };
    let fraction = read
        .number(&annotations::TARGET_UTILIZATION, 1.0, 100.0)
        .map_or(fraction, |percent| percent / 100.0);
    (TARGET_MIN.max(total * fraction), total)
}

fn aggregation(read: &Reader<'_>) -> Aggregation {
    match annotations::AGGREGATION.get(Some(read.0)) {
        Some("weighted-exponential" | "weightedExponential") => Aggregation::WeightedExponential,
        _ => Aggregation::Linear,
    }
}

fn panic_window(stable: Duration, percentage: f64) -> Duration {
    let seconds = (stable.as_secs_f64() * percentage / 100.0).round().max(1.0);
    Duration::from_secs_f64(seconds)
}

/// A number of replicas from the API, where it is signed.
fn scale(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// Reads annotations; a value out of bounds counts as absent.
struct Reader<'a>(&'a BTreeMap<String, String>);

impl Reader<'_> {
    fn parsed<T: FromStr>(&self, key: &Key) -> Option<T> {
        key.get(Some(self.0))?.trim().parse().ok()
    }

    fn number(&self, key: &Key, min: f64, max: f64) -> Option<f64> {
        // NaN lies in no range.
        self.parsed(key).filter(|value| (min..=max).contains(value))
    }

    fn scale(&self, key: &Key) -> Option<u32> {
        self.parsed::<i32>(key).and_then(|value| value.try_into().ok())
    }

    fn duration(&self, key: &Key) -> Option<Duration> {
        duration::parse(key.get(Some(self.0))?)
    }

    fn delay(&self, key: &Key) -> Option<Duration> {
        self.duration(key).filter(|delay| *delay <= DELAY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Annotations = &'static [(&'static str, &'static str)];

    fn resolve(limit: i64, annotations: &[(&str, &str)]) -> ScalingSpec {
        let annotations = annotations
            .iter()
            .map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), (*value).to_owned()))
            .collect();
        ScalingSpec::resolve(limit, true, &annotations, &Config::default())
    }

    #[test]
    fn the_target_is_the_share_of_what_a_replica_can_take() {
        // (limit, annotations, target, total)
        let cases: [(i64, Annotations, f64, f64); 8] = [
            (0, &[], 70.0, 100.0),                                    // 100 * 0.7
            (10, &[], 7.0, 10.0),                                     // limit 10 * 0.7
            (10, &[("target", "50")], 7.0, 10.0),                     // min(50, 10) * 0.7
            (10, &[("target", "4")], 2.8, 4.0),                       // min(4, 10) * 0.7
            (0, &[("target", "50")], 35.0, 50.0),                     // 50 * 0.7
            (1, &[("targetUtilizationPercentage", "100")], 1.0, 1.0), // 1 * 1.0
            (7, &[("metric", "rps")], 140.0, 200.0),                  // 200 * 0.7, no limit
            (0, &[("target", "0.01")], 0.01, 0.01),                   // max(0.01, 0.007)
        ];
        for (limit, annotations, target, total) in cases {
            let spec = resolve(limit, annotations);
            assert!((spec.target - target).abs() < 1e-9, "{annotations:?}: {spec:?}");
            assert!((spec.total - total).abs() < 1e-9, "{annotations:?}: {spec:?}");
        }
    }

    #[test]
    fn the_panic_window_is_whole_seconds_and_at_least_one() {
        for (window, percent, seconds) in [("60s", "10", 6), ("6s", "1", 1), ("15s", "10", 2)] {
            let spec = resolve(0, &[("window", window), ("panic-window-percentage", percent)]);
            assert_eq!(spec.panic_window, Duration::from_secs(seconds), "{window} {percent}");
        }
    }

    #[test]
    fn nonsense_in_an_annotation_counts_as_absent() {
        let plain = resolve(0, &[]);
        for bad in [
            ("target", "NaN"),
            ("target", "1e309"),
            ("target", "-5"),
            ("window", "0s"),
            ("window", "1000h"),
            ("min-scale", "-1"),
            ("max-scale", "99999999999"),
            ("panic-threshold-percentage", "inf"),
            ("scale-down-delay", "forever"),
            ("initial-scale", "0"),
            ("metric", "cpu"),
        ] {
            assert_eq!(resolve(0, &[bad]), plain, "{bad:?}");
        }
    }

    #[test]
    fn the_activation_timeout_is_the_progress_deadline_and_thirty_seconds() {
        let spec = resolve(0, &[]);
        assert_eq!(spec.activation_timeout, Duration::from_secs(630));
        // The Deployment does not take the annotation either.
        let key = "serving.knative.dev/progress-deadline".to_owned();
        let annotations = BTreeMap::from([(key, "500ms".to_owned())]);
        let spec = ScalingSpec::resolve(0, true, &annotations, &Config::default());
        assert_eq!(spec.activation_timeout, Duration::from_secs(630));
    }
}
