//! One revision as the autoscaler sees it: load, decision, way to zero and drain put together.
//! Pure: every call takes the present and returns the actions to take.

use std::time::Duration;

use ebb_api::config::Config;
use ebb_api::report::{DrainOrder, OrderId};
use tokio::time::Instant;

use crate::activators::Activators;
use crate::bounds::{Bounds, Stage};
use crate::decision::{Averages, Decider, Decision};
use crate::drain::{Drain, Scene};
use crate::event::{Action, Moment};
use crate::hold::Hold;
use crate::load::RevisionLoad;
use crate::pods::{PodCounts, Pods};
use crate::room::Cession;
use crate::scale_target::ScaleTarget;
use crate::spec::ScalingSpec;
use crate::standby::LastReplica;
use crate::steady::{Steadiness, Wish};
use crate::zero::{ActiveState, Outlook};

mod cession;
mod parting;
mod resting;
mod telling;
mod writes;

/// Time from one decision to the next (knative/serving pkg/autoscaler/scaling/multiscaler.go,
/// `tickInterval`).
pub const TICK: Duration = Duration::from_secs(2);

/// The surroundings on which a revision's scale depends.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The activators that count.
    pub activators: &'a Activators,
    /// For how long all of them have been heard without a break.
    pub complete_age: Option<Duration>,
    /// After how long people are told of a scale that is held up.
    pub patience: Duration,
    /// The revision's pods.
    pub pods: &'a Pods,
    /// Whether the pods have been listed yet, and completely.
    pub is_listed: bool,
    /// The number of an order that is given now.
    pub order: OrderId,
    /// The present.
    pub now: Moment,
}

/// One revision.
#[derive(Debug)]
pub struct RevisionScaler {
    target: ScaleTarget,
    spec: ScalingSpec,
    load: RevisionLoad,
    decider: Option<Decider>,
    decided: Option<(Averages, Decision)>,
    activity: ActiveState,
    stage: Stage,
    /// Whether another autoscaler asked for replicas before this one did.
    is_taken_over: bool,
    hold: Hold,
    /// The same while an activator names a pod that is not seen here.
    blind: Hold,
    /// Replicas last asked for; `None` before the first time.
    current: Option<u32>,
    /// The replicas last written, or on their way. `None` while those that the Deployment was made
    /// with are right, and after a write that was refused.
    shown: Option<u32>,
    /// Since when a write is on its way whose outcome is not known.
    writing: Option<Instant>,
    /// When the last write was confirmed.
    confirmed: Option<Instant>,
    steadiness: Steadiness,
    drain: Drain,
    /// The last replica, if it sleeps.
    rest: LastReplica,
    /// What it lets go for others.
    cession: Option<Cession>,
    /// Whether it let its last replica go, and nobody has wanted it since.
    is_let_go: bool,
    /// The clock of values when it was last used, and when that was.
    level: f64,
    used: Option<Instant>,
    /// When the next tick is due.
    pub due: Option<Instant>,
}

// === impl RevisionScaler ===

impl RevisionScaler {
    /// A revision as the API describes it; an earlier autoscaler's decision stands.
    pub fn new(target: ScaleTarget, config: &Config, now: Moment) -> Self {
        let spec = target.resolve(config);
        let activity = ActiveState::recall(target.active.as_ref(), now.instant);
        let stage = match target.is_initialized {
            true => Stage::Initialized,
            false if activity.is_timed_out() => Stage::GivenUp,
            false => Stage::Starting,
        };
        Self {
            load: RevisionLoad::new(&spec),
            spec,
            decider: None,
            decided: None,
            activity,
            stage,
            is_taken_over: stage == Stage::Initialized,
            hold: Hold::default(),
            blind: Hold::default(),
            current: target.desired,
            shown: target.desired,
            writing: None,
            confirmed: None,
            steadiness: Steadiness::default(),
            drain: Drain::default(),
            rest: LastReplica::default(),
            cession: None,
            is_let_go: false,
            level: 0.0,
            used: None,
            due: None,
            target,
        }
    }

    /// The Revision as last seen.
    pub fn target(&self) -> &ScaleTarget {
        &self.target
    }

    /// Follows a changed Revision. A watch that lags shows the state before the last write; the
    /// answer to that write is newer, and its numbers are kept.
    pub fn follow(&mut self, target: ScaleTarget, config: &Config) {
        let known = std::mem::replace(&mut self.target, target);
        if self.target.version < known.version {
            (self.target.version, self.target.desired) = (known.version, known.desired);
        }
        self.follow_config(config);
    }

    /// Lets whatever comes next count as newer than what is known. Called with each list of all
    /// Revisions, for a restored API server counts its versions anew.
    pub fn forget_version(&mut self) {
        self.target.version = 0;
    }

