//! All revisions together: a state machine from events to actions, with no clock, channel or
//! client. A simulation, a test and the real autoscaler step the very same machine.
//!
//! Cost: a revision at zero with no load is never looked at; each other one every two seconds, at
//! instants spread over that time.

mod pods;
mod room;
mod silence;
mod sizes;
mod table;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::config::Config;
use ebb_api::report::{OrderId, Report, RevisionKey, Scope};
use ebb_daemon::desired::Seen;
use ebb_daemon::lease::Epoch;
use tokio::time::Instant;

use self::table::{Id, Place, Table};
use crate::activators::Activators;
use crate::event::{Action, FleetEvent, Moment};
use crate::room::Room;
use crate::scale_target::ScaleTarget;
use crate::scaler::{RevisionScaler, Surroundings, TICK};
use crate::standby::StandbyAnswer;

/// Most revisions that are scaled. Knative keeps up to 1000 idle revisions of one service by
/// default, so thousands are ordinary; beyond this one autoscaler's memory would not be bounded.
pub const REVISIONS_MAX: usize = 20_000;
/// Longest name of an activator, which is a pod's name (a DNS subdomain).
const ACTIVATOR_CHARS_MAX: usize = 253;

/// How one revision is looked at.
type Visit = fn(&mut RevisionScaler, &Surroundings<'_>) -> Vec<Action>;

/// All revisions and what they depend on.
#[derive(Debug)]
pub struct Fleet {
    /// Second 0 of the load windows.
    origin: Instant,
    config: Arc<Config>,
    /// The term in which this autoscaler leads; `None` while it stands by and only keeps what it
    /// hears.
    leads: Option<Epoch>,
    /// Counts the visits; a visit gives its number to the order that it makes. One counter for all
    /// revisions: a revision made anew under an old name must not count obedience to an old order
    /// as its own.
    visits: u64,
    activators: Activators,
    /// After how long people are told of a scale that is held up.
    patience: Duration,
    /// Activators that the log has already called silent.
    silent: BTreeSet<String>,
    table: Table,
    are_targets_listed: bool,
    are_pods_listed: bool,
    due: BTreeSet<(Instant, Id)>,
    /// Pods that no node takes for want of something.
    lacking: BTreeSet<Arc<str>>,
    room: Room,
    /// The revisions that are held down for others.
    ceding: BTreeSet<Arc<RevisionKey>>,
    /// When room is looked for next.
    room_due: Option<Instant>,
    /// Revisions whose scale is held up.
    held: usize,
    faults: u64,
}

// === impl Fleet ===

impl Fleet {
    /// No revisions yet; leads until it is told otherwise. After `patience` people are told of a
    /// scale that is held up because an activator is not heard.
    pub fn new(config: Arc<Config>, patience: Duration, origin: Instant) -> Self {
        Self {
            origin,
            config,
            leads: Some(1),
            visits: 0,
            activators: Activators::default(),
            patience,
            silent: BTreeSet::new(),
            table: Table::default(),
            are_targets_listed: false,
            are_pods_listed: false,
            due: BTreeSet::new(),
            lacking: BTreeSet::new(),
            room: Room::default(),
            ceding: BTreeSet::new(),
            room_due: None,
            held: 0,
            faults: 0,
        }
    }

    /// Takes in an event at `instant` and says what to do.
    /// Instants never go back from one call to the next.
    pub fn step(&mut self, event: FleetEvent, instant: Instant) -> Vec<Action> {
        let now =
            Moment { instant, second: instant.saturating_duration_since(self.origin).as_secs() };
        let mut actions = match event {
            FleetEvent::Report(report) => self.on_report(report, now),
            FleetEvent::TargetsListed(targets) => self.on_targets(targets, now),
            FleetEvent::TargetApplied(target) => self.on_target(*target, now),
            FleetEvent::TargetDeleted { key, uid } => self.on_target_deleted(&key, &uid),
            FleetEvent::TargetLeft { key, uid } => self.on_target_left(&key, &uid, now),
            FleetEvent::PodsListed(pods) => self.on_pods(pods, now),
            FleetEvent::PodApplied { revision, pod } => self.on_pod(&revision, pod, now),
            FleetEvent::PodDeleted { revision, uid } => self.on_pod_deleted(&revision, &uid, now),
            FleetEvent::Activators(pods) => {
                self.faults += self.activators.follow(&pods, now.instant);
                Vec::new()
            }
            FleetEvent::Config(config) => self.on_config(config, now),
            FleetEvent::Written { key, seen } => self.on_written(&key, seen, now),
            FleetEvent::Refused(key) => self.on_answer(&key, now, RevisionScaler::refuse),
            FleetEvent::Answered(answer) => self.on_call_answered(&answer, now),
            FleetEvent::Leads(leads) => self.on_leads(leads, now),
            FleetEvent::Tick => self.on_tick(now),
        };
        actions.extend(self.make_room(now));
        actions
    }

    /// When the next [`FleetEvent::Tick`] is due; `None` while all revisions sleep.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at).into_iter().chain(self.room_due).min()
    }

    /// Whether the revisions are known: a report before that would be lost.
    pub fn is_listed(&self) -> bool {
        self.are_targets_listed
    }

    /// How many values or objects were refused so far because they made no sense or were too many.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// How many revisions would have fewer replicas if all activators were heard.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The labels of a revision.
    pub fn labels(&self, key: &RevisionKey) -> Option<&BTreeMap<String, String>> {
        Some(&self.table.revision(key)?.target().labels)
    }

    fn on_report(&mut self, report: Report, now: Moment) -> Vec<Action> {
        let Report { activator, scope, revisions } = report;
        if activator.len() > ACTIVATOR_CHARS_MAX || revisions.len() > REVISIONS_MAX {
            self.faults += 1;
            return Vec::new();
        }
        let Some(heard) = self.activators.heard(&activator, scope, now.instant) else {
            self.faults += 1;
            return Vec::new();
        };
        // The full report was forgotten here, or had no room, and the activator takes it for known.
        let is_forgotten = scope == Scope::Changes && heard.fulls == 0;
        let clock = self.room.clock();
        let mut actions: Vec<_> =
            is_forgotten.then_some(Action::BeginAnew(activator)).into_iter().collect();
        for report in revisions {
            let Some(id) = self.table.id(&report.revision) else {
                continue;
            };
            let Place { revision, pods } = self.table.at_mut(id);
            let Some(revision) = revision else {
                continue;
            };
            self.faults += revision.load_mut().record(heard, report, &self.activators, pods, now);
            revision.note_use(clock, now.instant);
            if revision.is_urgent() {
                actions.extend(self.visit(id, now, RevisionScaler::decide));
            }
        }
        actions
    }

    fn on_targets(&mut self, targets: Vec<ScaleTarget>, now: Moment) -> Vec<Action> {
        self.are_targets_listed = true;
        self.table.revisions_mut().for_each(RevisionScaler::forget_version);
        let listed: HashSet<&RevisionKey> = targets.iter().map(|target| &*target.key).collect();
        let gone: Vec<_> = self.table.keys().filter(|key| !listed.contains(key)).cloned().collect();
        let mut actions: Vec<_> = gone.iter().filter_map(|key| self.remove(key)).collect();
        for target in targets {
            actions.extend(self.on_target(target, now));
        }
        actions
    }

    fn on_target(&mut self, target: ScaleTarget, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        let id = match self.table.id(&target.key) {
            Some(id) if self.is_of(id, &target.uid) => {
                if let Some(revision) = &mut self.table.at_mut(id).revision {
                    revision.follow(target, &self.config);
                }
                id
            }
            _ => {
                actions.extend(self.remove(&target.key));
                if self.table.len() >= REVISIONS_MAX {
                    self.faults += 1;
                    return actions;
                }
                self.table.insert(RevisionScaler::new(target, &self.config, now))
            }
        };
        actions.extend(self.visit(id, now, RevisionScaler::act));
        actions
    }

    fn is_of(&self, id: Id, uid: &str) -> bool {
        self.table.at(id).revision.as_ref().is_some_and(|revision| revision.target().uid == uid)
    }

    fn on_target_deleted(&mut self, key: &RevisionKey, uid: &str) -> Vec<Action> {
        let is_known = self.table.id(key).is_some_and(|id| self.is_of(id, uid));
        let ended = if is_known { self.remove(key) } else { None };
        ended.into_iter().collect()
    }

    fn on_target_left(&mut self, key: &RevisionKey, uid: &str, now: Moment) -> Vec<Action> {
        let Some(id) = self.table.id(key).filter(|id| self.is_of(*id, uid)) else {
            return Vec::new();
        };
        let mut actions = self.visit(id, now, RevisionScaler::give_up);
        actions.extend(self.remove(key));
        actions
    }

    fn remove(&mut self, key: &RevisionKey) -> Option<Action> {
        let (id, revision) = self.table.remove(key)?;
        if let Some(due) = revision.due {
            self.due.remove(&(due, id));
        }
        self.held -= usize::from(revision.is_held());
        Some(revision.dismiss())
    }

    /// Every revision starts over from its newest object, for another autoscaler may have decided
    /// meanwhile. The load is kept: this autoscaler heard it itself.
    fn on_leads(&mut self, leads: Option<Epoch>, now: Moment) -> Vec<Action> {
        if leads == self.leads {
            return Vec::new();
        }
        self.leads = leads;
        self.due.clear();
        self.held = 0;
        self.forget_room();
        for revision in self.table.revisions_mut() {
            revision.restart(&self.config, now);
        }
        self.visit_all(now, RevisionScaler::act)
    }

    fn on_config(&mut self, config: Arc<Config>, now: Moment) -> Vec<Action> {
        for revision in self.table.revisions_mut() {
            revision.follow_config(&config);
        }
        self.config = config;
        self.visit_all(now, RevisionScaler::act)
    }

    fn on_written(&mut self, key: &RevisionKey, seen: Seen, now: Moment) -> Vec<Action> {
        if let Some(id) = self.table.id(key)
            && let Some(revision) = &mut self.table.at_mut(id).revision
        {
            revision.learn(seen);
        }
        self.on_answer(key, now, RevisionScaler::confirm_written)
    }

    fn on_answer(&mut self, key: &RevisionKey, now: Moment, visit: Visit) -> Vec<Action> {
        let id = self.table.id(key);
        id.map_or_else(Vec::new, |id| self.visit(id, now, visit))
    }

    fn on_call_answered(&mut self, answer: &StandbyAnswer, now: Moment) -> Vec<Action> {
        let id = self.table.id(&answer.key);
        let visit = |id| self.visit(id, now, |revision, around| revision.answered(answer, around));
        id.map_or_else(Vec::new, visit)
    }

    fn on_tick(&mut self, now: Moment) -> Vec<Action> {
        self.tell_silence(now.instant);
        let mut actions = Vec::new();
        while let Some((at, _)) = self.due.first()
            && *at <= now.instant
        {
            let Some((_, id)) = self.due.pop_first() else {
                break;
            };
            actions.extend(self.visit(id, now, RevisionScaler::tick));
            let Place { revision, pods } = self.table.at(id);
            actions.extend(revision.iter().map(|revision| revision.measure(pods.counts())));
        }
        actions
    }

    fn visit_all(&mut self, now: Moment, visit: Visit) -> Vec<Action> {
        let ids = self.table.ids();
        ids.into_iter().flat_map(|id| self.visit(id, now, visit)).collect()
    }

    /// Lets one revision act, and notes when it is to be looked at next. Does nothing while this
    /// autoscaler does not lead.
    fn visit(
        &mut self,
        id: Id,
        now: Moment,
        visit: impl FnOnce(&mut RevisionScaler, &Surroundings<'_>) -> Vec<Action>,
    ) -> Vec<Action> {
        let Some(epoch) = self.leads else {
            return Vec::new();
        };
        self.visits += 1;
        let Place { revision: Some(revision), pods } = self.table.at_mut(id) else {
            return Vec::new();
        };
        let before = revision.due;
        let was_held = revision.is_held();
        let actions = visit(
            revision,
            &Surroundings {
                activators: &self.activators,
                complete_age: self.activators.complete_age(now.instant),
                patience: self.patience,
                pods,
                is_listed: self.are_pods_listed,
                order: OrderId { epoch, number: self.visits },
                now,
            },
        );
        match (was_held, revision.is_held()) {
            (false, true) => self.held += 1,
            (true, false) => self.held -= 1,
            _ => {}
        }
        if let Some(before) = before {
            self.due.remove(&(before, id));
        } else if revision.due.is_some() {
            // The first tick comes anywhere within the interval, so that a thousand revisions
            // that were listed together are not all looked at together for ever.
            let phase = phase(&revision.target().key);
            revision.due.iter_mut().for_each(|due| *due -= phase);
        }
        if let Some(due) = revision.due {
            self.due.insert((due, id));
        }
        actions
    }
}

/// A part of the tick that depends only on the key.
fn phase(key: &RevisionKey) -> Duration {
    // The keys of this hasher are fixed, unlike those of a HashMap: equal runs stay equal.
    let mut hasher = std::hash::DefaultHasher::new();
    key.hash(&mut hasher);
    let millis = u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(hasher.finish() % millis)
}

#[cfg(test)]
mod tests;
