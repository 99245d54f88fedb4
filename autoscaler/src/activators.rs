//! Which activators there are, which of them report, and since when all of them do.
//!
//! Activators that may send requests into pods are known from two sides: their own pods, and their
//! reports. An activator *counts* while a container of its pod runs or its requests may still end,
//! and for [`GONE_AFTER`] after a report whatever the state of its pod. Whether the pod is Ready
//! says nothing: a pod that is not Ready gets no new connections, but keeps those that it has. The
//! last report of an activator that counts stands: a silence says nothing about its load.
//!
//! Rule: nothing is lowered unless each activator that counts has reported all of its load, and has
//! reported within [`STALE_AFTER`] what changed of it. An autoscaler that is cut off from some
//! activators, that just started, or that could not list their pods knows only a part of the load,
//! and a part is always too low.

use std::collections::BTreeMap;
use std::time::Duration;

use ebb_api::report::Scope;
use tokio::time::Instant;

/// Silence after which an activator counts as gone, unless its pod may still serve.
pub const GONE_AFTER: Duration = Duration::from_secs(30);
/// Silence after which the known load is too old to lower anything by: four reports in a row lost.
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// Most activators that are kept apart; Knative's own HorizontalPodAutoscaler stops at 20.
pub const ACTIVATORS_MAX: usize = 256;

/// What the pod of an activator is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReporterPod {
    /// A container of it runs, by kubelet's last word: it may serve, wherever it is.
    Running,
    /// No container of it runs, before the first start or between two: it can send nothing.
    Stopped,
    /// It is being deleted, and its requests may take this long to end.
    Terminating(Duration),
}

/// The activators that count.
#[derive(Debug, Default)]
pub struct Activators {
    entries: Vec<Reporter>,
    next_id: u32,
    /// Whether the pods were listed and all had room: until then it is not known which activators
    /// are missing.
    is_listed: bool,
    heard_at: Option<Instant>,
    /// Since when each one that counts has been heard without a break.
    complete_since: Option<Instant>,
}

/// One activator.
#[derive(Debug)]
pub struct Reporter {
    name: String,
    /// Stands for the name in what is kept for each revision.
    pub id: u32,
    pod: Option<Pod>,
    /// When the autoscaler first knew of it.
    known_at: Instant,
    heard_at: Option<Instant>,
    /// When its last report of an interval came. A revision that this report did not name stands as
    /// last reported, or had nothing to report.
    pub full_at: Option<Instant>,
    /// How many full reports came: each takes back what was said before it.
    pub fulls: u64,
}

#[derive(Clone, Copy, Debug)]
enum Pod {
    Running,
    Stopped,
    /// By this process's clock, for the API server's may differ.
    Ending {
        until: Instant,
    },
}

/// The activator and the report that something was learnt from.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// The activator.
    pub id: u32,
    /// How many full reports it had sent by then.
    pub fulls: u64,
}

/// Why the load is not wholly known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// Not all of the activators' pods are known.
    Pods,
    /// These activators, in the order of their names, and how long each has been silent.
    Activators(Vec<(String, Duration)>),
}

// === impl Activators ===

impl Activators {
    /// Takes note of a report; `None` if there are too many activators.
    pub fn heard(&mut self, name: &str, scope: Scope, now: Instant) -> Option<Heard> {
        self.observe(now);
        let index = self.admit(name, now)?;
        let entry = &mut self.entries[index];
        entry.heard_at = Some(now);
        if scope != Scope::Moment {
            entry.full_at = Some(now);
        }
        entry.fulls += u64::from(scope == Scope::Full);
        let heard = Heard { id: entry.id, fulls: entry.fulls };
        self.heard_at = Some(now);
        self.observe(now);
        Some(heard)
    }

