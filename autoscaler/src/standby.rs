//! A revision's last replica that sleeps instead of being stopped: what it is told, and when. Pure.
//!
//! At silence the scale stays at 1 and the pod is drained (it *settles*). When every activator has let
//! go of it, it is told to sleep. It stays drained until a request waits: then it is woken by a call, and
//! its drain is taken back once the call has succeeded. A pod with the mark of one that sleeps is asleep
//! for an autoscaler that begins to lead: the mark is written before the call, and removed after the one
//! that wakes, so that a call may be made once too often and no request meets a model that sleeps. Whether
//! an earlier leader's call arrived is not known: it is repeated.
//!
//! A mark that cannot be written is the API server's fault: the pod serves on, and is tried again later.
//! What a server does wrong is never repaired here. A replica that does not sleep when told, or does not
//! wake, is stopped, and another one starts if a request waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::misses::Misses;
use self::sole::{Sole, sole};
use crate::pods::{Pods, RevisionPod};

mod broken;
mod misses;
mod order;
mod scene;
mod sole;

pub use self::order::{StandbyAnswer, StandbyCall, StandbyOrder, StandbyOutcome};
pub use self::scene::{RestPlan, RestScene};

/// How long a revision that is to have one pod may have several ready ones before it goes to zero instead
/// of sleeping. Kubernetes ends a surplus within seconds; what stays is somebody else's.
const CROWDED_FOR: Duration = Duration::from_mins(1);

/// The replica that sleeps, or is about to.
#[derive(Debug, Default)]
pub struct LastReplica {
    state: State,
    /// The pod that was told to sleep, until it was woken, whatever the watch shows of its mark.
    told: Option<Arc<str>>,
    /// The pod whose mark means nothing: it was woken, or not told to sleep after all.
    woken: Option<Arc<str>>,
    /// Marks that were not written since the silence began.
    misses: Option<Misses>,
    /// Since when there are several ready pods, of which one is wanted.
    crowded: Option<Instant>,
    /// Whether the mark is being removed.
    is_unmarking: bool,
}

#[derive(Debug, Default)]
enum State {
    /// None sleeps.
    #[default]
    Awake,
    /// It is drained, to sleep.
    Settling(Arc<str>),
    /// It was told to sleep, and has not answered.
    FallingAsleep {
        uid: Arc<str>,
        /// Since when it has slept, if it is told once more.
        since: Option<Instant>,
        /// Whether it is to stay.
        is_recalled: bool,
    },
    Asleep {
        uid: Arc<str>,
        since: Instant,
        /// Whether it has answered so.
        is_sure: bool,
    },
    /// It was told to wake, and has not answered.
    Waking(Arc<str>),
    /// It did not do what it was told.
    Broken(Arc<str>),
    /// It goes, or is gone: none sleeps until a request has come.
    Over,
}

// === impl LastReplica ===

impl LastReplica {
    /// Whether the last replica gets no requests because it sleeps, or is about to.
    pub fn is_resting(&self) -> bool {
        self.resting().is_some()
    }

    /// Whether that pod sleeps, as far as is known.
    pub fn is_asleep(&self, asked: &str) -> bool {
        matches!(&self.state, State::Asleep { uid, .. } if **uid == *asked)
    }

    /// The pod that activators may send requests to although it has a mark.
    pub fn called(&self) -> Option<&Arc<str>> {
        self.woken.as_ref()
    }

    /// Goes on to what the present asks for.
    pub fn follow(&mut self, scene: &RestScene<'_>) -> RestPlan {
        self.forget(scene.pods);
        let is_over = matches!(self.state, State::Over);
        if is_over && (scene.want > 0 || scene.current == 0) {
            self.state = State::Awake;
        }
        if scene.want > 0 {
            (self.misses, self.crowded) = (None, None);
        }
        // One that goes is not kept for its mark, and is woken before it serves again.
        if matches!(self.state, State::Awake) && (scene.want > 0 || scene.current > 0) {
            self.adopt(scene);
        }
        let mut plan = RestPlan { want: scene.want, ..RestPlan::default() };
        self.go_on(scene, &mut plan);
        match &self.state {
            State::Broken(uid) => broken::replace(scene, uid, &mut plan),
            _ => plan.rests = self.resting().cloned(),
        }
        if plan.rests.is_some() {
            plan.want = plan.want.max(1);
        }
        plan
    }

