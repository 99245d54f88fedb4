//! The reports that wait for one replica of the autoscaler: the newest of each revision.
//!
//! A burst of first requests at a thousand sleeping revisions is a thousand reports of one revision
//! each. None of them may push out another, and a replica that reads slowly must not make them pile
//! up: so they are merged by revision, and a report of an interval, which names everything, takes
//! the place of all that came before it. A report that was sent at once while that one was being
//! made is newer; the activator reports its revision again behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebb_api::report::{Report, RevisionKey, RevisionReport, Scope};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Most revisions whose reports of a moment wait: more than are ever reported. Any further ones are
/// in the next report of an interval.
const MOMENTS_MAX: usize = 25_000;

/// How many reports of a revision will not be sent, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Displaced {
    /// Revisions whose waiting report a newer one replaced.
    pub(super) merged: u64,
    /// Revisions for whose report there was no room.
    pub(super) dropped: u64,
}

/// Reports on their way to one replica.
#[derive(Debug)]
pub(super) struct Outlet {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    interval: Option<Arc<Report>>,
    /// The activator that the moments come from.
    activator: String,
    moments: BTreeMap<RevisionKey, RevisionReport>,
}

// === impl Outlet ===

impl Outlet {
    /// The outlet of a new stream, which begins with `interval` if there is one.
    pub(super) fn new(interval: Option<Arc<Report>>) -> Self {
        let waiting = Waiting { interval, ..Waiting::default() };
        Self { waiting: Mutex::new(waiting), arrived: Notify::new() }
    }

    /// Lets a report wait.
    pub(super) fn put(&self, report: &Arc<Report>) -> Displaced {
        let mut waiting = self.waiting.lock();
        let Displaced { mut merged, mut dropped } = Displaced::default();
        if report.scope == Scope::Moment {
            waiting.activator.clone_from(&report.activator);
            for said in &report.revisions {
                let is_full = waiting.moments.len() >= MOMENTS_MAX;
                if is_full && !waiting.moments.contains_key(&said.revision) {
                    dropped += 1;
                    continue;
                }
                let before = waiting.moments.insert(said.revision.clone(), said.clone());
                merged += u64::from(before.is_some());
            }
        } else {
            merged += waiting.moments.len() as u64;
            waiting.moments.clear();
            let before = waiting.interval.replace(Arc::clone(report));
            merged += before.map_or(0, |before| before.revisions.len() as u64);
        }
        drop(waiting);
        self.arrived.notify_one();
        Displaced { merged, dropped }
    }

    /// The next report to send. Loses none when it is cancelled.
    pub(super) async fn next(&self) -> Arc<Report> {
        loop {
            if let Some(report) = self.waiting.lock().take() {
                return report;
            }
            self.arrived.notified().await;
        }
    }
}

// === impl Waiting ===

impl Waiting {
    /// The interval first: the moments that wait beside it came later.
    fn take(&mut self) -> Option<Arc<Report>> {
        if let Some(report) = self.interval.take() {
            return Some(report);
        }
        let moments = std::mem::take(&mut self.moments);
        (!moments.is_empty()).then(|| {
            Arc::new(Report {
                activator: std::mem::take(&mut self.activator),
                scope: Scope::Moment,
                revisions: moments.into_values().collect(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(scope: Scope, names: &[&str], queued: u32) -> Arc<Report> {
        let revisions = names.iter().map(|name| RevisionReport {
            revision: RevisionKey::new("models", *name),
            queued,
            ..RevisionReport::default()
        });
        let activator = "activator-0".to_owned();
        Arc::new(Report { activator, scope, revisions: revisions.collect() })
    }

    fn merged(merged: u64) -> Displaced {
        Displaced { merged, dropped: 0 }
    }

    /// A hundred wakes at once, and nobody reads before the last of them.
    #[tokio::test(start_paused = true)]
    async fn no_wake_of_a_burst_is_lost() {
        let outlet = Outlet::new(None);
        let names: Vec<_> = (0..100).map(|number| format!("digits-{number:03}")).collect();
        for name in &names {
            assert_eq!(outlet.put(&report(Scope::Moment, &[name], 1)), merged(0));
        }
        let newest = outlet.put(&report(Scope::Moment, &[&names[7]], 5));
        assert_eq!(newest, merged(1), "the newest counts");
        let told = outlet.next().await;
        assert_eq!(told.activator, "activator-0");
        assert_eq!(told.revisions.len(), 100);
        assert_eq!(told.revisions[7].queued, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_takes_the_place_of_all_before_it_and_what_comes_after_stays_behind_it() {
        let outlet = Outlet::new(Some(report(Scope::Full, &["a"], 0)));
        outlet.put(&report(Scope::Moment, &["a", "b"], 1));
        assert_eq!(outlet.put(&report(Scope::Full, &["a", "b"], 2)), merged(3));
        outlet.put(&report(Scope::Moment, &["c"], 3));
        assert_eq!(outlet.next().await, report(Scope::Full, &["a", "b"], 2));
        assert_eq!(outlet.next().await, report(Scope::Moment, &["c"], 3));
        assert!(outlet.waiting.lock().take().is_none());
    }

    /// A report that is lost must not count as replaced by a newer one.
    #[tokio::test(start_paused = true)]
    async fn words_without_room_count_as_dropped() {
        let outlet = Outlet::new(None);
        let names: Vec<_> = (0..=MOMENTS_MAX).map(|number| number.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let displaced = outlet.put(&report(Scope::Moment, &names, 1));
        assert_eq!(displaced, Displaced { merged: 0, dropped: 1 });
        assert_eq!(outlet.put(&report(Scope::Moment, &[names[0]], 2)), merged(1));
        assert_eq!(outlet.next().await.revisions.len(), MOMENTS_MAX);
    }
}
