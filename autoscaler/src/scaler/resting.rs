//! The last replica of a revision with standby: what follows from [`crate::standby`].

use std::sync::Arc;

use super::{RevisionScaler, Surroundings};
use crate::event::{Action, RevisionNotice};
use crate::pods::Pods;
use crate::standby::{RestPlan, RestScene, StandbyAnswer, StandbyCall, StandbyOrder};

/// Reason of the Event about a replica that does not do what it is told.
const FAILED: &str = "StandbyFailed";

impl RevisionScaler {
    /// Takes in how a call went.
    pub fn answered(&mut self, answer: &StandbyAnswer, around: &Surroundings<'_>) -> Vec<Action> {
        let pod = around.pods.get(&answer.uid).map_or("", |pod| &pod.name);
        let is_failed = self.rest.answered(answer, around.now.instant);
        let notice = answer.failure.as_deref().filter(|_| is_failed).map(|failure| {
            let (verb, path) = match answer.order {
                StandbyOrder::Wake => ("wake", self.path(answer.order)),
                StandbyOrder::Sleep | StandbyOrder::Unmark => ("sleep", self.path(answer.order)),
            };
            Action::Notice(Box::new(RevisionNotice {
                key: (*self.target.key).clone(),
                uid: self.target.uid.clone(),
                reason: FAILED,
                note: format!(
                    "Pod {pod} did not {verb} when told to by POST {path} ({failure}), and is \
                     stopped instead: see that the model's server has this path"
                ),
            }))
        });
        // The drain is taken back first: requests wait.
        let mut actions = self.act(around);
        // What is not removed then is tried again by the tick: its watch may be behind.
        let is_wake = answer.order == StandbyOrder::Wake;
        let unmark = is_wake.then(|| self.rest.unmark(around.pods)).flatten();
        actions.extend(unmark.and_then(|call| self.call(call, around.pods)));
        actions.extend(notice);
        actions
    }

    /// The scale to aim at, and the pod that sleeps or is about to.
    pub(super) fn rest(&mut self, want: u32, around: &Surroundings<'_>) -> RestPlan {
        let is_known = around.is_listed && around.complete_age.is_some();
        let asked = self.decided.is_some_and(|(_, decision)| decision.desired > 0);
        self.rest.follow(&RestScene {
            want,
            current: self.current.unwrap_or(0),
            is_wanted: self.load.is_demanded() || (asked && !self.is_let_go) || self.floor() > 0,
            is_known,
            standby: self.spec.standby.as_deref(),
            may_rest: self.spec.standby.is_some()
                && self.spec.reachable
                && !self.is_let_go
                && self.cession.as_ref().is_none_or(|cession| cession.cap > 0),
            pods: around.pods,
            now: around.now.instant,
        })
    }

    /// The call to a pod; `None` if the pod is gone, which is seen soon, or has no address.
    pub(super) fn call(
        &self,
        (uid, order): (Arc<str>, StandbyOrder),
        pods: &Pods,
    ) -> Option<Action> {
        let pod = pods.get(&uid)?;
        Some(Action::Call(Box::new(StandbyCall {
            key: Arc::clone(&self.target.key),
            name: pod.name.clone(),
            address: pod.address?,
            path: self.path(order).into(),
            uid,
            order,
        })))
    }

    fn path(&self, order: StandbyOrder) -> &str {
        let standby = self.spec.standby.as_deref();
        standby.map_or("", |standby| match order {
            StandbyOrder::Sleep => &standby.sleep,
            StandbyOrder::Wake => &standby.wake,
            StandbyOrder::Unmark => "",
        })
    }
}
