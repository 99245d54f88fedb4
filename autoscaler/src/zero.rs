//! The way to zero and back: active for a stable window, inactive, gone.
//!
//! Source: knative/serving pkg/reconciler/autoscaling/kpa/scaler.go (`handleScaleToZero`) and
//! kpa.go (`computeActiveCondition`). Knative waits for a grace period so that its ingress can be
//! turned to the activator. Ebb's activator is always in the path, which is Knative's own fast path
//! ("in proxy mode for longer than the grace period"). Here all activators must have reported for
//! that long, for without their reports nobody could wake the revision again.

use std::time::Duration;

use ebb_api::condition::{Condition, Status};
use ebb_api::serving::RevisionStatus;
use tokio::time::Instant;

use crate::bounds::Bounds;
use crate::spec::ScalingSpec;

/// The state that the condition `Active` says, and since when it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveState {
    /// Replicas are on their way (Unknown, `Queued`).
    Activating {
        /// When it began.
        since: Instant,
    },
    /// Enough replicas are ready (True).
    Active {
        /// When it began.
        since: Instant,
    },
    /// There is no traffic (False).
    Inactive {
        /// When it began.
        since: Instant,
        /// Whether an activation took too long and so ended here (`TimedOut`, else `NoTraffic`).
        timed_out: bool,
    },
}

/// The inputs of the way to zero.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// Replicas asked for, within the bounds.
    pub desired: u32,
    /// Replicas asked for now.
    pub current: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// The bounds in force.
    pub bounds: Bounds,
    /// For how long without a break every activator has been heard, so that the revision could have
    /// been woken.
    pub complete_age: Option<Duration>,
}

// === impl ActiveState ===

impl ActiveState {
    /// The state that an earlier autoscaler's decisions led to, as far as the condition `Active`
    /// tells.
    pub fn recall(active: Option<&Condition>, since: Instant) -> Self {
        match active.map(|condition| (condition.status, condition.reason.as_deref())) {
            Some((Status::True, _)) => Self::Active { since },
            Some((Status::False, reason)) => {
                Self::Inactive { since, timed_out: reason == Some(RevisionStatus::TIMED_OUT.0) }
            }
            Some((Status::Unknown, _)) | None => Self::Activating { since },
        }
    }

    /// Whether replicas are on their way.
    pub fn is_activating(&self) -> bool {
        matches!(self, Self::Activating { .. })
    }

    /// Whether replicas have been on their way for longer than they may.
    pub fn is_overdue(&self, spec: &ScalingSpec, now: Instant) -> bool {
        matches!(self, Self::Activating { since }
            if now.duration_since(*since) >= spec.activation_timeout)
    }

