//! Where reports come in: a bounded buffer that never makes an activator wait.
//!
//! Each activator's newest reports wait here, merged by revision. When the autoscaler cannot keep
//! up, a newer report of a revision replaces the older one; the revisions that it does not name
//! keep theirs. That matters, for a report may name only what has changed, and arrives only once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use ebb_api::report::{Report, RevisionKey, RevisionReport, Scope};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

use crate::activators::ACTIVATORS_MAX;

/// Most revisions with a waiting immediate report, for each activator. The activator's next report
/// of an interval repeats those beyond it.
const MOMENTS_MAX: usize = 25_000;

/// The end that takes reports in; cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    shared: Arc<Shared>,
}

/// The end that gives them out.
#[derive(Debug)]
pub struct Reports {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    merged: Counter,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Activators with something to say, in the order in which they came.
    order: VecDeque<String>,
    words: HashMap<String, Words>,
}

/// The waiting reports of one activator: one of an interval, and immediate ones after it.
#[derive(Debug, Default)]
struct Words {
    interval: Option<Report>,
    moments: BTreeMap<RevisionKey, RevisionReport>,
}

/// Both ends of a buffer; `merged` counts the reports that newer ones replaced, or that had no
/// room.
pub fn intake(merged: Counter) -> (Intake, Reports) {
    let (waiting, arrived) = (Mutex::default(), Notify::new());
    let shared = Arc::new(Shared { waiting, arrived, merged });
    let intake = Intake { shared: Arc::clone(&shared) };
    (intake, Reports { shared })
}

// === impl Intake ===

impl Intake {
    /// Hands a report over and returns at once; false when there is no room for the activator.
    pub fn record(&self, report: Report) -> bool {
        let mut waiting = self.shared.waiting.lock();
        if !waiting.words.contains_key(&report.activator) {
            if waiting.words.len() >= ACTIVATORS_MAX {
                self.shared.merged.inc();
                return false;
            }
            waiting.order.push_back(report.activator.clone());
        }
        let words = waiting.words.entry(report.activator.clone()).or_default();
        let merged = words.add(report);
        drop(waiting);
        self.shared.merged.inc_by(merged);
        self.shared.arrived.notify_one();
        true
    }
}

// === impl Reports ===

impl Reports {
    /// The next report. Loses none when it is cancelled.
    pub async fn next(&mut self) -> Report {
        loop {
            if let Some(report) = self.shared.waiting.lock().take() {
                return report;
            }
            // `Notify` keeps a permit for a report that came since the check above, so none is
            // missed.
            self.shared.arrived.notified().await;
        }
    }
}

// === impl Waiting ===

impl Waiting {
    fn take(&mut self) -> Option<Report> {
        let activator = self.order.pop_front()?;
        let words = self.words.get_mut(&activator)?;
        if let Some(report) = words.interval.take() {
            if words.moments.is_empty() {
                self.words.remove(&activator);
            } else {
                self.order.push_front(activator);
            }
            return Some(report);
        }
        let moments = self.words.remove(&activator)?.moments;
        Some(Report { activator, scope: Scope::Moment, revisions: moments.into_values().collect() })
    }
}

// === impl Words ===

impl Words {
    /// Adds a later report. Returns how many reports of a revision it replaced, or had no room for.
    fn add(&mut self, report: Report) -> u64 {
        let mut merged = 0;
        if report.scope != Scope::Moment {
            // A report of an interval covers all immediate reports before it.
            merged += std::mem::take(&mut self.moments).len() as u64;
        }
        match (report.scope, &mut self.interval) {
            (Scope::Moment, _) => {
                for said in report.revisions {
                    let key = said.revision.clone();
                    if self.moments.len() >= MOMENTS_MAX && !self.moments.contains_key(&key) {
                        merged += 1;
                        continue;
                    }
                    merged += u64::from(self.moments.insert(key, said).is_some());
                }
            }
            (Scope::Changes, Some(before)) => {
                // Only revisions that both reports name are replaced. The rest of the older report
                // stands, and so does its scope: a full report still takes back all that was said
                // before it.
                let mut newer: HashMap<_, _> = report
                    .revisions
                    .into_iter()
                    .map(|said| (said.revision.clone(), said))
                    .collect();
                for said in &mut before.revisions {
                    if let Some(newer) = newer.remove(&said.revision) {
                        *said = newer;
                        merged += 1;
                    }
                }
                before.revisions.extend(newer.into_values());
            }
            (Scope::Full | Scope::Changes, _) => {
                let before = self.interval.replace(report);
                merged += before.map_or(0, |before| before.revisions.len() as u64);
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(activator: &str, scope: Scope, revisions: &[(&str, u32)]) -> Report {
        let said = |&(name, queued): &(&str, u32)| RevisionReport {
            revision: RevisionKey::new("models", name),
            queued,
            ..RevisionReport::default()
        };
        let revisions = revisions.iter().map(said).collect();
        Report { activator: activator.to_owned(), scope, revisions }
    }

    #[tokio::test(start_paused = true)]
    async fn unread_reports_are_merged_by_revision() {
        let merged = Counter::default();
        let (intake, mut reports) = intake(merged.clone());
        intake.record(report("a", Scope::Full, &[("x", 1), ("y", 1)]));
        intake.record(report("a", Scope::Moment, &[("z", 9)]));
        intake.record(report("a", Scope::Changes, &[("y", 2), ("z", 2)]));
        intake.record(report("a", Scope::Changes, &[("z", 3)]));
        intake.record(report("b", Scope::Changes, &[("x", 4)]));
        intake.record(report("a", Scope::Moment, &[("x", 5)]));
        intake.record(report("a", Scope::Moment, &[("x", 6), ("y", 6)]));
        let full = report("a", Scope::Full, &[("x", 1), ("y", 2), ("z", 3)]);
        assert_eq!(reports.next().await, full, "which still takes back all that was said before");
        assert_eq!(reports.next().await, report("a", Scope::Moment, &[("x", 6), ("y", 6)]));
        assert_eq!(reports.next().await, report("b", Scope::Changes, &[("x", 4)]));
        assert_eq!(merged.get(), 4);
        intake.record(report("a", Scope::Changes, &[("x", 1)]));
        intake.record(report("a", Scope::Full, &[("y", 1)]));
        assert_eq!(reports.next().await, report("a", Scope::Full, &[("y", 1)]));
    }

    #[tokio::test(start_paused = true)]
    async fn activators_are_bounded_and_the_excess_is_counted() {
        let merged = Counter::default();
        let (intake, mut reports) = intake(merged.clone());
        for number in 0..=ACTIVATORS_MAX {
            intake.record(report(&number.to_string(), Scope::Full, &[]));
        }
        assert_eq!(merged.get(), 1);
        for number in 0..ACTIVATORS_MAX {
            assert_eq!(reports.next().await.activator, number.to_string());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_wakes_its_reader() {
        let (intake, mut reports) = intake(Counter::default());
        let waiting = tokio::spawn(async move { reports.next().await.activator });
        tokio::task::yield_now().await;
        intake.record(report("seven", Scope::Full, &[]));
        assert_eq!(waiting.await.unwrap(), "seven");
    }
}
