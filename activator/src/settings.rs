//! What a Revision asks of the request path: limits, timeouts, protocol and readiness probe.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use ebb_api::annotations::{self, INITIAL_SCALE, MAX_SCALE, MIN_SCALE};
use ebb_api::no_wake::NoWake;
use ebb_api::serving::{Protocol, Revision};
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
    /// The protocol of the pods.
    pub protocol: Protocol,
    /// How to find out whether a pod is ready.
    pub probe: ProbePlan,
    /// The requests that neither wake it nor keep it awake; `None` for most revisions.
    pub no_wake: Option<Box<NoWake>>,
    /// The annotations that its first scale follows from; `None` where Ebb does not scale it.
    pub scaling: Option<BTreeMap<String, String>>,
}

/// The deadlines of one request.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// When the response must have started.
    pub start: Option<Instant>,
    /// When an upgraded connection must have ended. Any other response may go on once it has
    /// started: Knative's suite reads one to its end after `timeoutSeconds` (TestRevisionTimeout),
    /// and ending one early so that it looks complete would deceive its reader.
    pub tunnel_end: Option<Instant>,
    /// Longest pause between two parts of the response.
    pub idle: Option<Duration>,
}

impl Settings {
    /// The settings of `revision`.
    pub fn of(revision: &Revision) -> Self {
        let (spec, annotations) = (&revision.spec, revision.metadata.annotations.as_ref());
        Self {
            uid: revision.metadata.uid.clone(),
            limit: spec.concurrency_limit().and_then(NonZeroU32::new),
            timeout: spec.timeout(),
            response_start_timeout: spec.response_start_timeout(),
            idle_timeout: spec.idle_timeout(),
            protocol: spec.protocol(),
            probe: ProbePlan::of(spec),
            // Admission refuses what cannot be meant; without it, all requests count.
            no_wake: NoWake::of(annotations).ok().flatten().map(Box::new),
            scaling: scaling(annotations),
        }
    }

    /// The deadlines of a request that arrived at `arrived`: waiting for a pod counts, as in
    /// Knative's activator.
    pub fn deadlines(&self, arrived: Instant) -> Deadlines {
        // Knative measures idleness from the last write; before the first write, from the arrival.
        let start = [self.timeout, self.response_start_timeout, self.idle_timeout]
            .into_iter()
            .flatten()
            .min()
            .map(|timeout| arrived + timeout);
        let tunnel_end = self.timeout.map(|timeout| arrived + timeout);
        Deadlines { start, tunnel_end, idle: self.idle_timeout }
    }
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
        let deadlines = Settings::of(&revision).deadlines(arrived);
        assert_eq!(deadlines.start, Some(arrived + Duration::from_secs(20)));
        assert_eq!(deadlines.tunnel_end, Some(arrived + Duration::from_mins(5)));
        revision.spec.idle_timeout_seconds = Some(7);
        let deadlines = Settings::of(&revision).deadlines(arrived);
        assert_eq!(deadlines.start, Some(arrived + Duration::from_secs(7)));
    }
}
