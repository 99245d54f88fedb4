//! A small cluster around a [`Fleet`]: an API server, a Deployment controller and activators, all
//! on a clock that the test moves. The activators' real state is known here, so that the rules are
//! checked against the truth and not against the reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::config::Config;
use ebb_api::report::{OrderId, PodReport, Report, RevisionKey, RevisionReport, Scope};
use ebb_daemon::desired::Seen;
use tokio::time::Instant;

use crate::activators::ReporterPod;
use crate::event::{Action, FleetEvent, Measures, RevisionNotice, Write};
use crate::fleet::Fleet;
use crate::pods::RevisionPod;
use crate::scale_target::ScaleTarget;
use crate::standby::StandbyCall;

mod control;

/// Step of the clock.
pub(super) const STEP: Duration = Duration::from_millis(100);
/// After how long people are told of a scale that is held up.
pub(super) const PATIENCE: Duration = Duration::from_mins(10);

#[derive(Debug, Default)]
pub(super) struct Activator {
    /// Pods it was told to drain.
    pub order: BTreeSet<String>,
    pub obeyed: OrderId,
    /// The pod whose mark means nothing to it.
    pub called: Option<String>,
    pub in_flight: BTreeMap<String, u32>,
    pub queued: u32,
    pub is_dead: bool,
    /// Its reports do not get through.
    pub is_mute: bool,
    /// Orders do not get through to it.
    pub is_deaf: bool,
}

/// What comes of the marks of pods that sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    Seen,
    /// They are written, and the watch does not show them.
    Unseen,
    /// They cannot be written.
    Refused,
}

pub(super) struct Cluster {
    pub fleet: Fleet,
    pub start: Instant,
    pub now: Instant,
    pub target: ScaleTarget,
    pub pods: BTreeMap<String, RevisionPod>,
    costs: BTreeMap<String, i32>,
    pub activators: Vec<Activator>,
    pub writes: Vec<Write>,
    pub notices: Vec<RevisionNotice>,
    /// The calls to pods, with whether each succeeds.
    pub calls: Vec<StandbyCall>,
    pub do_calls_succeed: bool,
    pub marks: Marks,
    /// The measures of the last tick.
    pub measures: Option<Measures>,
    /// How long a new pod takes to be ready.
    pub ready_after: Duration,
    /// Whether the Deployment controller acts.
    pub is_controlled: bool,
    /// Whether the watch of Revisions lags: it shows only the state before the last write.
    pub is_lagging: bool,
    born: BTreeMap<String, Instant>,
    scaled_to: u32,
    pods_made: u32,
}

// === impl Activator ===

impl Activator {
    pub(super) fn holds(&self, uid: &str) -> bool {
        self.order.contains(uid) && self.in_flight.get(uid).is_none_or(|count| *count == 0)
    }

    fn load(&self) -> u32 {
        self.queued + self.in_flight.values().sum::<u32>()
    }
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn new(activators: usize, annotations: &[(&str, &str)]) -> Self {
        let start = Instant::now();
        let target = ScaleTarget {
            key: RevisionKey::new("models", "digits-00001").into(),
            uid: "uid-1".to_owned(),
            is_reachable: true,
            annotations: annotations
                .iter()
                .map(|(key, value)| {
                    let group = if key.starts_with("standby") {
                        "serving.ebb.dev"
                    } else {
                        "autoscaling.knative.dev"
                    };
                    (format!("{group}/{key}"), (*value).to_owned())
                })
                .collect(),
            ..ScaleTarget::default()
        };
        let mut cluster = Self {
            fleet: Fleet::new(Arc::new(Config::default()), PATIENCE, start),
            start,
            now: start,
            target,
            pods: BTreeMap::new(),
            costs: BTreeMap::new(),
            activators: (0..activators).map(|_| Activator::default()).collect(),
            writes: Vec::new(),
            notices: Vec::new(),
            calls: Vec::new(),
            do_calls_succeed: true,
            marks: Marks::Seen,
            measures: None,
            ready_after: Duration::from_millis(500),
            is_controlled: true,
            is_lagging: false,
            born: BTreeMap::new(),
            scaled_to: 0,
            pods_made: 0,
        };
        cluster.show_activators();
        cluster.step(FleetEvent::PodsListed(Vec::new()));
        cluster.step(FleetEvent::TargetsListed(vec![cluster.target.clone()]));
        cluster
    }