    /// Follows changed settings.
    pub fn follow_config(&mut self, config: &Config) {
        self.spec = self.target.resolve(config);
        self.load.follow(&self.spec);
    }

    /// Starts over from the Revision as last seen, with the load known so far and the pods that are
    /// gone.
    pub fn restart(&mut self, config: &Config, now: Moment) {
        let target = std::mem::take(&mut self.target);
        let load = std::mem::replace(&mut self.load, RevisionLoad::new(&self.spec));
        let drain = std::mem::take(&mut self.drain).start_over();
        let (level, used) = (self.level, self.used);
        *self = Self { load, drain, level, used, ..Self::new(target, config, now) };
    }

    /// The load, for reports to be recorded in.
    pub fn load_mut(&mut self) -> &mut RevisionLoad {
        &mut self.load
    }

    /// Whether a report calls for a decision now instead of at the next tick: there are requests
    /// for a revision at (or on its way to) zero, or pods could be taken back.
    pub fn is_urgent(&self) -> bool {
        let is_at_zero = self.current.unwrap_or(0) == 0 || self.activity.is_inactive();
        let asleep = is_at_zero || self.rest.is_resting();
        (asleep && self.load.is_demanded()) || self.drain.is_draining()
    }

    /// Whether a lower scale is held up because a part of the load or of the pods is not known.
    pub fn is_held(&self) -> bool {
        self.hold.is_held() || self.blind.is_held()
    }

    /// Takes note that a pod is gone.
    pub fn lose(&mut self, uid: &str) {
        self.drain.lose(uid, self.load.named(), |uid| self.load.names(uid));
    }

    /// Decides, and repeats what may have been lost.
    pub fn tick(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        self.due = None;
        let mut actions = self.repeat(around);
        self.decide_anew(around);
        actions.extend(self.follow_through(around, true));
        actions.extend(self.notice(around));
        actions
    }

    /// Decides anew from the windows, then does what follows from that.
    pub fn decide(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        self.decide_anew(around);
        self.act(around)
    }

    fn decide_anew(&mut self, around: &Surroundings<'_>) {
        let now = around.now;
        let counts = around.pods.counts();
        let awake = self.current.unwrap_or(0) > 0 || counts.ready > 0;
        self.load.settle(around.activators, now.instant, now.second, awake);
        if around.is_listed {
            let taken_over = match (self.is_taken_over, self.current) {
                (true, current) => counts.ready.max(current.unwrap_or(0)),
                (false, _) => 0,
            };
            let decider = self.decider.get_or_insert_with(|| Decider::new(taken_over, now.instant));
            let averages = self.load.averages(&self.spec, now.second);
            // No data is no decision: the present scale stands.
            self.decided = averages.map(|averages| {
                let decision = decider.decide(averages, counts.ready, &self.spec, now.instant);
                (averages, decision)
            });
        }
    }

    /// Does what follows from the last decision and the present pods and reports.
    pub fn act(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        self.follow_through(around, false)
    }

    /// As [`Self::act`]. The replicas that the Deployment was made with are lowered only if
    /// `is_tick`: a moment after its creation a Revision may still become reachable.
    fn follow_through(&mut self, around: &Surroundings<'_>, is_tick: bool) -> Vec<Action> {
        let now = around.now;
        if !around.is_listed && self.current.is_some_and(|current| current > 0) {
            // The ready pods are not known yet: running replicas are left as they are.
            self.due.get_or_insert(now.instant + TICK);
            return Vec::new();
        }
        let counts = around.pods.counts();
        let current = self.current.unwrap_or(0);
        let want = self.want(around, counts.ready);
        let is_panicking = self.decided.is_some_and(|(_, decision)| decision.panicking);
        let want = self.steadiness.settle(&Wish {
            want,
            current,
            is_pressing: is_panicking || self.load.is_queued(),
            window: self.spec.stable_window,
            now: now.instant,
        });
        let rest = self.rest(self.within_cession(want, around), around);
        let want = rest.want;
        let is_at_rest = rest.rests.is_none() && self.drain.is_at_rest(want, current, around.pods);
        let views =
            if is_at_rest { Vec::new() } else { self.load.views(around.activators, now.instant) };
        let first_to_go = self.first_to_go(&rest);
        let plan = self.drain.plan(&Scene {
            want,
            current,
            pods: around.pods,
            views: &views,
            is_writing: self.writing.is_some(),
            ceded: first_to_go.as_ref(),
            rests: rest.rests.as_ref(),
            order: around.order,
            now: now.instant,
        });
        self.blind.follow(plan.is_blind, want, now.instant);
        self.current = Some(plan.scale);
        let mut actions = Vec::new();
        if plan.is_reordered {
            actions.push(self.order());
        }
        let sleep = if plan.is_rested { self.rest.settle() } else { None };
        let calls = rest.call.into_iter().chain(sleep);
        actions.extend(calls.filter_map(|call| self.call(call, around.pods)));
        let is_told = self.show(around, &plan, is_tick, &mut actions);
        if is_told && self.is_asleep(&counts) {
            self.due = None;
        } else {
            self.due.get_or_insert(now.instant + TICK);
        }
        actions
    }

