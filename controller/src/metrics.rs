//! What the controller counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// A reconcile reads memory and writes a few objects: 0.1 ms to a few seconds on a slow server.
const DURATION_BUCKETS_S: [f64; 8] = [0.000_1, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5];

/// One series per kind of object.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// One series per kind of object, and whether a failure lasts.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabels {
    kind: &'static str,
    /// `true` for a failure that only a person ends, such as a quota or a name that is taken.
    lasting: &'static str,
}

/// One series per kind of object and way of writing it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    kind: String,
    verb: &'static str,
}

/// Handles to the controller's metrics; clones count into the same series.
#[derive(Clone)]
pub(crate) struct ControllerMetrics {
    reconciles: Family<KindLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    durations: Family<KindLabels, Histogram>,
    writes: Family<WriteLabels, Counter>,
}

// === impl ControllerMetrics ===

impl ControllerMetrics {
    /// The metrics, registered under `ebb_controller`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("ebb_controller");
        let metrics = Self {
            reconciles: Family::default(),
            errors: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS_S)),
            writes: Family::default(),
        };
        registry.register(
            "reconciles",
            "Reconciles that ended, by kind",
            metrics.reconciles.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that failed and will be tried again, by kind and whether only a person ends that",
            metrics.errors.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "How long reconciles took, by kind",
            metrics.durations.clone(),
        );
        registry.register(
            "writes",
            "Requests to the API server that change something, by kind and verb",
            metrics.writes.clone(),
        );
        metrics
    }

    /// Counts a reconcile that ended. `lasting` is `None` after a success; after a failure it says
    /// whether only a person ends the failure.
    pub(crate) fn reconciled(&self, kind: &'static str, took: Duration, lasting: Option<bool>) {
        let labels = KindLabels { kind };
        self.reconciles.get_or_create(&labels).inc();
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        if let Some(lasting) = lasting {
            let lasting = if lasting { "true" } else { "false" };
            self.errors.get_or_create(&ErrorLabels { kind, lasting }).inc();
        }
    }

    /// Counts a request that changes something.
    pub(crate) fn wrote(&self, kind: &str, verb: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind: kind.to_owned(), verb }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_only_a_person_ends_are_counted_apart() {
        let mut registry = Registry::default();
        let metrics = ControllerMetrics::register(&mut registry);
        for lasting in [None, Some(true), Some(false), Some(false)] {
            metrics.reconciled("Route", Duration::ZERO, lasting);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let errors = "ebb_controller_reconcile_errors_total{kind=\"Route\",lasting=";
        assert!(text.contains(&format!("{errors}\"true\"}} 1\n")), "{text}");
        assert!(text.contains(&format!("{errors}\"false\"}} 2\n")), "{text}");
    }
}
