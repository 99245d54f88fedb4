//! The load of one revision, gathered from the reports of all activators.
//!
//! Each activator's newest report of the revision counts until its next one. A later full report
//! that does not name the revision takes it back, a silence does not (see [`crate::activators`]).
//! Reports come over the network, so each number is bounded here, and a value that is no number
//! changes nothing.

use std::sync::Arc;

use ebb_api::report::{OrderId, PodReport, RevisionReport};
use tokio::time::Instant;

use crate::activators::{Activators, Heard, STALE_AFTER};
use crate::decision::Averages;
use crate::event::Moment;
use crate::pods::Pods;
use crate::spec::{Metric, ScalingSpec};
use crate::window::Window;

/// Largest load that one activator is believed to have: more connections than one host holds.
pub const LOAD_MAX: f64 = 1e6;
/// Most pods of one revision in one report; the rest is cut off, and a pod that is cut off is
/// never taken for idle.
pub const PODS_MAX: usize = 5_000;

/// The load of one revision, as far as it is known.
#[derive(Debug)]
pub struct RevisionLoad {
    metric: Metric,
    window: Window,
    words: Vec<Words>,
}

/// The newest report of one activator about the revision.
#[derive(Debug)]
struct Words {
    heard: Heard,
    at: Instant,
    concurrency: f64,
    rps: f64,
    queued: u32,
    obeyed: OrderId,
    /// Sorted by UID.
    pods: Vec<PodReport>,
    /// Whether the activator knows of more pods.
    is_cut: bool,
    /// Whether the activator drains any of them.
    is_draining: bool,
}

/// The last report of one activator that counts about the revision's pods.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReporterView<'a> {
    /// When it reported; `None` if no report of it has covered the revision yet.
    pub at: Option<Instant>,
    /// The order that it obeyed then.
    pub obeyed: OrderId,
    /// The pods it named, sorted by UID.
    pub pods: &'a [PodReport],
    /// Whether it knows of more pods.
    pub is_cut: bool,
}

// === impl ReporterView ===

impl ReporterView<'_> {
    /// The report about that pod.
    pub fn pod(&self, uid: &str) -> Option<&PodReport> {
        let found = self.pods.binary_search_by(|pod| (*pod.uid).cmp(uid));
        found.ok().map(|index| &self.pods[index])
    }
}

// === impl RevisionLoad ===

impl RevisionLoad {
    /// No load yet, measured as the spec asks.
    pub fn new(spec: &ScalingSpec) -> Self {
        Self { metric: spec.metric, window: Window::new(seconds(spec)), words: Vec::new() }
    }

    /// Follows a changed spec; another metric starts with an empty window.
    pub fn follow(&mut self, spec: &ScalingSpec) {
        self.window.resize(seconds(spec));
        if self.metric != spec.metric {
            self.metric = spec.metric;
            self.window.clear();
        }
    }

    /// Takes in an activator's report, at this second of the windows, of a revision that has these
    /// pods. Returns the number of faults: loads that were no number or out of bounds, and a list
    /// of pods that was cut.
    pub fn record(
        &mut self,
        heard: Heard,
        report: RevisionReport,
        activators: &Activators,
        pods: &Pods,
        Moment { instant: now, second }: Moment,
    ) -> u64 {
        let known = pods;
        self.forget(activators, Some(heard.id), now);
        let mut faults = 0;
        let before = self.words.iter().position(|words| words.heard.id == heard.id);
        let (concurrency, rps) = before
            .map_or((0.0, 0.0), |index| (self.words[index].concurrency, self.words[index].rps));
        let mut mean = bounded(report.concurrency_mean, concurrency, &mut faults);
        let mut arrivals = bounded(report.requests_per_second, rps, &mut faults);
        if !is_full(&report) {
            // A first request: there is no interval to take a mean of, only a number at this
            // instant. It may raise what is known, never lower it.
            mean = mean.max(f64::from(report.queued).min(LOAD_MAX)).max(concurrency);
            arrivals = arrivals.max(rps);
        }
        let mut pods = report.pods;
        let is_cut = report.is_cut || pods.len() > PODS_MAX;
        faults += u64::from(is_cut);
        pods.truncate(PODS_MAX);
        pods.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
        share(&mut pods, known);
        pods.shrink_to_fit();
        let is_draining = pods.iter().any(|pod| pod.draining);
        let words = Words {
            heard,
            at: now,
            concurrency: mean,
            rps: arrivals,
            queued: report.queued,
            obeyed: report.obeyed,
            pods,
            is_cut,
            is_draining,
        };
        match before {
            Some(index) => self.words[index] = words,
            None => self.words.push(words),
        }
        self.window.record(second, self.total());
        faults
    }

    /// Forgets outdated reports and brings the window up to this second. `awake` says whether
    /// anything runs or should: a revision at zero with no load leaves no zeros behind, so that its
    /// next burst is not averaged away.
    pub fn settle(&mut self, activators: &Activators, now: Instant, second: u64, awake: bool) {
        self.forget(activators, None, now);
        if !activators.is_any_heard(now) {
            return;
        }
        let total = self.total();
        if total <= 0.0 && !awake {
            return;
        }
        let span = self.window_gap(second);
        for at in span {
            self.window.record(at, total);
        }
    }