    /// The actions to repeat although nothing changed: an order may have been lost, and somebody
    /// else may have written the scale.
    fn repeat(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let stays = |uid: &str| around.pods.get(uid).is_some_and(|pod| !pod.is_terminating);
        if around.is_listed {
            // A pod that ends, or is not there, stays drained: its address may be another's soon.
            let gone = self.load.drained().filter(|pod| !stays(&pod.uid));
            let named = self.load.named();
            gone.for_each(|pod| self.drain.lose(&pod.uid, named, |uid| self.load.names(uid)));
        }
        let lingers =
            self.load.drained().any(|pod| !self.drain.is_ordered(&pod.uid) && stays(&pod.uid));
        if lingers && self.drain.order().1.is_empty() {
            // Activators still obey an order of an earlier leader, or of this one before it lost
            // the lead.
            self.drain.renumber(around.order);
        }
        if lingers || !self.drain.order().1.is_empty() {
            actions.push(self.order());
        }
        actions.extend(self.correct(around.now.instant));
        let unmark = self.rest.unmark(around.pods);
        actions.extend(unmark.and_then(|call| self.call(call, around.pods)));
        actions
    }

    /// The scale to aim at. Without the reports of every activator and a complete list of pods it
    /// is never below the present one, and neither is it while a request waits.
    fn want(&mut self, around: &Surroundings<'_>, ready: u32) -> u32 {
        let now = around.now.instant;
        let current = self.current.unwrap_or(0);
        if self.stage == Stage::Starting && self.activity.is_overdue(&self.spec, now) {
            self.stage = Stage::GivenUp;
        }
        let bounds = Bounds::of(&self.spec, self.stage);
        let complete_age = around.complete_age;
        let mut desired = self.decided.map_or(current, |(_, decision)| decision.desired);
        if self.load.is_demanded() {
            desired = desired.max(self.spec.activation_scale);
        } else if self.is_let_go {
            desired = 0;
        }
        let outlook =
            Outlook { desired: bounds.apply(desired), current, ready, bounds, complete_age };
        let (want, activity) = self.activity.next(&outlook, &self.spec, now);
        self.follow_stage(activity, ready);
        self.activity = activity;
        let is_unknown = !around.is_listed || complete_age.is_none();
        if is_unknown {
            // The scale if every activator had been heard all the time.
            let heard = Outlook { complete_age: Some(Duration::MAX), ..outlook };
            let (free, _) = activity.next(&heard, &self.spec, now);
            self.hold.follow(free < current, free, now);
        } else {
            self.hold.follow(false, want, now);
        }
        // After a break the window holds outdated values of the activator that was silent: too
        // little to go down by.
        let is_blurred = complete_age.is_none_or(|age| age < self.spec.stable_window);
        if is_unknown {
            want.max(current)
        } else if is_blurred || self.load.is_queued() {
            want.max(current.min(bounds.max))
        } else {
            want
        }
    }

    /// A revision that was given up and is woken again gets the whole of its time again.
    ///
    /// It has reached its initial scale when its pods are seen here and the Revision's status says so
    /// as well. By the pods alone the scale would be lowered before a controller whose watch is slow
    /// saw them, and the Revision would never be Ready; and a start that failed while the wall clock
    /// jumped may look in the status like one that went well.
    fn follow_stage(&mut self, activity: ActiveState, ready: u32) {
        let is_up = ready >= Bounds::of(&self.spec, Stage::Starting).min_ready
            && self.target.is_initialized;
        let is_woken = self.activity.is_inactive() && !activity.is_inactive();
        self.stage = match self.stage {
            Stage::Starting | Stage::GivenUp if is_up => Stage::Initialized,
            Stage::GivenUp if is_woken => Stage::Starting,
            stage => stage,
        };
    }

    /// Whether nothing can happen until an event arrives.
    fn is_asleep(&self, counts: &PodCounts) -> bool {
        self.current == Some(0)
            && *counts == PodCounts::default()
            && self.drain.is_empty()
            && !self.load.is_demanded()
            && self.writing.is_none()
    }

    fn order(&self) -> Action {
        let (id, pods) = self.drain.order();
        let revision = (*self.target.key).clone();
        let called = self.rest.called().map(ToString::to_string);
        Action::Drain(DrainOrder { revision, id, pods: pods.to_vec(), called })
    }
}