    /// Shows the activators' pods as kubelet reports them.
    pub(super) fn show_activators(&mut self) {
        let pods = self.activators.iter().enumerate().map(|(index, activator)| {
            let state = if activator.is_dead { ReporterPod::Stopped } else { ReporterPod::Running };
            (format!("activator-{index}"), state)
        });
        self.step(FleetEvent::Activators(pods.collect()));
    }

    /// Ends or revives an activator, and shows that in its pod.
    pub(super) fn set_dead(&mut self, index: usize, is_dead: bool) {
        self.activators[index].is_dead = is_dead;
        self.show_activators();
    }

    /// Another autoscaler takes the place of this one; it knows nothing but the API.
    pub(super) fn restart(&mut self) {
        self.fleet = Fleet::new(Arc::new(Config::default()), PATIENCE, self.now);
        self.step(FleetEvent::Leads(Some(2)));
        self.show_activators();
        self.step(FleetEvent::TargetsListed(vec![self.target.clone()]));
        self.list_pods();
    }

    /// The watch of pods begins anew.
    pub(super) fn list_pods(&mut self) {
        let pods = self.pods.values().map(|pod| ((*self.target.key).clone(), pod.clone()));
        self.step(FleetEvent::PodsListed(pods.collect()));
    }

    /// The scale last asked for; before the first write the one that the Deployment is made with.
    pub(super) fn desired(&self) -> u32 {
        let annotation = self.target.annotations.get("autoscaling.knative.dev/initial-scale");
        let initial = annotation.map_or(1, |scale| scale.parse().unwrap());
        self.target.desired.unwrap_or(initial)
    }

    pub(super) fn ready(&self) -> usize {
        let serves = |pod: &&RevisionPod| pod.is_ready && !pod.is_terminating;
        self.pods.values().filter(serves).count()
    }

    pub(super) fn order(&self) -> &BTreeSet<String> {
        &self.activators[0].order
    }

    /// Feeds an event and carries out what follows.
    pub(super) fn step(&mut self, event: FleetEvent) {
        let actions = self.fleet.step(event, self.now);
        for action in actions {
            match action {
                Action::Drain(order) => {
                    assert_eq!(order.revision, *self.target.key);
                    for activator in self.activators.iter_mut().filter(|one| !one.is_deaf) {
                        activator.order = order.pods.iter().cloned().collect();
                        activator.obeyed = order.id;
                        activator.called.clone_from(&order.called);
                    }
                }
                Action::Write(write) => self.write(*write),
                Action::Call(call) => self.call(*call),
                Action::Notice(notice) => self.notices.push(*notice),
                Action::Measure(_, measures) => self.measures = Some(measures),
                Action::Forget(_) | Action::BeginAnew(_) => {}
            }
        }
    }

    fn write(&mut self, write: Write) {
        assert!(write.known.is_none() || write.known == self.target.desired, "{write:?}");
        if let Some(lower) = write.desired.filter(|lower| *lower < self.desired()) {
            self.check_lowering(lower);
        }
        for (name, cost) in &write.marks {
            match cost {
                Some(cost) => self.costs.insert(name.clone(), *cost),
                None => self.costs.remove(name),
            };
            if let Some(pod) = self.pods.values().find(|pod| *pod.name == **name).cloned() {
                self.set_pod(RevisionPod { is_marked: cost.is_some(), ..pod });
            }
        }
        let before = self.target.clone();
        self.target.desired = write.desired.or(self.target.desired);
        self.target.version += 1;
        self.writes.push(write);
        let ScaleTarget { version, desired: replicas, .. } = self.target;
        let key = (*self.target.key).clone();
        self.step(FleetEvent::Written { key, seen: Seen { version, replicas } });
        let told = if self.is_lagging { before } else { self.target.clone() };
        self.step(FleetEvent::TargetApplied(Box::new(told)));
    }

