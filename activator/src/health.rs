//! How the requests to a pod end, and when the pod is left out for a while.
//!
//! Pure, but for counters that requests share. A pod that fails fast always has free slots, so that
//! a balancer which looks at load alone would send it ever more. And a pod that answers its probe
//! but refuses requests would be probed, tried and suspected without a pause.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

/// Failures in a row after which a pod is left out: Envoy's `consecutive_gateway_failure`.
pub const FAILURES_MAX: u32 = 5;
/// How long it is left out the first time; twice as long each further time.
pub const EJECTION_FIRST: Duration = Duration::from_secs(1);
/// How long it is left out at the most.
pub const EJECTION_MAX: Duration = Duration::from_secs(32);
/// After this long without an ejection, the next one counts as the first again.
const FORGIVEN_AFTER: Duration = Duration::from_mins(1);
/// Pause before the second probe in a row of a pod that refused a connection; doubles.
const PROBE_PAUSE_FIRST: Duration = Duration::from_millis(10);
/// The longest such pause.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How the latest requests to one pod ended.
#[derive(Debug, Default)]
pub struct Health {
    /// Failures since the last success.
    failures: AtomicU32,
    /// Refused connections since the last success.
    refusals: AtomicU32,
}

/// When a pod is left out.
#[derive(Debug, Default)]
pub struct Ejection {
    until: Option<Instant>,
    ended: Option<Instant>,
    times: u32,
}

/// Whether a response with this status says that the pod itself is broken. A model may answer 500
/// to a request that nobody could serve.
pub const fn is_failure(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether one more of the `open` pods may be left out when `ejected` others are: at most half of
/// all pods, and never the only one. A failure of all pods is the model's fault, not theirs.
pub const fn may_eject(ejected: usize, open: usize) -> bool {
    ejected + 1 < open
}

/// Whether too many pods are left out, after some of the others have gone.
pub const fn is_excess(ejected: usize, open: usize) -> bool {
    ejected > open
}

// === impl Health ===

impl Health {
    /// A request was served.
    pub fn good(&self) {
        // Mostly there is nothing to write, so that processors need not pass the cache line around.
        for count in [&self.failures, &self.refusals] {
            if count.load(Ordering::Relaxed) != 0 {
                count.store(0, Ordering::Relaxed);
            }
        }
    }

    /// A request failed in the pod; true when there have been too many in a row.
    pub fn bad(&self) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= FAILURES_MAX
    }

    /// A connection was refused.
    pub fn refused(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// How long to wait before the pod is probed: not at all after its first refusal.
    pub fn probe_pause(&self) -> Duration {
        match self.refusals.load(Ordering::Relaxed) {
            0 | 1 => Duration::ZERO,
            refusals => doubled(PROBE_PAUSE_FIRST, refusals - 2, PROBE_PAUSE_MAX),
        }
    }
}

// === impl Ejection ===

impl Ejection {
    /// Leaves the pod out from `now` on.
    pub fn begin(&mut self, now: Instant) {
        let forgiven = |ended: &Instant| now.saturating_duration_since(*ended) >= FORGIVEN_AFTER;
        if self.ended.as_ref().is_some_and(forgiven) {
            self.times = 0;
        }
        self.until = Some(now + doubled(EJECTION_FIRST, self.times, EJECTION_MAX));
        self.times = self.times.saturating_add(1);
    }

    /// Takes the pod back.
    pub fn end(&mut self, now: Instant) {
        self.until = None;
        self.ended = Some(now);
    }

    /// Until when the pod is left out, if it is.
    pub const fn until(&self) -> Option<Instant> {
        self.until
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_are_too_many() {
        let health = Health::default();
        for _ in 0..10 {
            for _ in 1..FAILURES_MAX {
                assert!(!health.bad());
            }
            health.good();
        }
        for _ in 1..FAILURES_MAX {
            assert!(!health.bad());
        }
        assert!(health.bad() && health.bad());
    }

    #[test]
    fn an_ejection_is_longer_each_time_and_forgiven_after_a_while() {
        let (mut ejection, mut now) = (Ejection::default(), Instant::now());
        let mut next = |pause: u64| {
            now += Duration::from_secs(pause);
            ejection.begin(now);
            let until = ejection.until().unwrap();
            let length = until - now;
            now = until;
            ejection.end(now);
            length.as_secs()
        };
        let lengths: Vec<_> = (0..7).map(|_| next(1)).collect();
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 32]);
        assert_eq!(next(60), 1);
    }

    #[test]
    fn at_most_half_are_left_out_and_never_the_only_one() {
        for ready in 0..20 {
            let mut ejected = 0;
            while may_eject(ejected, ready - ejected) {
                ejected += 1;
                assert!(!is_excess(ejected, ready - ejected));
            }
            assert_eq!(ejected, ready / 2, "of {ready}");
        }
    }

    #[test]
    fn a_pod_that_refuses_again_and_again_is_probed_more_rarely() {
        let health = Health::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            health.refused();
            pauses.push(health.probe_pause().as_millis());
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        health.good();
        assert_eq!(health.probe_pause(), Duration::ZERO);
    }
}
