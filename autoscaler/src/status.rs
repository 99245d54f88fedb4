//! The status of a PodAutoscaler, as a function of what was decided and seen.
//!
//! Reasons and messages are Knative's (knative/serving pkg/apis/autoscaling/v1alpha1 and
//! pkg/reconciler/autoscaling/kpa/kpa.go): `kn` and people's dashboards read them.

use ebb_api::autoscaling::PodAutoscalerStatus;
use ebb_api::condition;
use jiff::Timestamp;

use crate::zero::Activity;

/// Why a revision is inactive in the ordinary way.
const NO_TRAFFIC: (&str, &str) = ("NoTraffic", "The target is not receiving traffic.");
/// Why a revision is inactive after a failed activation.
const TIMED_OUT: (&str, &str) = ("TimedOut", "The target could not be activated.");
/// Why a revision is neither.
const QUEUED: (&str, &str) =
    ("Queued", "Requests to the target are being buffered as resources are provisioned.");

/// What a status is made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Generation of the spec that was followed.
    pub generation: Option<i64>,
    /// Replicas to ask for.
    pub desired: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// What `Active` says.
    pub activity: Activity,
    /// Whether the initial scale was ever reached.
    pub is_initialized: bool,
}

/// The status that follows from `previous` and the facts; equal to `previous` when nothing
/// changed.
pub fn compose(
    previous: &PodAutoscalerStatus,
    facts: &Facts,
    wall: Timestamp,
) -> PodAutoscalerStatus {
    let mut status = previous.clone();
    status.observed_generation = facts.generation;
    status.desired_scale = Some(signed(facts.desired));
    status.actual_scale = Some(signed(facts.ready));
    let mut conditions = PodAutoscalerStatus::CONDITIONS.manage(&mut status.conditions, wall);
    conditions.initialize();
    conditions.mark_true(PodAutoscalerStatus::SKS_READY);
    if facts.is_initialized {
        conditions.mark_true(PodAutoscalerStatus::SCALE_TARGET_INITIALIZED);
    }
    let active = PodAutoscalerStatus::ACTIVE;
    match facts.activity {
        Activity::Active { .. } => conditions.mark_true(active),
        Activity::Activating { .. } => conditions.mark_unknown(active, QUEUED.0, QUEUED.1),
        Activity::Inactive { timed_out, .. } => {
            let (reason, message) = if timed_out { TIMED_OUT } else { NO_TRAFFIC };
            conditions.mark_false(active, reason, message);
        }
    }
    status
}

/// Whether somebody acts on the step from one status to the other: the controller on another
/// scale, or on the initial one being reached; people on a spec being followed. A first status
/// asks for no more than the `initial` scale, with which the Deployment was made.
pub fn is_pressing(old: &PodAutoscalerStatus, new: &PodAutoscalerStatus, initial: u32) -> bool {
    let initialized = |status: &PodAutoscalerStatus| {
        condition::find(&status.conditions, PodAutoscalerStatus::SCALE_TARGET_INITIALIZED)
            .is_some_and(condition::Condition::is_true)
    };
    let scale = old.desired_scale.unwrap_or_else(|| signed(initial));
    new.desired_scale != Some(scale)
        || initialized(new) != initialized(old)
        || old.observed_generation.is_some_and(|seen| new.observed_generation != Some(seen))
}

/// Whether two statuses say the same, whenever each came to say so. Times are left out because
/// the API rounds them: a difference there must not be written again and again.
pub fn says_same(a: &PodAutoscalerStatus, b: &PodAutoscalerStatus) -> bool {
    let timeless = |status: &PodAutoscalerStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.last_transition_time = None;
        }
        status
    };
    timeless(a) == timeless(b)
}

/// A number of replicas as the API holds it.
pub fn signed(scale: u32) -> i32 {
    i32::try_from(scale).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use ebb_api::condition::Status;
    use tokio::time::Instant;

    use super::*;

    fn facts(activity: Activity, is_initialized: bool) -> Facts {
        Facts { generation: Some(1), desired: 1, ready: 1, activity, is_initialized }
    }

    #[tokio::test(start_paused = true)]
    async fn each_activity_has_knatives_status_reason_and_readiness() {
        let since = Instant::now();
        // (activity, initialized) -> (Active, reason, Ready)
        let inactive = |timed_out| Activity::Inactive { since, timed_out };
        let cases = [
            (Activity::Active { since }, true, Status::True, None, Status::True),
            (Activity::Active { since }, false, Status::True, None, Status::Unknown),
            (
                Activity::Activating { since },
                true,
                Status::Unknown,
                Some("Queued"),
                Status::Unknown,
            ),
            (inactive(false), true, Status::False, Some("NoTraffic"), Status::False),
            (inactive(true), true, Status::False, Some("TimedOut"), Status::False),
        ];
        for (activity, initialized, active, reason, ready) in cases {
            let status = compose(
                &PodAutoscalerStatus::default(),
                &facts(activity, initialized),
                Timestamp::UNIX_EPOCH,
            );
            let found = condition::find(&status.conditions, "Active").unwrap();
            assert_eq!((found.status, found.reason.as_deref()), (active, reason));
            let found = condition::find(&status.conditions, condition::READY).unwrap();
            assert_eq!(found.status, ready, "{activity:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_controller_acts_on_the_scale_and_on_the_first_readiness() {
        let since = Instant::now();
        let status = |desired, ready, activity, is_initialized| {
            let facts = Facts { generation: Some(1), desired, ready, activity, is_initialized };
            compose(&PodAutoscalerStatus::default(), &facts, Timestamp::UNIX_EPOCH)
        };
        let (active, waking) = (Activity::Active { since }, Activity::Activating { since });
        let none = PodAutoscalerStatus::default();
        assert!(!is_pressing(&none, &status(1, 0, waking, false), 1));
        assert!(is_pressing(&none, &status(2, 0, waking, false), 1));
        assert!(is_pressing(&status(1, 0, waking, false), &status(1, 1, active, true), 1));
        assert!(is_pressing(&status(0, 0, waking, true), &status(1, 0, waking, true), 1));
        assert!(!is_pressing(&status(1, 0, waking, true), &status(1, 1, active, true), 1));
        let mut followed = status(1, 1, active, true);
        followed.observed_generation = Some(2);
        assert!(is_pressing(&status(1, 1, active, true), &followed, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_that_says_the_same_is_the_same() {
        let since = Instant::now();
        let facts = facts(Activity::Active { since }, true);
        let first = compose(&PodAutoscalerStatus::default(), &facts, Timestamp::UNIX_EPOCH);
        let later = Timestamp::from_second(3600).unwrap();
        assert_eq!(compose(&first, &facts, later), first);
    }
}
