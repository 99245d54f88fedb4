//! The last replica of a revision with standby: what follows from [`crate::standby`].

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{RevisionScaler, Surroundings};
use crate::bounds::Bounds;
use crate::event::{Action, RevisionNotice};
use crate::pods::Pods;
use crate::standby::{
    RestPlan, RestScene, StandbyAnswer, StandbyCall, StandbyOrder, StandbyOutcome,
};

/// Reason of the Event about a replica that does not do what it is told.
const FAILED: &str = "StandbyFailed";

impl RevisionScaler {
    /// Takes in how a call went.
    pub fn answered(&mut self, answer: &StandbyAnswer, around: &Surroundings<'_>) -> Vec<Action> {
        let pod = around.pods.get(&answer.uid).map_or("", |pod| &pod.name);
        let is_failed = self.rest.answered(answer, around.now.instant);
        let failure = match &answer.outcome {
            StandbyOutcome::Failed(failure) if is_failed => Some(failure),
            StandbyOutcome::Failed(_) | StandbyOutcome::Done | StandbyOutcome::NotTold => None,
        };
        let notice = failure.map(|failure| {
            let verb = if answer.order == StandbyOrder::Wake { "wake" } else { "sleep" };
            let path = self.path(answer.order);
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
        // What is not removed then is tried again by the tick. A mark that was not written in time may be
        // there all the same.
        let is_awake = matches!(
            (answer.order, &answer.outcome),
            (StandbyOrder::Wake, StandbyOutcome::Done)
                | (StandbyOrder::Sleep, StandbyOutcome::NotTold)
        );
        let unmark = is_awake.then(|| self.rest.unmark_unseen(around.pods)).flatten();
        actions.extend(unmark.and_then(|call| self.call(call, around.pods)));
        actions.extend(notice);
        actions
    }

    /// The scale to aim at, and the pod that sleeps or is about to.
    pub(super) fn rest(&mut self, want: u32, around: &Surroundings<'_>) -> RestPlan {
        let is_known = around.is_listed && around.complete_age.is_some();
        let bounds = Bounds::of(&self.spec, self.stage);
        let cession = self.cession.as_ref().filter(|_| is_known);
        let max = cession.map_or(bounds.max, |it| it.cap.max(self.floor()).min(bounds.max));
        let desired = self.decided.map_or(0, |(_, decision)| decision.desired);
        let asked = if self.is_let_go { 0 } else { desired };
        let is_demanded = self.load.is_demanded();
        let woken = if is_demanded { self.spec.activation_scale } else { 0 };
        self.rest.follow(&RestScene {
            want,
            needed: bounds.apply(asked.max(woken)),
            current: self.current.unwrap_or(0),
            max,
            is_wanted: is_demanded || asked > 0 || self.floor() > 0,
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

    /// The pods to let go before others that are ready.
    pub(super) fn first_to_go(&self, rest: &RestPlan) -> Option<BTreeSet<Arc<str>>> {
        let ceded = self.cession.as_ref().map(|cession| cession.pods.clone());
        match &rest.goes {
            Some(uid) => Some(ceded.into_iter().flatten().chain([Arc::clone(uid)]).collect()),
            None => ceded,
        }
    }

    fn path(&self, order: StandbyOrder) -> &str {
        let standby = self.spec.standby.as_deref();
        standby.map_or("", |standby| match order {
            StandbyOrder::Sleep | StandbyOrder::SleepAgain => &standby.sleep,
            StandbyOrder::Wake => &standby.wake,
            StandbyOrder::Stay | StandbyOrder::Unmark => "",
        })
    }
}
