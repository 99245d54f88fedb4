//! One revision as the autoscaler sees it: load, decision, way to zero and drain put together.
//! Pure: every call takes the present and returns what is to be done.

use std::collections::BTreeMap;
use std::time::Duration;

use ebb_api::condition::Condition;
use ebb_api::config::Config;
use ebb_api::report::{DrainOrder, OrderId, RevisionKey};
use tokio::time::Instant;

use crate::activators::Activators;
use crate::bounds::Bounds;
use crate::decision::{Averages, Decider, Decision};
use crate::drain::{Drain, Plan, Scene};
use crate::event::{Action, Measures, Moment, Write};
use crate::load::Load;
use crate::pods::{Pod, PodCounts};
use crate::spec::ScalingSpec;
use crate::zero::{Activity, Outlook};

/// Time from one decision to the next (knative/serving pkg/autoscaler/scaling/multiscaler.go,
/// `tickInterval`).
pub const TICK: Duration = Duration::from_secs(2);

/// What is kept of a Revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Namespace and name.
    pub key: RevisionKey,
    /// A name can be used again: another UID is another revision.
    pub uid: String,
    /// Most requests at once in one replica; 0 means no limit.
    pub container_concurrency: i64,
    /// Whether a Route may send requests.
    pub is_reachable: bool,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its labels, for the metrics.
    pub labels: BTreeMap<String, String>,
    /// Whether its status tells that the initial scale was reached once.
    pub is_initialized: bool,
    /// The replicas that its status asks for; nothing before the first time.
    pub desired: Option<u32>,
    /// What its status tells of being active.
    pub active: Option<Condition>,
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
    /// The number of an order that is given now.
    pub order: OrderId,
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
    is_initialized: bool,
    /// Replicas last asked for; nothing before the first time.
    current: Option<u32>,
    /// The replicas last written, or on their way; nothing while those the Deployment was made
    /// with are right.
    shown: Option<u32>,
    is_writing: bool,
    drain: Drain,
    /// When the next tick is due.
    pub due: Option<Instant>,
}

// === impl Revision ===

impl Revision {
    /// A revision as the API describes it; what an earlier autoscaler decided holds on.
    pub fn new(target: Target, config: &Config, now: Moment) -> Self {
        let spec = resolve(&target, config);
        Self {
            load: Load::new(&spec),
            spec,
            decider: None,
            decided: None,
            activity: Activity::recall(target.active.as_ref(), now.instant),
            is_initialized: target.is_initialized,
            current: target.desired,
            shown: target.desired,
            is_writing: false,
            drain: Drain::default(),
            due: None,
            target,
        }
    }

    /// The Revision as last seen.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Follows a changed Revision.
    pub fn follow(&mut self, target: Target, config: &Config) {
        self.target = target;
        self.follow_config(config);
    }

    /// Follows changed settings.
    pub fn follow_config(&mut self, config: &Config) {
        self.spec = resolve(&self.target, config);
        self.load.follow(&self.spec);
    }

    /// Starts over from the Revision as last seen, with the load known so far.
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

    /// As [`Self::act`]. The replicas that the Deployment was made with are lowered only if
    /// `is_tick`: within a moment of its birth a Revision may still become reachable.
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
            order: around.order,
            now: now.instant,
        });
        self.current = Some(plan.scale);
        let mut actions = Vec::new();
        if plan.is_reordered {
            actions.push(self.order());
        }
        let is_told = self.show(around, &plan, is_tick, &mut actions);
        if is_told && self.is_asleep(&counts) {
            self.due = None;
        } else {
            self.due.get_or_insert(now.instant + TICK);
        }
        actions
    }

    /// What is to be said again although nothing changed: an order may have been lost, and
    /// somebody else may have written the scale.
    fn repeat(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let views = self.load.views(around.activators, around.now.instant);
        let lingers = views
            .iter()
            .flat_map(|view| view.pods)
            .any(|pod| pod.draining && !self.drain.is_ordered(&pod.uid));
        if lingers && self.drain.order().1.is_empty() {
            // What an earlier leader ordered, or this one before it lost the lead.
            self.drain.renumber(around.order);
        }
        if lingers || !self.drain.order().1.is_empty() {
            actions.push(self.order());
        }
        if !self.is_writing && self.shown.is_some() && self.target.desired != self.shown {
            self.is_writing = true;
            actions.push(self.write(false, BTreeMap::new()));
        }
        actions
    }

    /// Gives back what the activators hold for a revision that is gone.
    pub fn dismiss(mut self) -> Vec<Action> {
        let mut actions = vec![Action::Forget(self.target.key.clone())];
        if !self.drain.order().1.is_empty() {
            self.drain.call_off();
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

    fn order(&self) -> Action {
        let (id, pods) = self.drain.order();
        let revision = self.target.key.clone();
        Action::Drain(DrainOrder { revision, id, pods: pods.to_vec() })
    }

    /// Writes the scale and marks if they differ and it is time to; false if some is left to the
    /// next tick.
    fn show(
        &mut self,
        around: &Surroundings<'_>,
        plan: &Plan,
        is_tick: bool,
        actions: &mut Vec<Action>,
    ) -> bool {
        let marks = marks(around.pods, plan);
        let asked = self.shown.or(self.target.desired).unwrap_or_else(|| self.spec.first_scale());
        if plan.scale == asked && marks.is_empty() {
            return true;
        }
        let is_first = self.shown.is_none() && plan.condemned.is_empty() && marks.is_empty();
        if is_first && plan.scale < asked && !is_tick {
            return false;
        }
        self.shown = Some(plan.scale);
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
            desired: self.shown,
        }))
    }
}

fn resolve(target: &Target, config: &Config) -> ScalingSpec {
    let Target { container_concurrency, is_reachable, annotations, .. } = target;
    ScalingSpec::resolve(*container_concurrency, *is_reachable, annotations, config)
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
