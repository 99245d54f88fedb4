//! A revision's writes to the API server, and the consequences of its answers.

use std::collections::BTreeMap;

use ebb_daemon::desired::Seen;
use tokio::time::Instant;

use super::{RevisionScaler, Surroundings, TICK};
use crate::drain::DrainPlan;
use crate::event::{Action, Urgency, Write};
use crate::pods::{CONDEMNED_COST, Pods};

impl RevisionScaler {
    /// Takes note of the answer to a write.
    pub fn learn(&mut self, seen: Seen) {
        if seen.version > self.target.version {
            (self.target.version, self.target.desired) = (seen.version, seen.replicas);
        }
        // The writer leaves the scale as it was where a step down is partly taken back.
        if seen.replicas > self.shown && self.shown.is_some() {
            self.take_over(seen.replicas);
        }
    }

    fn take_over(&mut self, replicas: Option<u32>) {
        self.shown = replicas;
        self.current = self.current.max(replicas);
    }

    /// Takes note that all writes given out so far were made.
    pub fn confirm_written(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        let now = around.now.instant;
        let took = self.writing.take().map(|since| now.duration_since(since));
        self.confirmed = Some(now);
        self.drain.confirm_written(now, took.unwrap_or_default());
        Vec::new()
    }

    /// Takes note that a write was refused, for the scale was not the known one. From here on the
    /// scale in the Revision's status counts; nothing is lowered but from there.
    pub fn refuse(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        self.writing = None;
        self.shown = None;
        self.current = self.current.max(self.target.desired);
        self.act(around)
    }

    /// Writes the scale and marks if they differ and it is time to; false if the write is left to
    /// the next tick.
    pub(super) fn show(
        &mut self,
        around: &Surroundings<'_>,
        plan: &DrainPlan,
        is_tick: bool,
        actions: &mut Vec<Action>,
    ) -> bool {
        let known = self.shown.or(self.target.desired);
        let asked = known.unwrap_or(self.spec.first_scale);
        let mut marks = self.marks(around.pods, plan, asked);
        let is_lowering = !marks.is_empty() || !plan.condemned.is_empty();
        marks.extend(unmarks(around.pods, plan));
        if is_tick && self.writing.is_none() {
            let stale = self.drain.mismarked(plan.scale, around.pods);
            marks.extend(stale.into_iter().map(|pod| (pod.name.to_string(), None)));
        }
        if plan.scale == asked && marks.is_empty() {
            return true;
        }
        let is_first = self.shown.is_none() && plan.condemned.is_empty() && marks.is_empty();
        if is_first && plan.scale < asked && !is_tick {
            return false;
        }
        let desired = (known != Some(plan.scale)).then_some(plan.scale);
        self.shown = Some(plan.scale);
        self.writing.get_or_insert(around.now.instant);
        actions.push(self.write(known, desired, is_lowering, marks));
        true
    }

    /// Reacts to a scale that somebody else set. A lower one is corrected. A higher one is taken
    /// over: it has pods that were never drained, and an older decision is no reason to end them.
    pub(super) fn correct(&mut self, now: Instant) -> Option<Action> {
        let shown = self.shown.unwrap_or(self.spec.first_scale);
        // The watch may not show the last write yet.
        let is_settled = self.confirmed.is_none_or(|at| now.duration_since(at) >= TICK);
        let told = self.target.desired.filter(|told| *told != shown)?;
        if self.writing.is_some() || !is_settled {
            return None;
        }
        if told > shown {
            self.take_over(Some(told));
            return None;
        }
        // Before the first write from here the replicas that the Deployment was made with are
        // right.
        self.shown?;
        self.writing = Some(now);
        Some(self.write(Some(told), Some(shown), false, BTreeMap::new()))
    }

    fn write(
        &self,
        known: Option<u32>,
        desired: Option<u32>,
        is_lowering: bool,
        marks: BTreeMap<String, Option<i32>>,
    ) -> Action {
        let before = known.unwrap_or(0);
        let urgency = match desired {
            None => Urgency::Mark,
            Some(_) if before == 0 => Urgency::Wake,
            Some(after) if after < before => Urgency::Lower,
            Some(_) => Urgency::Raise,
        };
        let (key, uid) = ((*self.target.key).clone(), self.target.uid.clone());
        let version = self.target.version;
        let write = Write { key, uid, urgency, is_lowering, marks, known, version, desired };
        Action::Write(Box::new(write))
    }

    /// The marks to write, by pod name: those of all condemned pods if the scale is lowered, for
    /// those of an earlier step may not have been written. None is needed where no replica is left
    /// to choose from.
    fn marks(&self, pods: &Pods, plan: &DrainPlan, asked: u32) -> BTreeMap<String, Option<i32>> {
        if plan.scale == 0 {
            return BTreeMap::new();
        }
        let earlier = (plan.scale < asked).then(|| self.drain.unmarked(pods));
        let new = plan.condemned.iter().filter_map(|uid| pods.get(uid));
        let all = new.chain(earlier.into_iter().flatten());
        all.map(|pod| (pod.name.to_string(), Some(CONDEMNED_COST))).collect()
    }
}

/// The marks to take back.
fn unmarks(pods: &Pods, plan: &DrainPlan) -> impl Iterator<Item = (String, Option<i32>)> {
    let reprieved = plan.reprieved.iter().filter_map(|uid| pods.get(uid));
    reprieved.map(|pod| (pod.name.to_string(), None))
}
