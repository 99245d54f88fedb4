//! The autoscaler's metrics, under Knative's names in Prometheus' spelling.
//!
//! A decision has fourteen numbers and is made thousands of times a second; they are read every
//! fifteen seconds. So a decision leaves its numbers in one place, and they become metrics only
//! when they are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ebb_api::labels;
use ebb_api::report::RevisionKey;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::event::Measures;
use crate::spec::Metric;

/// The revision that a number belongs to.
#[allow(clippy::struct_field_names, reason = "the fields are label names, and those are Knative's")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Labels {
    k8s_namespace_name: String,
    kn_service_name: String,
    kn_configuration_name: String,
    kn_revision_name: String,
}

/// The numbers of all revisions; as many as the autoscaler scales.
#[derive(Clone, Debug, Default)]
struct Revisions(Arc<Mutex<HashMap<RevisionKey, Shown>>>);

/// The newest numbers of one revision.
#[derive(Clone, Debug)]
struct Shown {
    labels: Arc<Labels>,
    measures: Measures,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    outcome: &'static str,
}

/// All metrics of an autoscaler.
#[derive(Debug)]
pub struct Gauges {
    revisions: Revisions,
    reports_merged: Counter,
    notices_dropped: Counter,
    faults: Counter,
    writes: Family<WriteLabels, Counter>,
    unheard: Gauge,
    held: Gauge,
    lacking: Gauge,
    let_go: Counter,
}

/// Name and meaning of each number of a revision, in the order of [`numbers`].
const NAMES: [(&str, &str); 14] = [
    ("kn_revision_pods_desired", "Replicas that the load asks for"),
    ("kn_revision_pods_requested", "Replicas asked of Kubernetes"),
    ("kn_revision_pods_count", "Ready pods"),
    ("kn_revision_pods_not_ready_count", "Pods that started but are not ready"),
    ("kn_revision_pods_pending_count", "Pods that have not started"),
    ("kn_revision_pods_terminating_count", "Pods that are being deleted"),
    ("kn_revision_capacity_excess", "Burst that would fit beside the load, less the one asked for"),
    ("kn_revision_panic_mode", "1 while the panic window rules"),
    ("kn_revision_concurrency_stable", "Mean requests at once over the stable window"),
    ("kn_revision_concurrency_panic", "Mean requests at once over the panic window"),
    ("kn_revision_concurrency_target", "Requests at once that one replica should have"),
    ("kn_revision_rps_stable", "Mean requests per second over the stable window"),
    ("kn_revision_rps_panic", "Mean requests per second over the panic window"),
    ("kn_revision_rps_target", "Requests per second that one replica should have"),
];

// === impl Gauges ===

impl Gauges {
    /// Registers all metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let revisions = Revisions::default();
        registry.register_collector(Box::new(revisions.clone()));
        let own = registry.sub_registry_with_prefix("ebb_autoscaler");
        let gauges = Self {
            revisions,
            reports_merged: Counter::default(),
            notices_dropped: Counter::default(),
            faults: Counter::default(),
            writes: Family::default(),
            unheard: Gauge::default(),
            held: Gauge::default(),
            lacking: Gauge::default(),
            let_go: Counter::default(),
        };
        own.register(
            "reports_merged",
            "Reports of a revision that a newer one replaced before they were read, or that had no room",
            gauges.reports_merged.clone(),
        );
        own.register(
            "report_faults",
            "Values and objects refused because they made no sense or were too many",
            gauges.faults.clone(),
        );
        own.register("writes", "Writes to the API server", gauges.writes.clone());
        own.register(
            "notices_dropped",
            "Events that were not written because too many waited",
            gauges.notices_dropped.clone(),
        );
        own.register(
            "unheard_activators",
            "Activators that do not report although they may send requests: no scale is lowered",
            gauges.unheard.clone(),
        );
        own.register(
            "held_revisions",
            "Revisions that would have fewer replicas if every activator reported, and every pod were seen",
            gauges.held.clone(),
        );
        own.register(
            "lacking_pods",
            "Pods that no node takes for want of memory or of a device",
            gauges.lacking.clone(),
        );
        own.register(
            "replicas_let_go",
            "Replicas that were let go to make room for other models",
            gauges.let_go.clone(),
        );
        gauges
    }

    /// The counter of reports that newer ones replaced.
    pub fn reports_merged(&self) -> Counter {
        self.reports_merged.clone()
    }

    /// The counter of Events for which there was no room.
    pub fn notices_dropped(&self) -> Counter {
        self.notices_dropped.clone()
    }

    /// Shows how many activators are not heard, and how many revisions are held up by that.
    pub fn show_hearing(&self, unheard: usize, held: usize) {
        self.unheard.set(i64::try_from(unheard).unwrap_or(i64::MAX));
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    /// Shows how many pods find no room, and brings the counter of replicas that were let go for them up
    /// to `let_go`.
    pub fn show_room(&self, lacking: usize, let_go: u64) {
        self.lacking.set(i64::try_from(lacking).unwrap_or(i64::MAX));
        self.let_go.inc_by(let_go.saturating_sub(self.let_go.get()));
    }

    /// Counts a write.
    pub fn count_write(&self, is_done: bool) {
        let outcome = if is_done { "written" } else { "failed" };
        self.writes.get_or_create(&WriteLabels { outcome }).inc();
    }

    /// Brings the counter of faults up to `total`.
    pub fn count_faults(&self, total: u64) {
        self.faults.inc_by(total.saturating_sub(self.faults.get()));
    }

    /// Shows the numbers of a revision. Its labels are looked up the first time only.
    pub fn show<'a>(
        &self,
        key: &RevisionKey,
        measures: &Measures,
        labels: impl FnOnce() -> Option<&'a BTreeMap<String, String>>,
    ) {
        let mut revisions = self.revisions.0.lock();
        if let Some(shown) = revisions.get_mut(key) {
            shown.measures = *measures;
            return;
        }
        let found = labels();
        let label = |name| found.and_then(|found| found.get(name).cloned()).unwrap_or_default();
        let labels = Arc::new(Labels {
            k8s_namespace_name: key.namespace.clone(),
            kn_service_name: label(labels::SERVICE),
            kn_configuration_name: label(labels::CONFIGURATION),
            kn_revision_name: key.name.clone(),
        });
        revisions.insert(key.clone(), Shown { labels, measures: *measures });
    }

    /// Removes the numbers of a revision that is gone.
    pub fn forget(&self, key: &RevisionKey) {
        self.revisions.0.lock().remove(key);
    }
}

