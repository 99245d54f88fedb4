//! One revision as the autoscaler sees it: load, decision, way to zero, drain and status put
//! together. Pure: every call takes the present and returns what is to be done.

use std::collections::BTreeMap;
use std::time::Duration;

use ebb_api::autoscaling::{PodAutoscalerSpec, PodAutoscalerStatus};
use ebb_api::condition::{self, Status};
use ebb_api::config::Config;
use ebb_api::report::{DrainOrder, RevisionKey};
use tokio::time::Instant;

use crate::activators::Activators;
use crate::bounds::Bounds;
use crate::decision::{Averages, Decider, Decision};
use crate::drain::{Drain, Plan, Scene};
use crate::event::{Action, Measures, Moment, Write};
use crate::load::Load;
use crate::pods::{Pod, PodCounts};
use crate::spec::ScalingSpec;
use crate::status::{self, Facts};
use crate::zero::{Activity, Outlook};

/// Time from one decision to the next (knative/serving pkg/autoscaler/scaling/multiscaler.go,
/// `tickInterval`).
pub const TICK: Duration = Duration::from_secs(2);

/// What is kept of a PodAutoscaler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Namespace and name, which are the Revision's.
    pub key: RevisionKey,
    /// A name can be used again: another UID is another revision.
    pub uid: String,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// The spec.
    pub spec: PodAutoscalerSpec,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its labels, for the metrics.
    pub labels: BTreeMap<String, String>,
    /// Its status as last seen.
    pub status: PodAutoscalerStatus,
}

/// What a revision's scale depends on besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The activators that report.
    pub activators: &'a Activators,
    /// The revision's pods by UID.
    pub pods: &'a BTreeMap<String, Pod>,
    /// Whether the pods are known at all yet, and completely.
    pub is_listed: bool,
    /// The present.
    pub now: Moment,
}

/// One revision.
#[derive(Debug)]
pub struct Revision {
    target: Target,
    spec: ScalingSpec,
    load: Load,
    decider: Option<Decider>,
    decided: Option<(Averages, Decision)>,
    activity: Activity,
    /// The activity that the status is to show.
    shown_activity: Activity,
    is_initialized: bool,
    /// Replicas last asked for; nothing before the first time.
    current: Option<u32>,
    /// The status last written, or on its way.
    shown: PodAutoscalerStatus,
    is_writing: bool,
    drain: Drain,
    /// The order last given.
    ordered: Vec<String>,
    /// When the next tick is due.
    pub due: Option<Instant>,
}

// === impl Revision ===

impl Revision {
    /// A revision as its PodAutoscaler describes it; what an earlier autoscaler decided holds on.
    pub fn new(target: Target, config: &Config, now: Moment) -> Self {
        let spec = ScalingSpec::resolve(&target.spec, &target.annotations, config);
        let conditions = &target.status.conditions;
        let since = now.instant;
        let active = condition::find(conditions, PodAutoscalerStatus::ACTIVE);
        let activity = match active.map(|condition| (condition.status, &condition.reason)) {
            Some((Status::True, _)) => Activity::Active { since },
            Some((Status::False, reason)) => {
                Activity::Inactive { since, timed_out: reason.as_deref() == Some("TimedOut") }
            }
            Some((Status::Unknown, _)) | None => Activity::Activating { since },
        };
        let initialized = PodAutoscalerStatus::SCALE_TARGET_INITIALIZED;
        Self {
            load: Load::new(&spec),
            spec,
            decider: None,
            decided: None,
            activity,
            shown_activity: activity,
            is_initialized: condition::find(conditions, initialized)
                .is_some_and(condition::Condition::is_true),
            current: target.status.desired_scale.map(|scale| u32::try_from(scale).unwrap_or(0)),
            shown: target.status.clone(),
            is_writing: false,
            drain: Drain::default(),
            ordered: Vec::new(),
            due: None,
            target,
        }
    }

    /// The PodAutoscaler as last seen.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Follows a changed PodAutoscaler.
    pub fn follow(&mut self, target: Target, config: &Config) {
        self.target = target;
        self.follow_config(config);
    }

    /// Follows changed settings.
    pub fn follow_config(&mut self, config: &Config) {
        let target = &self.target;
        self.spec = ScalingSpec::resolve(&target.spec, &target.annotations, config);
        self.load.follow(&self.spec);
    }