    /// Takes note of all existing pods of activators, by the names that the activators report
    /// under. Returns how many had no room: their reports are never known, so nothing is lowered
    /// while there are any.
    pub fn follow(&mut self, pods: &BTreeMap<String, ReporterPod>, now: Instant) -> u64 {
        self.observe(now);
        // An activator whose pod is gone for good is not waited for, not even for as long as a
        // silent one.
        self.entries.retain(|entry| entry.pod.is_none() || pods.contains_key(&entry.name));
        let mut refused = 0;
        for (name, state) in pods {
            if self.entries.len() >= ACTIVATORS_MAX {
                // A pod is better proof of an activator than a name in a report.
                let unproved = self.entries.iter().position(|entry| entry.pod.is_none());
                unproved.map(|index| self.entries.swap_remove(index));
            }
            let Some(index) = self.admit(name, now) else {
                refused += 1;
                continue;
            };
            let entry = &mut self.entries[index];
            entry.pod = Some(match (entry.pod, state) {
                (_, ReporterPod::Running) => Pod::Running,
                (_, ReporterPod::Stopped) => Pod::Stopped,
                (Some(ending @ Pod::Ending { .. }), ReporterPod::Terminating(_)) => ending,
                (_, ReporterPod::Terminating(grace)) => Pod::Ending { until: now + *grace },
            });
        }
        self.is_listed = refused == 0;
        self.observe(now);
        refused
    }

    fn admit(&mut self, name: &str, now: Instant) -> Option<usize> {
        if let Some(index) = self.entries.iter().position(|entry| entry.name == name) {
            return Some(index);
        }
        self.forget_gone(now);
        if self.entries.len() >= ACTIVATORS_MAX {
            return None;
        }
        self.entries.push(Reporter {
            name: name.to_owned(),
            id: self.next_id,
            pod: None,
            known_at: now,
            heard_at: None,
            full_at: None,
            fulls: 0,
        });
        self.next_id = self.next_id.wrapping_add(1);
        Some(self.entries.len() - 1)
    }

    /// Drops the activators that no longer count and have no pod, and returns their names.
    pub fn forget_gone(&mut self, now: Instant) -> Vec<String> {
        self.observe(now);
        self.entries
            .extract_if(.., |entry| entry.pod.is_none() && !entry.counts(now))
            .map(|entry| entry.name)
            .collect()
    }

    /// How many are known, whether they count or not.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The activators that count.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = &Reporter> {
        self.entries.iter().filter(move |entry| entry.counts(now))
    }

    /// The activator with this id, if it counts.
    pub fn find(&self, id: u32, now: Instant) -> Option<&Reporter> {
        self.entries.iter().find(|entry| entry.id == id).filter(|entry| entry.counts(now))
    }

    /// Whether any activator reports at present.
    pub fn is_any_heard(&self, now: Instant) -> bool {
        is_recent(self.heard_at, now)
    }

    /// For how long each activator that counts has been heard without a break; `None` if one is not
    /// heard, if none counts or if their pods are not all known.
    pub fn complete_age(&self, now: Instant) -> Option<Duration> {
        let since = self.complete_since.filter(|_| self.is_complete(now))?;
        Some(now.duration_since(since))
    }

    /// Why the load is not wholly known; `None` if every activator that counts is heard.
    pub fn unheard(&self, now: Instant) -> Option<Unheard> {
        if !self.is_listed {
            return Some(Unheard::Pods);
        }
        let mut silent: Vec<_> = self
            .iter(now)
            .filter(|entry| !entry.is_heard(now))
            .map(|entry| {
                let since = entry.full_at.unwrap_or(entry.known_at);
                (entry.name.clone(), now.duration_since(since))
            })
            .collect();
        silent.sort_unstable();
        (!silent.is_empty()).then_some(Unheard::Activators(silent))
    }

    fn is_complete(&self, now: Instant) -> bool {
        let mut counting = self.iter(now).peekable();
        self.is_listed && counting.peek().is_some() && counting.all(|entry| entry.is_heard(now))
    }

    /// Notes a break, or its end. Called before and after each change, so that a break between two
    /// of them is seen by the later one.
    fn observe(&mut self, now: Instant) {
        self.complete_since =
            if self.is_complete(now) { self.complete_since.or(Some(now)) } else { None };
    }
}

// === impl Reporter ===

impl Reporter {
    /// Whether all of its load is known, as of a moment ago.
    fn is_heard(&self, now: Instant) -> bool {
        self.fulls > 0 && is_recent(self.full_at, now)
    }

    fn counts(&self, now: Instant) -> bool {
        let may_serve = match self.pod {
            Some(Pod::Running) => true,
            Some(Pod::Ending { until }) => now < until,
            Some(Pod::Stopped) | None => false,
        };
        may_serve || self.heard_at.is_some_and(|at| now.duration_since(at) <= GONE_AFTER)
    }
}

fn is_recent(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now.duration_since(at) <= STALE_AFTER)
}

#[cfg(test)]
mod tests;