// === impl Revisions ===

impl Collector for Revisions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // A copy, so that no decision waits for text to be written.
        let shown: Vec<_> = self.0.lock().values().cloned().collect();
        let numbers: Vec<_> = shown.iter().map(|shown| numbers(&shown.measures)).collect();
        for (index, (name, help)) in NAMES.iter().enumerate() {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (shown, numbers) in shown.iter().zip(&numbers) {
                if let Some(number) = &numbers[index] {
                    metric.encode_family(&*shown.labels)?.encode_gauge(number)?;
                }
            }
        }
        Ok(())
    }
}

/// The numbers in the order of [`NAMES`]; `None` where there is nothing to show.
fn numbers(measures: &Measures) -> [Option<f64>; NAMES.len()] {
    let Measures { metric, target, desired, requested, averages, excess_burst, is_panicking, pods } =
        *measures;
    let load = |of| (metric == of).then_some(averages).flatten();
    let aim = |of| (metric == of).then_some(target);
    [
        desired.map(f64::from),
        Some(f64::from(requested)),
        Some(f64::from(pods.ready)),
        Some(f64::from(pods.not_ready)),
        Some(f64::from(pods.pending)),
        Some(f64::from(pods.terminating)),
        excess_burst,
        Some(f64::from(u8::from(is_panicking))),
        load(Metric::Concurrency).map(|averages| averages.stable),
        load(Metric::Concurrency).map(|averages| averages.panic),
        aim(Metric::Concurrency),
        load(Metric::Rps).map(|averages| averages.stable),
        load(Metric::Rps).map(|averages| averages.panic),
        aim(Metric::Rps),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Averages;
    use crate::pods::PodCounts;

    #[test]
    fn the_numbers_of_a_revision_go_when_it_goes() {
        let mut registry = Registry::default();
        let gauges = Gauges::register(&mut registry);
        let key = RevisionKey::new("models", "digits-00001");
        let measures = Measures {
            metric: Metric::Concurrency,
            target: 70.0,
            desired: Some(3),
            requested: 2,
            averages: Some(Averages { stable: 1.5, panic: 9.0 }),
            excess_burst: Some(-211.0),
            is_panicking: true,
            pods: PodCounts::default(),
        };
        let text = |registry: &Registry| {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
            text
        };
        gauges.show(&key, &measures, || None);
        let shown = text(&registry);
        assert!(shown.contains("kn_revision_pods_desired{"), "{shown}");
        assert!(shown.contains("kn_revision_name=\"digits-00001\"} 9.0"), "{shown}");
        assert!(!shown.contains("kn_revision_rps_stable{"), "{shown}");
        gauges.forget(&key);
        assert!(!text(&registry).contains("digits-00001"));
    }
}