    /// Starts over from the PodAutoscaler as last seen, with the load known so far.
    pub fn restart(&mut self, config: &Config, now: Moment) {
        let target = std::mem::take(&mut self.target);
        let load = std::mem::replace(&mut self.load, Load::new(&self.spec));
        *self = Self { load, ..Self::new(target, config, now) };
    }

    /// The load, to be told of reports.
    pub fn load_mut(&mut self) -> &mut Load {
        &mut self.load
    }

    /// Whether a report calls for a decision now instead of at the next tick: somebody waits for a
    /// revision at (or on its way to) zero, or pods could be taken back.
    pub fn is_urgent(&self) -> bool {
        let asleep = self.current.unwrap_or(0) == 0 || self.activity.is_inactive();
        (asleep && self.load.is_demanded()) || self.drain.is_draining()
    }

    /// Takes note that everything given out so far was written.
    pub fn confirm_written(&mut self, now: Instant) {
        self.is_writing = false;
        self.drain.confirm_written(now);
    }

    /// Decides, repeats what may have been lost, and shows its numbers.
    pub fn tick(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        self.due = None;
        let mut actions = self.repeat(around);
        self.decide_anew(around);
        actions.extend(self.follow_through(around, true));
        let measures = Box::new(self.measures(around.pods));
        actions.push(Action::Measure(self.target.key.clone(), measures));
        actions
    }

    /// Decides anew from the windows, then does what follows from that.
    pub fn decide(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        self.decide_anew(around);
        self.act(around)
    }