    fn go_on(&mut self, scene: &RestScene<'_>, plan: &mut RestPlan) {
        let is_needed = scene.is_wanted && scene.want > 0;
        match &mut self.state {
            State::Awake if scene.want > 0 || scene.current == 0 || !scene.may_rest => {}
            // That would remove a new mark.
            State::Awake if self.is_unmarking => plan.want = 1,
            State::Awake => self.begin(scene, plan),
            State::Settling(_) if scene.want > 0 => self.state = State::Awake,
            State::Settling(_) if !scene.may_rest => self.state = State::Over,
            State::FallingAsleep { uid, is_recalled, .. } if is_needed && !*is_recalled => {
                *is_recalled = true;
                plan.call = Some((Arc::clone(uid), StandbyOrder::Stay));
            }
            State::Asleep { uid, .. } if is_needed => {
                let uid = Arc::clone(uid);
                let can_be_called = scene.pods.get(&uid).is_some_and(|pod| pod.address.is_some());
                plan.call = can_be_called.then(|| (Arc::clone(&uid), StandbyOrder::Wake));
                self.state = if can_be_called { State::Waking(uid) } else { State::Broken(uid) };
            }
            State::Asleep { since, .. } => {
                let is_over = is_past(scene, *since);
                if scene.want == 0 && (is_over || !scene.may_rest) {
                    self.state = State::Over;
                }
            }
            // What was called is left alone until it has answered: a late answer would find it in use.
            State::Over
            | State::Settling(_)
            | State::FallingAsleep { .. }
            | State::Waking(_)
            | State::Broken(_) => {}
        }
    }

    /// At silence: the one pod there is begins to rest.
    fn begin(&mut self, scene: &RestScene<'_>, plan: &mut RestPlan) {
        let sole = sole(scene);
        if !matches!(sole, Sole::Many) {
            self.crowded = None;
        }
        match sole {
            Sole::None => {}
            Sole::Surplus => plan.want = 1,
            Sole::Many => {
                let since = *self.crowded.get_or_insert(scene.now);
                if scene.now.duration_since(since) < CROWDED_FOR {
                    plan.want = 1;
                }
            }
            Sole::Ready(uid) => match &self.misses {
                // It would have slept as long.
                Some(misses) if is_past(scene, misses.since) => self.state = State::Over,
                Some(misses) if scene.now < misses.next => plan.want = 1,
                _ => self.state = State::Settling(uid),
            },
        }
    }

    /// Takes note that no request can reach the pod that rests, and says what it is told.
    pub fn settle(&mut self) -> Option<(Arc<str>, StandbyOrder)> {
        let (uid, since) = match &self.state {
            State::Settling(uid) => (Arc::clone(uid), None),
            State::Asleep { uid, since, is_sure: false } => (Arc::clone(uid), Some(*since)),
            _ => return None,
        };
        if self.is_unmarking {
            // That would remove the new mark.
            return None;
        }
        self.woken = None;
        self.told = Some(Arc::clone(&uid));
        self.state = State::FallingAsleep { uid: Arc::clone(&uid), since, is_recalled: false };
        let is_first = since.is_none();
        Some((uid, if is_first { StandbyOrder::Sleep } else { StandbyOrder::SleepAgain }))
    }

