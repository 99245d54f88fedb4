//! What a Revision asks of the request path: limits, timeouts, protocol and readiness probe.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use ebb_api::annotations::{self, INITIAL_SCALE, MAX_SCALE, MIN_SCALE};
use ebb_api::config::Config;
use ebb_api::no_wake::NoWake;
use ebb_api::progress;
use ebb_api::serving::{Protocol, Revision};
use ebb_api::standby::Standby;
use ebb_api::start_timeout::{self, StartTimeout};
use ebb_api::starts::Starts;
use ebb_api::waiting_events::WaitingEvents;
use ebb_api::waiting_page;
use tokio::time::Instant;

use crate::probe::ProbePlan;

/// The settings of one Revision; a Revision never changes, so neither do they.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// UID of the Revision.
    pub uid: Option<String>,
    /// Hard limit of requests at once in one pod.
    pub limit: Option<NonZeroU32>,
    /// Longest time from arrival to the start of the response, and to the end of a tunnel.
    pub timeout: Option<Duration>,
    /// Longest time from arrival to the start of the response.
    pub response_start_timeout: Option<Duration>,
    /// Longest pause between two parts of the response, and from arrival to the first.
    pub idle_timeout: Option<Duration>,
    /// How long a request may wait for a pod. With it the other times count from when it has one.
    pub start_limit: Option<StartLimit>,
    /// Whether browsers get a page while they wait.
    pub has_waiting_page: bool,
    /// What clients that read events get while they wait.
    pub waiting_events: WaitingEvents,
    /// The time within which nine of ten starts were done, where any was measured.
    pub usual_start: Option<Duration>,
    /// The protocol of the pods.
    pub protocol: Protocol,
    /// How to find out whether a pod is ready.
    pub probe: ProbePlan,
    /// The requests that neither wake it nor keep it awake; `None` for most revisions.
    pub no_wake: Option<Box<NoWake>>,
    /// How its last replica sleeps; `None` for most revisions.
    pub standby: Option<Box<Standby>>,
    /// The annotations that its first scale follows from; `None` where Ebb does not scale it.
    pub scaling: Option<BTreeMap<String, String>>,
}

/// Longest steps of a start that a hop before waits for: a pod that is made anew once, and is pending
/// and loads each time.
const STEPS_MAX: u32 = 4;

/// How long a request may wait for a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartLimit {
    /// So long from its arrival.
    Fixed(Duration),
    /// So long from its arrival, and from each step that a start makes since.
    Auto {
        /// While the model loads.
        loading: Duration,
        /// While Kubernetes looks for a node, and the node pulls the image: nobody sees how far.
        pending: Duration,
    },
}

/// The deadlines of one request.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// When a pod must have the request, where that is apart from the rest.
    pub pod: Option<Instant>,
    /// When the response must have started.
    pub start: Option<Instant>,
    /// When an upgraded connection must have ended. Any other response may go on once it has
    /// started: Knative's suite reads one to its end after `timeoutSeconds` (TestRevisionTimeout),
    /// and ending one early so that it looks complete would deceive its reader.
    pub tunnel_end: Option<Instant>,
    /// Longest pause between two parts of the response.
    pub idle: Option<Duration>,
}

// === impl Deadlines ===

impl Deadlines {
    /// When a request that waits for a pod must have one.
    pub fn wait_end(&self) -> Option<Instant> {
        self.pod.or(self.start)
    }
}

// === impl Settings ===

impl Settings {
    /// The settings of `revision` under those of the platform.
    pub fn of(revision: &Revision, config: &Config) -> Self {
        let (spec, annotations) = (&revision.spec, revision.metadata.annotations.as_ref());
        let starts = Starts::of(revision);
        Self {
            uid: revision.metadata.uid.clone(),
            limit: spec.concurrency_limit().and_then(NonZeroU32::new),
            timeout: spec.timeout(),
            response_start_timeout: spec.response_start_timeout(),
            idle_timeout: spec.idle_timeout(),
            start_limit: start_limit(annotations, &starts, config),
            usual_start: starts.p90(),
            has_waiting_page: waiting_page::of(annotations).unwrap_or(false),
            waiting_events: WaitingEvents::of(annotations).unwrap_or_default(),
            protocol: spec.protocol(),
            probe: ProbePlan::of(spec),
            // Admission refuses what cannot be meant; without it, all requests count.
            no_wake: NoWake::of(annotations).ok().flatten().map(Box::new),
            standby: Standby::of(annotations).ok().flatten().map(Box::new),
            scaling: scaling(annotations),
        }
    }

