//! Which faults are in force, and which have just ended: they excuse what would be a broken rule
//! otherwise.

use std::sync::Arc;
use std::time::Duration;

/// What a fault concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// An activator ends without mercy, with all that it holds.
    Activator,
    /// An activator joins the others, or leaves them in order: they may disagree about who owns a
    /// revision, and no request is lost.
    Member,
    /// An activator, autoscaler or controller is stopped for a while.
    Pause,
    /// Another part of the control plane ends, or begins.
    Control,
    /// A link between two processes.
    Link,
    /// A process's way to the API server: requests fail, or are late, and the process knows it.
    Api,
    /// Its watches say nothing: the process cannot tell that from a time without events.
    Stall,
    /// Only its watch of pods.
    PodWatch,
    /// A pod, by UID: requests inside may break.
    Pod,
    /// Pods of a Service can never start.
    Broken,
    /// A Service's objects: it is deleted, or made.
    Service,
    /// A pod, by UID: its readiness probe fails. Kubernetes takes it first for a lower scale, be that
    /// decided before.
    Unready,
    /// No process at all hears of pods.
    Blindness,
    /// The wall clock.
    Clock,
    /// A scale of a Revision, by UID: an autoscaler that leads no more, or stood still with it, had sent
    /// it, and it came late.
    LateScale,
}

/// Stands for every process.
pub(crate) const ALL: &str = "all";

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

    /// Whether one of that kind about one of these was in force between the two.
    pub(super) fn any(
        &self,
        kinds: &[What],
        whom: impl Fn(&str) -> bool,
        from: Duration,
        to: Duration,
    ) -> bool {
        self.all.iter().any(|entry| {
            kinds.contains(&entry.what)
                && entry.from <= to
                && entry.until.is_none_or(|until| until >= from)
                && whom(&entry.whom)
        })
    }

    /// Whether the activators, and links between two of them, have been well for so long.
    pub(super) fn are_activators_calm(
        &self,
        kinds: &[What],
        now: Duration,
        before: Duration,
    ) -> bool {
        !self.any(kinds, concerns_activators, now.saturating_sub(before), now)
    }

    /// Since when the activators, and links between two of them, have been well for so long;
    /// nothing if they are not.
    pub(super) fn activators_calm_since(
        &self,
        kinds: &[What],
        before: Duration,
    ) -> Option<Duration> {
        let concerned =
            |entry: &&Entry| kinds.contains(&entry.what) && concerns_activators(&entry.whom);
        let mut ends = self.all.iter().filter(concerned).map(|entry| entry.until);
        ends.try_fold(Duration::ZERO, |last, until| Some(last.max(until? + before)))
    }

    /// Since when trouble of these kinds may keep one from knowing what is so at `at`: the beginning
    /// of the first of the disturbances that follow each other with less than `recovery` between two,
    /// the last of which ended less than `recovery` before.
    pub(super) fn unsettled_since(
        &self,
        kinds: &[What],
        whom: impl Fn(&str) -> bool,
        at: Duration,
        recovery: Duration,
    ) -> Option<Duration> {
        let concerned = |entry: &&Entry| kinds.contains(&entry.what) && whom(&entry.whom);
        let mut first = None;
        let mut from = at;
        loop {
            let is_near =
                |until: Option<Duration>| until.is_none_or(|until| until + recovery >= from);
            let near = self.all.iter().filter(concerned).filter(|entry| is_near(entry.until));
            match near.map(|entry| entry.from).min().filter(|begin| *begin < from) {
                Some(earlier) => (first, from) = (Some(earlier), earlier),
                None => return first,
            }
        }
    }

    /// Whether one of that kind about that one has been in force all the time since `since`, be it
    /// one after the other.
    pub(super) fn lasts(&self, what: What, whom: &str, since: Duration) -> bool {
        let own = |entry: &&Entry| entry.what == what && *entry.whom == *whom;
        let open = self.all.iter().filter(own).filter(|entry| entry.until.is_none());
        let Some(mut from) = open.map(|entry| entry.from).min() else { return false };
        loop {
            let covers =
                |entry: &&Entry| entry.from < from && entry.until.is_none_or(|until| until >= from);
            match self.all.iter().filter(own).filter(covers).map(|entry| entry.from).min() {
                Some(earlier) => from = earlier,
                None => return from <= since,
            }
        }
    }
}

/// Whether a disturbance of `whom` concerns an activator, or the link between two of them.
pub(super) fn concerns_activators(whom: &str) -> bool {
    whom == ALL || whom.split(['>', '~']).all(|name| name.starts_with("activator"))
}

/// Whether a disturbance of `whom` concerns that process alone or with all others.
pub(super) fn concerns(name: &str) -> impl Fn(&str) -> bool {
    move |whom| whom == ALL || whom == name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn faults_that_overlap_last_from_the_first_to_the_last() {
        let mut all = Disturbances::default();
        let first = all.begin(What::Link, "a>b".into(), s(0));
        let second = all.begin(What::Link, "a>b".into(), s(10));
        all.end(first, s(12));
        assert!(all.lasts(What::Link, "a>b", s(0)));
        all.begin(What::Link, "a>b".into(), s(20));
        all.end(second, s(15));
        assert!(!all.lasts(What::Link, "a>b", s(0)), "it was well in between");
        assert!(all.lasts(What::Link, "a>b", s(20)));
    }

    #[test]
    fn troubles_that_follow_each_other_are_one() {
        let mut all = Disturbances::default();
        let since = |all: &Disturbances, at| {
            all.unsettled_since(&[What::Api], |whom| whom == "a", s(at), s(5))
        };
        for (from, to) in [(10, 20), (24, 30), (40, 41)] {
            let trouble = all.begin(What::Api, "a".into(), s(from));
            all.end(trouble, s(to));
        }
        all.instant(What::Api, "b".into(), s(35));
        assert_eq!(since(&all, 9), None, "it has not begun");
        assert_eq!(since(&all, 15), Some(s(10)));
        assert_eq!(since(&all, 35), Some(s(10)), "it is not over for 5 s, nor was the first");
        assert_eq!(since(&all, 36), None, "it is over");
        assert_eq!(since(&all, 43), Some(s(40)));
    }

    #[test]
    fn only_faults_of_activators_concern_them() {
        for (whom, does) in [
            ("activator-1", true),
            (ALL, true),
            ("activator-0>activator-2", true),
            ("activator-0>autoscaler-1", false),
            ("controller-0", false),
        ] {
            assert_eq!(concerns_activators(whom), does, "{whom}");
        }
        let mut all = Disturbances::default();
        all.instant(What::Pause, "controller-0".into(), s(9));
        assert_eq!(all.activators_calm_since(&[What::Pause], s(8)), Some(s(0)));
        all.instant(What::Pause, "activator-0".into(), s(9));
        assert_eq!(all.activators_calm_since(&[What::Pause], s(8)), Some(s(17)));
        all.begin(What::Pause, "activator-0".into(), s(20));
        assert_eq!(all.activators_calm_since(&[What::Pause], s(8)), None);
    }
}