    /// Whether an activation took too long and was ended.
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::Inactive { timed_out: true, .. })
    }

    /// Whether there is no traffic.
    pub fn is_inactive(&self) -> bool {
        matches!(self, Self::Inactive { .. })
    }

    /// The scale to aim at, and the activity that goes with it.
    pub fn next(self, outlook: &Outlook, spec: &ScalingSpec, now: Instant) -> (u32, Self) {
        let mut desired = outlook.desired;
        if desired == 0 && outlook.bounds.min_ready == 0 {
            // initial-scale 0: nothing was ever asked for.
            return (0, self.inactive(false, now));
        }
        if desired == 0 && !spec.to_zero {
            desired = 1;
        }
        if desired > 0 {
            return (desired, self.awake(outlook, now));
        }
        if outlook.current == 0 {
            return (0, self.inactive(false, now));
        }
        match self.settled(outlook, now) {
            activating @ Self::Activating { .. } => {
                if activating.is_overdue(spec, now) {
                    (0, activating.inactive(true, now))
                } else {
                    (outlook.current, activating)
                }
            }
            active @ Self::Active { since } => {
                if now.duration_since(since) >= spec.stable_window {
                    active.inactive(false, now).last(outlook, spec, now)
                } else {
                    (1, active)
                }
            }
            inactive @ Self::Inactive { .. } => inactive.last(outlook, spec, now),
        }
    }

    /// Ends an activation that has reached its replicas, asked for or not.
    fn settled(self, outlook: &Outlook, now: Instant) -> Self {
        match self {
            Self::Inactive { .. } => self,
            Self::Activating { .. } | Self::Active { .. } => self.awake(outlook, now),
        }
    }

    /// Inactive with replicas left: keeps the last one for as long as it must stay.
    fn last(self, outlook: &Outlook, spec: &ScalingSpec, now: Instant) -> (u32, Self) {
        let since = match self {
            Self::Inactive { since, .. } => since,
            Self::Activating { .. } | Self::Active { .. } => now,
        };
        let retained = now.duration_since(since) >= spec.retention;
        let wakeable = outlook.complete_age.is_some_and(|age| age >= spec.grace);
        (u32::from(!(retained && wakeable)), self)
    }

    fn awake(self, outlook: &Outlook, now: Instant) -> Self {
        let enough = outlook.ready >= outlook.bounds.min_ready;
        match (self, enough) {
            (Self::Active { .. }, true) | (Self::Activating { .. }, false) => self,
            (_, true) => Self::Active { since: now },
            (_, false) => Self::Activating { since: now },
        }
    }

    fn inactive(self, timed_out: bool, now: Instant) -> Self {
        match self {
            Self::Inactive { .. } => self,
            Self::Activating { .. } | Self::Active { .. } => {
                Self::Inactive { since: now, timed_out }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ebb_api::config::Config;

    use super::*;
    use crate::bounds::Stage;

    fn spec(retention_s: u64) -> ScalingSpec {
        ScalingSpec {
            retention: Duration::from_secs(retention_s),
            ..ScalingSpec::resolve(0, true, &BTreeMap::new(), &Config::default())
        }
    }

    fn outlook(desired: u32, ready: u32, age_s: Option<u64>) -> Outlook {
        Outlook {
            desired,
            current: 1,
            ready,
            bounds: Bounds::of(&spec(0), Stage::Initialized),
            complete_age: age_s.map(Duration::from_secs),
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_replica_goes_once_it_was_active_for_a_stable_window() {
        let start = Instant::now();
        let active = ActiveState::Active { since: start };
        let next = |second| {
            let idle = outlook(0, 1, Some(60));
            active.next(&idle, &spec(0), after(start, second))
        };
        assert_eq!(next(59), (1, active));
        assert_eq!(next(60).0, 0);
        assert!(next(60).1.is_inactive());
    }

    #[tokio::test(start_paused = true)]
    async fn retention_is_a_hard_minimum_and_the_grace_period_is_the_reports() {
        let start = Instant::now();
        let inactive = ActiveState::Inactive { since: start, timed_out: false };
        // (retention, seconds inactive, for how long all were heard, scale)
        for (retention_s, inactive_s, age_s, scale) in [
            (0, 0, Some(30), 0),
            (0, 0, Some(29), 1),
            (0, 500, None, 1),
            (40, 39, Some(500), 1),
            (40, 40, Some(500), 0),
        ] {
            let now = after(start, inactive_s);
            let next = inactive.next(&outlook(0, 1, age_s), &spec(retention_s), now);
            assert_eq!(next, (scale, inactive), "{retention_s} {inactive_s} {age_s:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_activation_that_takes_too_long_ends_at_zero_and_says_so() {
        let start = Instant::now();
        let activating = ActiveState::Activating { since: start };
        let next =
            |second| activating.next(&outlook(0, 0, Some(60)), &spec(0), after(start, second));
        assert_eq!(next(629), (1, activating));
        let failed = ActiveState::Inactive { since: after(start, 630), timed_out: true };
        assert_eq!(next(630), (0, failed));
    }

    #[tokio::test(start_paused = true)]
    async fn demand_wakes_and_readiness_makes_active() {
        let start = Instant::now();
        let inactive = ActiveState::Inactive { since: start, timed_out: false };
        let now = after(start, 5);
        let (want, woken) = inactive.next(&outlook(1, 0, None), &spec(0), now);
        assert_eq!((want, woken), (1, ActiveState::Activating { since: now }));
        let later = after(start, 6);
        let (want, active) = woken.next(&outlook(1, 1, None), &spec(0), later);
        assert_eq!((want, active), (1, ActiveState::Active { since: later }));
        let (_, lost) = active.next(&outlook(1, 0, None), &spec(0), later);
        assert!(lost.is_activating());
    }

    #[tokio::test(start_paused = true)]
    async fn without_scale_to_zero_one_replica_stays() {
        let start = Instant::now();
        let spec = ScalingSpec { to_zero: false, ..spec(0) };
        let active = ActiveState::Active { since: start };
        let next = active.next(&outlook(0, 1, Some(600)), &spec, after(start, 600));
        assert_eq!(next, (1, active));
    }

    #[tokio::test(start_paused = true)]
    async fn an_initial_scale_of_zero_is_inactive_from_the_start() {
        let start = Instant::now();
        let never = ScalingSpec { initial_scale: 0, ..spec(0) };
        let fresh = Outlook {
            current: 0,
            bounds: Bounds::of(&never, Stage::Starting),
            ..outlook(0, 0, None)
        };
        let (want, activity) = ActiveState::Activating { since: start }.next(&fresh, &never, start);
        assert_eq!(want, 0);
        assert!(activity.is_inactive());
    }
}