    /// The deadlines of a request that arrived at `arrived`, before it has a pod. Waiting for one
    /// counts as in Knative's activator, unless it has a time of its own; then the deadlines for the
    /// response are those of a request that gets its pod at the last moment.
    pub fn deadlines(&self, arrived: Instant) -> Deadlines {
        let Some(limit) = self.start_limit else {
            return self.deadlines_from(arrived);
        };
        let (first, last) = match limit {
            StartLimit::Fixed(time) => (time, time),
            // Then it is looked what the request waits for.
            StartLimit::Auto { loading, pending } => {
                let first = self.response_timeout().map_or(loading, |own| own.min(loading));
                (first, (pending.max(loading) * STEPS_MAX).min(start_timeout::LONGEST))
            }
        };
        Deadlines { pod: Some(arrived + first), ..self.deadlines_from(arrived + last) }
    }

    /// The deadlines of a request that had `before`, and has its pod `now`.
    pub fn deadlines_in_pod(&self, before: Deadlines, now: Instant) -> Deadlines {
        match before.pod {
            Some(_) => Deadlines { pod: before.pod, ..self.deadlines_from(now) },
            None => before,
        }
    }

    /// Longest time to the start of the response.
    pub fn response_timeout(&self) -> Option<Duration> {
        // Knative measures idleness from the last write; before the first write, from the arrival.
        [self.timeout, self.response_start_timeout, self.idle_timeout].into_iter().flatten().min()
    }

    /// Whether these are the settings `other` but for what is known of starts.
    pub fn is_same_but_for_starts(&self, other: &Self) -> bool {
        let Self { start_limit, usual_start, .. } = other;
        let told = Self { start_limit: *start_limit, usual_start: *usual_start, ..self.clone() };
        told == *other
    }

    fn deadlines_from(&self, begin: Instant) -> Deadlines {
        let start = self.response_timeout().map(|timeout| begin + timeout);
        let tunnel_end = self.timeout.map(|timeout| begin + timeout);
        Deadlines { pod: None, start, tunnel_end, idle: self.idle_timeout }
    }
}

fn start_limit(
    annotations: Option<&BTreeMap<String, String>>,
    starts: &Starts,
    config: &Config,
) -> Option<StartLimit> {
    // Admission refuses what cannot be meant; without it, the wait counts.
    Some(match start_timeout::of(annotations).ok().flatten()? {
        StartTimeout::Fixed(time) => StartLimit::Fixed(time),
        StartTimeout::Auto => {
            let pending = progress::deadline(annotations, config);
            let loading = starts.longest_likely().map_or(pending, start_timeout::auto);
            StartLimit::Auto { loading, pending }
        }
    })
}

fn scaling(annotations: Option<&BTreeMap<String, String>>) -> Option<BTreeMap<String, String>> {
    let kept = |key: annotations::Key| {
        let (name, value) = key.find(annotations)?;
        Some((name.to_owned(), value.to_owned()))
    };
    annotations::is_scaled_here(annotations)
        .then(|| [INITIAL_SCALE, MIN_SCALE, MAX_SCALE].into_iter().filter_map(kept).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_timeout_bounds_the_start_of_the_response() {
        let mut revision = Revision::default();
        revision.spec.timeout_seconds = Some(300);
        revision.spec.response_start_timeout_seconds = Some(20);
        let arrived = Instant::now();
        let deadlines = Settings::of(&revision, &Config::default()).deadlines(arrived);
        assert_eq!(deadlines.start, Some(arrived + Duration::from_secs(20)));
        assert_eq!(deadlines.tunnel_end, Some(arrived + Duration::from_mins(5)));
        revision.spec.idle_timeout_seconds = Some(7);
        let deadlines = Settings::of(&revision, &Config::default()).deadlines(arrived);
        assert_eq!(deadlines.start, Some(arrived + Duration::from_secs(7)));
    }

    #[test]
    fn with_a_start_timeout_the_others_begin_with_the_pod() {
        let mut revision = Revision::default();
        revision.spec.timeout_seconds = Some(300);
        let key = start_timeout::START_TIMEOUT.name().to_owned();
        revision.metadata.annotations = Some([(key, "10m".to_owned())].into());
        let (settings, arrived) = (Settings::of(&revision, &Config::default()), Instant::now());
        let before = settings.deadlines(arrived);
        assert_eq!(before.pod, Some(arrived + Duration::from_mins(10)));
        assert_eq!(before.start, Some(arrived + Duration::from_mins(15)), "for a hop before");
        let late = arrived + Duration::from_mins(9);
        let inside = settings.deadlines_in_pod(before, late);
        assert_eq!(inside.pod, before.pod, "it may have to wait again");
        assert_eq!(inside.start, Some(late + Duration::from_mins(5)));
        assert_eq!(inside.tunnel_end, inside.start);
    }
}