    /// A lower scale may be written only when all activators have let go of enough pods.
    fn check_lowering(&self, lower: u32) {
        let standing = self.pods.values().filter(|pod| !pod.is_terminating);
        let held: Vec<_> = standing
            .filter(|pod| {
                let alive = self.activators.iter().filter(|one| !one.is_dead);
                !alive.into_iter().all(|activator| activator.holds(&pod.uid))
            })
            .map(|pod| &pod.uid)
            .collect();
        assert!(
            held.len() <= usize::try_from(lower).unwrap(),
            "asked for {lower} replicas while {held:?} may still get requests"
        );
    }

    /// Moves the clock, reporting each second and ticking when due.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += STEP;
            self.control();
            let since = self.now - self.start;
            for index in 0..self.activators.len() {
                // Each at its own moment of the second.
                if since.subsec_millis() == 100 * u32::try_from(index % 10).unwrap() {
                    self.report(index, 1.0);
                }
            }
            while self.fleet.deadline().is_some_and(|at| at <= self.now) {
                self.step(FleetEvent::Tick);
            }
        }
    }

    /// One activator reports; `interval_s` is 0 for an immediate report.
    pub(super) fn report(&mut self, index: usize, interval_s: f64) {
        let activator = &self.activators[index];
        if activator.is_dead || activator.is_mute {
            return;
        }
        let pods: Vec<_> = self
            .pods
            .values()
            .filter(|pod| pod.is_ready && !pod.is_terminating)
            .map(|pod| PodReport {
                uid: Arc::clone(&pod.uid),
                in_flight: activator.in_flight.get(&*pod.uid).copied().unwrap_or(0),
                draining: activator.order.contains(&*pod.uid),
            })
            .collect();
        let load = activator.load();
        let quiet = pods.is_empty() && load == 0 && activator.order.is_empty();
        let revision = RevisionReport {
            revision: (*self.target.key).clone(),
            concurrency_mean: f64::from(load),
            requests_per_second: f64::from(load),
            queued: activator.queued,
            interval_s,
            obeyed: activator.obeyed,
            pods,
            is_cut: false,
        };
        self.step(FleetEvent::Report(Report {
            activator: format!("activator-{index}"),
            scope: if interval_s > 0.0 { Scope::Full } else { Scope::Moment },
            revisions: if quiet { Vec::new() } else { vec![revision] },
        }));
    }

    pub(super) fn set_pod(&mut self, pod: RevisionPod) {
        self.pods.insert(pod.uid.to_string(), pod.clone());
        let revision = (*self.target.key).clone();
        self.step(FleetEvent::PodApplied { revision, pod });
    }

    /// A request arrives at an activator: into a pod that serves, else into the queue.
    pub(super) fn request(&mut self, index: usize, choice: usize) {
        let activator = &self.activators[index];
        let serving: Vec<_> = self
            .pods
            .values()
            .filter(|pod| pod.is_ready && !pod.is_terminating)
            .filter(|pod| !activator.order.contains(&*pod.uid))
            .map(|pod| pod.uid.to_string())
            .collect();
        let activator = &mut self.activators[index];
        if serving.is_empty() {
            activator.queued += 1;
            if activator.queued == 1 {
                self.report(index, 0.0);
            }
        } else {
            let uid = serving[choice % serving.len()].clone();
            *activator.in_flight.entry(uid).or_default() += 1;
        }
    }

    /// Sends queued requests into pods that serve.
    pub(super) fn dispatch(&mut self) {
        for index in 0..self.activators.len() {
            let waiting = std::mem::take(&mut self.activators[index].queued);
            for choice in 0..waiting {
                self.request(index, usize::try_from(choice).unwrap());
            }
        }
    }

    /// Every request in flight is answered.
    pub(super) fn finish(&mut self) {
        self.activators.iter_mut().for_each(|activator| activator.in_flight.clear());
    }

    /// Runs until that many pods are ready, at most a minute.
    pub(super) fn run_until_ready(&mut self, ready: usize) {
        let end = self.now + Duration::from_mins(1);
        while self.ready() != ready {
            assert!(self.now < end, "{} ready, not {ready}", self.ready());
            self.run(STEP);
        }
    }
}