    /// Forgets the reports of activators that no longer count, or whose later full report did not
    /// name the revision.
    fn forget(&mut self, activators: &Activators, except: Option<u32>, now: Instant) {
        self.words.retain(|words| {
            let spoken = activators
                .find(words.heard.id, now)
                .is_some_and(|activator| activator.fulls == words.heard.fulls);
            spoken || except == Some(words.heard.id)
        });
    }

    /// The seconds since the last value; the present one alone if that value is older than
    /// [`STALE_AFTER`].
    fn window_gap(&self, second: u64) -> std::ops::RangeInclusive<u64> {
        let oldest = second.saturating_sub(STALE_AFTER.as_secs());
        match self.window.newest() {
            Some(newest) if newest >= oldest => newest + 1..=second,
            _ => second..=second,
        }
    }

    /// The averages of both windows; `None` if the newest value is too old to decide by.
    pub fn averages(&self, spec: &ScalingSpec, second: u64) -> Option<Averages> {
        let newest = self.window.newest()?;
        if second.saturating_sub(newest) > STALE_AFTER.as_secs() {
            return None;
        }
        let average = |span| self.window.average(spec.aggregation, second, span);
        let stable = average(seconds(spec))?;
        // A panic window of a second or two may fall between two reports.
        let panic = average(whole(spec.panic_window)).unwrap_or(stable);
        Some(Averages { stable, panic })
    }

    /// Whether a request waits for a pod.
    pub fn is_queued(&self) -> bool {
        self.words.iter().any(|words| words.queued > 0)
    }

    /// Whether there is any request, waiting or in flight.
    pub fn is_demanded(&self) -> bool {
        self.is_queued() || self.words.iter().any(|words| words.concurrency > 0.0)
    }

    /// Whether any activator named that pod in its last report.
    pub fn names(&self, uid: &str) -> bool {
        let known = |words: &Words| words.pods.binary_search_by(|pod| (*pod.uid).cmp(uid)).is_ok();
        self.words.iter().any(known)
    }

    /// Requests in that pod, as the last reports say.
    pub fn in_flight(&self, uid: &str) -> u64 {
        let reports = self.words.iter().filter_map(|words| {
            let found = words.pods.binary_search_by(|pod| (*pod.uid).cmp(uid)).ok()?;
            Some(u64::from(words.pods[found].in_flight))
        });
        reports.sum()
    }

    /// How many pods the last reports name, one that several name for each of them.
    pub fn named(&self) -> usize {
        self.words.iter().map(|words| words.pods.len()).sum()
    }

    /// How many activators' reports are kept.
    pub fn reports(&self) -> usize {
        self.words.len()
    }

    /// The pods that any activator drains.
    pub fn drained(&self) -> impl Iterator<Item = &PodReport> {
        let words = self.words.iter().filter(|words| words.is_draining);
        words.flat_map(|words| &words.pods).filter(|pod| pod.draining)
    }

    /// The last report of each activator that counts about the pods.
    pub fn views<'a>(&'a self, activators: &'a Activators, now: Instant) -> Vec<ReporterView<'a>> {
        activators
            .iter(now)
            .map(|activator| {
                let words = self.words.iter().find(|words| {
                    words.heard.id == activator.id && words.heard.fulls == activator.fulls
                });
                match words {
                    Some(words) => ReporterView {
                        // A later report of changes that does not name the revision confirms the
                        // last one.
                        at: activator.full_at.max(Some(words.at)),
                        obeyed: words.obeyed,
                        pods: &words.pods,
                        is_cut: words.is_cut,
                    },
                    None => ReporterView { at: activator.full_at, ..ReporterView::default() },
                }
            })
            .collect()
    }

    fn total(&self) -> f64 {
        self.words
            .iter()
            .map(|words| match self.metric {
                Metric::Concurrency => words.concurrency,
                Metric::Rps => words.rps,
            })
            .sum()
    }
}

/// Whether a report covers an interval. One that does not tells of a first request, or of an order
/// obeyed, and says nothing about other revisions.
pub fn is_full(report: &RevisionReport) -> bool {
    report.interval_s > 0.0
}

/// Lets the reports share the UIDs of the pods that are known: each activator names each pod each
/// second, in a string of its own.
fn share(reports: &mut [PodReport], known: &Pods) {
    for report in reports {
        if let Some(pod) = known.get(&report.uid) {
            report.uid = Arc::clone(&pod.uid);
        }
    }
}

/// A value as a load: if it is no number, or below zero, the last one stays in force.
fn bounded(value: f64, last: f64, faults: &mut u64) -> f64 {
    if !value.is_finite() || value < 0.0 {
        *faults += 1;
        return last;
    }
    *faults += u64::from(value > LOAD_MAX);
    value.min(LOAD_MAX)
}

fn seconds(spec: &ScalingSpec) -> usize {
    whole(spec.stable_window)
}

fn whole(duration: std::time::Duration) -> usize {
    usize::try_from(duration.as_secs()).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests;