    /// Takes in an answer; true if it is about the pod that was called last, and tells of a failure.
    pub fn answered(&mut self, answer: &StandbyAnswer, now: Instant) -> bool {
        let uid = Arc::clone(&answer.uid);
        match (answer.order, &self.state) {
            (
                StandbyOrder::Sleep | StandbyOrder::SleepAgain,
                State::FallingAsleep { uid: own, since, is_recalled },
            ) if *own == uid => {
                self.state = match (&answer.outcome, *since) {
                    (StandbyOutcome::Done, since) => {
                        State::Asleep { uid, since: since.unwrap_or(now), is_sure: true }
                    }
                    (StandbyOutcome::Failed(_), _) => State::Broken(uid),
                    (StandbyOutcome::NotTold, Some(since)) => {
                        State::Asleep { uid, since, is_sure: false }
                    }
                    (StandbyOutcome::NotTold, None) => {
                        if !is_recalled {
                            self.misses = Some(Misses::after(self.misses.as_ref(), now));
                        }
                        (self.told, self.woken) = (None, Some(uid));
                        State::Awake
                    }
                };
            }
            (StandbyOrder::Wake, State::Waking(own)) if *own == uid => {
                if answer.outcome == StandbyOutcome::Done {
                    (self.told, self.woken) = (None, Some(uid));
                    self.state = State::Awake;
                } else {
                    self.state = State::Broken(uid);
                }
            }
            (StandbyOrder::Unmark, _) => {
                self.is_unmarking = false;
                return false;
            }
            _ => return false,
        }
        matches!(answer.outcome, StandbyOutcome::Failed(_))
    }

    /// The mark to remove: of the pod that was woken, if it is seen with one.
    pub fn unmark(&mut self, pods: &Pods) -> Option<(Arc<str>, StandbyOrder)> {
        let is_marked =
            self.woken.as_ref().and_then(|uid| pods.get(uid)).is_some_and(|it| it.is_asleep);
        is_marked.then(|| self.unmark_unseen(pods)).flatten()
    }

    /// The same where the watch of pods may not have shown the mark yet.
    pub fn unmark_unseen(&mut self, pods: &Pods) -> Option<(Arc<str>, StandbyOrder)> {
        let woken = self.woken.clone().filter(|_| !self.is_unmarking)?;
        pods.get(&woken)?.address?;
        self.is_unmarking = true;
        Some((woken, StandbyOrder::Unmark))
    }

    /// Forgets pods that are gone.
    fn forget(&mut self, pods: &Pods) {
        let stays = |uid: &str| pods.get(uid).is_some_and(|pod| !pod.is_terminating);
        let is_gone = match &self.state {
            State::Awake | State::Over => false,
            State::Settling(uid) => !pods.get(uid).is_some_and(|it| stays(uid) && it.is_ready),
            State::FallingAsleep { uid, .. }
            | State::Asleep { uid, .. }
            | State::Waking(uid)
            | State::Broken(uid) => !stays(uid),
        };
        if is_gone {
            self.state = State::Over;
        }
        self.told.take_if(|uid| !pods.contains(uid));
        if self.woken.take_if(|uid| !pods.contains(uid)).is_some() {
            self.is_unmarking = false;
        }
    }

    /// Takes over a pod that sleeps: one that was told so and goes no more, or one that has the mark of an
    /// earlier leader, whose call may not have arrived.
    fn adopt(&mut self, scene: &RestScene<'_>) {
        if scene.standby.is_none() {
            return;
        }
        let is_told = |pod: &RevisionPod| self.told.as_ref() == Some(&pod.uid);
        let is_marked = |pod: &RevisionPod| pod.is_asleep && self.woken.as_ref() != Some(&pod.uid);
        let mut standing = scene.pods.iter().filter(|pod| !pod.is_terminating);
        if let Some(pod) = standing.find(|pod| is_told(pod) || is_marked(pod)) {
            let is_sure = is_told(pod);
            let since = pod.asleep_since.filter(|_| !is_sure).unwrap_or(scene.now);
            self.state = State::Asleep { uid: Arc::clone(&pod.uid), since, is_sure };
        }
    }

    fn resting(&self) -> Option<&Arc<str>> {
        match &self.state {
            State::Settling(uid)
            | State::FallingAsleep { uid, .. }
            | State::Asleep { uid, .. }
            | State::Waking(uid) => Some(uid),
            State::Awake | State::Broken(_) | State::Over => None,
        }
    }
}

/// Whether one that has slept since then has slept for as long as it may.
fn is_past(scene: &RestScene<'_>, since: Instant) -> bool {
    let Some(standby) = scene.standby else { return true };
    standby.lasts.is_some_and(|lasts| scene.now.duration_since(since) >= lasts)
}

#[cfg(test)]
mod tests;
