//! Which faults are in force, and which have just ended: they excuse what would be a broken rule
//! otherwise.

use std::sync::Arc;
use std::time::Duration;

/// What a fault concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// An activator ends, or begins.
    Activator,
    /// An activator, autoscaler or controller is stopped for a while.
    Pause,
    /// Another part of the control plane ends, or begins.
    Control,
    /// A link between two processes.
    Link,
    /// A process's way to the API server.
    Api,
    /// Only its watch of pods.
    PodWatch,
    /// Pods of a Service.
    Pod,
    /// Pods of a Service can never start.
    Broken,
    /// A Service's objects: it is deleted, or made.
    Service,
    /// The wall clock.
    Clock,
}

/// A fault in force, to be ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disturbance(usize);

#[derive(Default)]
pub(super) struct Disturbances {
    all: Vec<Entry>,
}

struct Entry {
    what: What,
    whom: Arc<str>,
    from: Duration,
    until: Option<Duration>,
}

impl Disturbances {
    pub(super) fn begin(&mut self, what: What, whom: Arc<str>, now: Duration) -> Disturbance {
        self.all.push(Entry { what, whom, from: now, until: None });
        Disturbance(self.all.len() - 1)
    }

    pub(super) fn end(&mut self, disturbance: Disturbance, now: Duration) {
        self.all[disturbance.0].until = Some(now);
    }

    pub(super) fn instant(&mut self, what: What, whom: Arc<str>, now: Duration) {
        self.all.push(Entry { what, whom, from: now, until: Some(now) });
    }

    /// Whether none of that kind is in force now, or was in the time before.
    pub(super) fn is_calm(&self, kinds: &[What], now: Duration, before: Duration) -> bool {
        !self.any(kinds, None, now.saturating_sub(before), now)
    }

    /// Whether one of that kind, about that one if it is named, was in force between the two.
    pub(super) fn any(
        &self,
        kinds: &[What],
        whom: Option<&str>,
        from: Duration,
        to: Duration,
    ) -> bool {
        self.all.iter().any(|entry| {
            kinds.contains(&entry.what)
                && whom.is_none_or(|whom| *entry.whom == *whom)
                && entry.from <= to
                && entry.until.is_none_or(|until| until >= from)
        })
    }

    /// Whether one of that kind about that one has been in force since before `since`.
    pub(super) fn lasts(&self, what: What, whom: &str, since: Duration) -> bool {
        self.all.iter().any(|entry| {
            entry.what == what
                && *entry.whom == *whom
                && entry.from <= since
                && entry.until.is_none()
        })
    }
}