    fn decide_anew(&mut self, around: &Surroundings<'_>) {
        let now = around.now;
        let counts = PodCounts::of(around.pods);
        let awake = self.current.unwrap_or(0) > 0 || counts.ready > 0;
        self.load.settle(around.activators, now.instant, now.second, awake);
        if around.is_listed {
            let decider =
                self.decider.get_or_insert_with(|| Decider::new(counts.ready, now.instant));
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

    /// As [`Self::act`]. Of the status it writes what others act upon; the rest only if `is_tick`,
    /// so that a revision that wakes costs two writes in all, and none while others wake too.
    fn follow_through(&mut self, around: &Surroundings<'_>, is_tick: bool) -> Vec<Action> {
        let now = around.now;
        if !around.is_listed && self.current.is_some_and(|current| current > 0) {
            // Which pods are ready is not known yet; what runs is left as it is.
            self.due.get_or_insert(now.instant + TICK);
            return Vec::new();
        }
        let counts = PodCounts::of(around.pods);
        let want = self.want(around, counts.ready);
        let current = self.current.unwrap_or(0);
        let views = self.load.views(around.activators, now.instant);
        let plan = self.drain.plan(&Scene {
            want,
            current,
            pods: around.pods,
            views: &views,
            is_writing: self.is_writing,
            now: now.instant,
        });
        self.current = Some(plan.scale);
        let mut actions = Vec::new();
        self.give_order(&mut actions);
        // The condition says inactive only together with the scale, so that a drain that is
        // called off leaves no trace in the status.
        let is_pending_zero = want == 0 && plan.scale > 0;
        if !is_pending_zero {
            self.shown_activity = self.activity;
        }
        let is_told = self.show(around, &counts, &plan, is_tick, &mut actions);
        if is_told && self.is_asleep(&counts) {
            self.due = None;
        } else {
            self.due.get_or_insert(now.instant + TICK);
        }
        actions
    }

    /// What is to be said again although nothing changed: an order may have been lost, and
    /// somebody else may have written the status.
    fn repeat(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let views = self.load.views(around.activators, around.now.instant);
        let is_held = |uid: &String| self.ordered.binary_search(uid).is_ok();
        let lingers =
            views.iter().flat_map(|view| view.pods).any(|pod| pod.draining && !is_held(&pod.uid));
        if !self.ordered.is_empty() || lingers {
            actions.push(self.order());
        }
        if !self.is_writing && !status::says_same(&self.target.status, &self.shown) {
            self.is_writing = true;
            actions.push(self.write(false, BTreeMap::new()));
        }
        actions
    }

    /// Gives back what the activators hold for a revision that is gone.
    pub fn dismiss(mut self) -> Vec<Action> {
        let mut actions = vec![Action::Forget(self.target.key.clone())];
        if !self.ordered.is_empty() {
            self.ordered.clear();
            actions.push(self.order());
        }
        actions
    }

    /// The numbers for the metrics.
    pub fn measures(&self, pods: &BTreeMap<String, Pod>) -> Measures {
        Measures {
            metric: self.spec.metric,
            target: self.spec.target,
            desired: self.decided.map(|(_, decision)| decision.desired),
            requested: self.current.unwrap_or(0),
            averages: self.decided.map(|(averages, _)| averages),
            excess_burst: self.decided.map(|(_, decision)| decision.excess_burst),
            is_panicking: self.decided.is_some_and(|(_, decision)| decision.panicking),
            pods: PodCounts::of(pods),
        }
    }

    /// The scale to aim at. Without live reports and a complete list of pods it is never below
    /// the present one, and neither is it while a request waits.
    fn want(&mut self, around: &Surroundings<'_>, ready: u32) -> u32 {
        let now = around.now.instant;
        let current = self.current.unwrap_or(0);
        let bounds = Bounds::of(&self.spec, self.is_initialized);
        let stream_age = around.activators.stream_age(now);
        let mut desired = self.decided.map_or(current, |(_, decision)| decision.desired);
        if self.load.is_demanded() {
            desired = desired.max(self.spec.activation_scale);
        }
        let outlook =
            Outlook { desired: bounds.apply(desired), current, ready, bounds, stream_age };
        let (mut want, activity) = self.activity.next(&outlook, &self.spec, now);
        self.activity = activity;
        self.is_initialized |= ready >= bounds.min_ready;
        if !around.is_listed || stream_age.is_none() {
            want = want.max(current);
        } else if self.load.is_queued() {
            want = want.max(current.min(bounds.max));
        }
        want
    }

    /// Whether nothing can happen until something is heard.
    fn is_asleep(&self, counts: &PodCounts) -> bool {
        self.current == Some(0)
            && *counts == PodCounts::default()
            && self.drain.is_empty()
            && !self.load.is_demanded()
            && !self.is_writing
    }

    fn give_order(&mut self, actions: &mut Vec<Action>) {
        let order = self.drain.order();
        if order != self.ordered {
            self.ordered = order;
            actions.push(self.order());
        }
    }

    fn order(&self) -> Action {
        Action::Drain(DrainOrder { revision: self.target.key.clone(), pods: self.ordered.clone() })
    }

    /// Writes the status and marks if they differ and it is time to; false if some is left to
    /// the next tick.
    fn show(
        &mut self,
        around: &Surroundings<'_>,
        counts: &PodCounts,
        plan: &Plan,
        is_tick: bool,
        actions: &mut Vec<Action>,
    ) -> bool {
        let facts = Facts {
            generation: self.target.generation,
            desired: plan.scale,
            ready: counts.ready,
            activity: self.shown_activity,
            is_initialized: self.is_initialized,
        };
        let status = status::compose(&self.shown, &facts, around.now.wall);
        let marks = marks(around.pods, plan);
        if status == self.shown && marks.is_empty() {
            return true;
        }
        let initial = Bounds::of(&self.spec, false).min;
        if !is_tick && marks.is_empty() && !status::is_pressing(&self.shown, &status, initial) {
            return false;
        }
        self.shown = status;
        self.is_writing = true;
        actions.push(self.write(!plan.condemned.is_empty(), marks));
        true
    }

    fn write(&self, is_lowering: bool, marks: BTreeMap<String, Option<i32>>) -> Action {
        Action::Write(Box::new(Write {
            key: self.target.key.clone(),
            uid: self.target.uid.clone(),
            is_lowering,
            marks,
            status: Some(self.shown.clone()),
        }))
    }
}

/// Deletion cost of a condemned pod: below the 0 of every pod without the annotation.
const CONDEMNED_COST: i32 = -1000;

/// The deletion costs to write, by pod name. With no replica left to choose from they are moot.
fn marks(pods: &BTreeMap<String, Pod>, plan: &Plan) -> BTreeMap<String, Option<i32>> {
    let condemned = plan.condemned.iter().filter(|_| plan.scale > 0);
    condemned
        .map(|uid| (uid, Some(CONDEMNED_COST)))
        .chain(plan.reprieved.iter().map(|uid| (uid, None)))
        .filter_map(|(uid, cost)| Some((pods.get(uid)?.name.clone(), cost)))
        .collect()
}
