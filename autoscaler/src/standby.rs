//! A revision's last replica that sleeps instead of being stopped: what it is told, and when. Pure.
//!
//! At silence the scale stays at 1 and the pod is drained (it *settles*). When every activator has let
//! go of it, it is told to sleep. It stays drained until a request waits: then it is woken by a call, and
//! its drain is taken back once the call has succeeded. A pod with the mark of one that sleeps is asleep
//! for an autoscaler that begins to lead: the mark is written before the call, and removed after the one
//! that wakes, so that a call may be made once too often and no request meets a model that sleeps.
//!
//! What fails is never repaired here. A replica that does not sleep when told, or does not wake, is
//! stopped, and another one starts if a request waits.

use std::net::SocketAddr;
use std::sync::Arc;

use ebb_api::report::RevisionKey;
use ebb_api::standby::Standby;
use tokio::time::Instant;

use crate::pods::{Pods, RevisionPod};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbyOrder {
    /// To be marked, and told to sleep.
    Sleep,
    /// To be told to wake.
    Wake,
    /// To lose its mark.
    Unmark,
}

/// A call to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyCall {
    /// The revision.
    pub key: Arc<RevisionKey>,
    /// The pod's UID, for a namesake is left alone.
    pub uid: Arc<str>,
    /// The pod's name.
    pub name: Box<str>,
    /// Where its model listens.
    pub address: SocketAddr,
    /// What it is told.
    pub order: StandbyOrder,
    /// The path of the request, with its query; empty where there is none.
    pub path: Box<str>,
}

/// How a call went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyAnswer {
    /// The revision.
    pub key: Arc<RevisionKey>,
    /// The pod.
    pub uid: Arc<str>,
    /// What it was told.
    pub order: StandbyOrder,
    /// What went wrong.
    pub failure: Option<Box<str>>,
}

/// The inputs of a step.
#[derive(Clone, Copy, Debug)]
pub struct RestScene<'a> {
    /// Replicas to aim at without standby.
    pub want: u32,
    /// Replicas asked for now.
    pub current: u32,
    /// Whether anything asks for a replica that serves.
    pub is_wanted: bool,
    /// Whether a scale may be lowered: all activators and pods are known.
    pub is_known: bool,
    /// How the last replica sleeps, if it does.
    pub standby: Option<&'a Standby>,
    /// Whether it may sleep now: requests may come, and its room is not for others.
    pub may_rest: bool,
    /// The revision's pods.
    pub pods: &'a Pods,
    /// The present.
    pub now: Instant,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestPlan {
    /// Replicas to aim at.
    pub want: u32,
    /// The pod that gets no requests and stays.
    pub rests: Option<Arc<str>>,
    /// The call to make.
    pub call: Option<(Arc<str>, StandbyOrder)>,
}

/// The replica that sleeps, or is about to.
#[derive(Debug, Default)]
pub struct LastReplica {
    state: State,
    /// The pod that was woken, as long as it has the mark.
    woken: Option<Arc<str>>,
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
    FallingAsleep(Arc<str>),
    Asleep(Arc<str>, Instant),
    /// It was told to wake, and has not answered.
    Waking(Arc<str>),
    /// It did not do what it was told.
    Broken(Arc<str>),
    /// It goes, or is gone: none sleeps until a request has come.
    Over,
}

/// The pods of a revision that is to have one.
enum Sole {
    None,
    Ready(Arc<str>),
    /// Others have yet to end.
    Many,
}

// === impl LastReplica ===

impl LastReplica {
    /// Whether the last replica gets no requests because it sleeps, or is about to.
    pub fn is_resting(&self) -> bool {
        self.resting().is_some()
    }

    /// Whether that pod sleeps, as far as is known.
    pub fn is_asleep(&self, uid: &str) -> bool {
        matches!(&self.state, State::Asleep(own, _) if **own == *uid)
    }

    /// Goes on to what the present asks for.
    pub fn follow(&mut self, scene: &RestScene<'_>) -> RestPlan {
        self.forget(scene.pods);
        let mut call = None;
        let mut want = scene.want;
        let is_over = matches!(self.state, State::Over);
        if is_over && (want > 0 || scene.current == 0) {
            self.state = State::Awake;
        }
        // One that goes is not kept for its mark, and is woken before it serves again.
        if let (State::Awake, Some(pod)) = (&self.state, self.marked(scene))
            && (want > 0 || scene.current > 0)
        {
            self.state = State::Asleep(Arc::clone(&pod.uid), scene.now);
        }
        match &self.state {
            State::Awake if want > 0 || scene.current == 0 => {}
            State::Awake if scene.may_rest && !self.is_unmarking => match sole(scene) {
                Sole::None => {}
                Sole::Many => want = 1,
                Sole::Ready(uid) => self.state = State::Settling(uid),
            },
            State::Settling(_) if want > 0 => self.state = State::Awake,
            State::Asleep(uid, _) if scene.is_wanted && want > 0 => {
                let uid = Arc::clone(uid);
                let can_be_called = scene.pods.get(&uid).is_some_and(|pod| pod.address.is_some());
                call = can_be_called.then(|| (Arc::clone(&uid), StandbyOrder::Wake));
                self.state = if can_be_called { State::Waking(uid) } else { State::Broken(uid) };
            }
            State::Asleep(_, since) => {
                let lasts = scene.standby.map(|standby| standby.lasts);
                let is_over = match lasts {
                    Some(Some(lasts)) => scene.now.duration_since(*since) >= lasts,
                    Some(None) => false,
                    None => true,
                };
                if want == 0 && (is_over || !scene.may_rest) {
                    self.state = State::Over;
                }
            }
            State::Settling(_) if !scene.may_rest => self.state = State::Over,
            // Besides those that serve: it is none.
            State::Broken(uid) if spares(scene, uid) => want = want.saturating_add(1),
            State::Broken(_) if scene.is_known => want = 0,
            // What was called is left alone until it has answered: a late answer would find it in use.
            State::Awake
            | State::Over
            | State::Settling(_)
            | State::FallingAsleep(_)
            | State::Waking(_)
            | State::Broken(_) => {}
        }
        let rests = match &self.state {
            // Until it may go.
            State::Broken(uid) if !scene.is_known || spares(scene, uid) => Some(Arc::clone(uid)),
            _ => self.resting().cloned(),
        };
        if rests.is_some() {
            want = want.max(1);
        }
        RestPlan { want, rests, call }
    }

    /// Takes note that no request can reach the pod that settles, and says what it is told.
    pub fn settle(&mut self) -> Option<(Arc<str>, StandbyOrder)> {
        let State::Settling(uid) = &self.state else { return None };
        if self.is_unmarking {
            // That would remove the new mark.
            return None;
        }
        let uid = Arc::clone(uid);
        self.woken = None;
        self.state = State::FallingAsleep(Arc::clone(&uid));
        Some((uid, StandbyOrder::Sleep))
    }

    /// Takes in an answer; true if it is about the pod that was called last, and tells of a failure.
    pub fn answered(&mut self, answer: &StandbyAnswer, now: Instant) -> bool {
        let is_done = answer.failure.is_none();
        let uid = Arc::clone(&answer.uid);
        match (answer.order, &self.state) {
            (StandbyOrder::Sleep, State::FallingAsleep(own)) if *own == uid => {
                self.state = if is_done { State::Asleep(uid, now) } else { State::Broken(uid) };
                !is_done
            }
            (StandbyOrder::Wake, State::Waking(own)) if *own == uid => {
                self.woken = is_done.then(|| Arc::clone(&uid));
                self.state = if is_done { State::Awake } else { State::Broken(uid) };
                !is_done
            }
            (StandbyOrder::Unmark, _) => {
                self.is_unmarking = false;
                false
            }
            (StandbyOrder::Sleep | StandbyOrder::Wake, _) => false,
        }
    }

    /// The mark to remove: of the pod that was woken.
    pub fn unmark(&mut self, pods: &Pods) -> Option<(Arc<str>, StandbyOrder)> {
        let woken = self.woken.clone().filter(|_| !self.is_unmarking)?;
        pods.get(&woken)?.address?;
        self.is_unmarking = true;
        Some((woken, StandbyOrder::Unmark))
    }

    /// Forgets pods that are gone, and a mark that is.
    fn forget(&mut self, pods: &Pods) {
        let stays = |uid: &str| pods.get(uid).is_some_and(|pod| !pod.is_terminating);
        let is_gone = match &self.state {
            State::Awake | State::Over => false,
            State::Settling(uid) => !pods.get(uid).is_some_and(|it| stays(uid) && it.is_ready),
            State::FallingAsleep(uid)
            | State::Asleep(uid, _)
            | State::Waking(uid)
            | State::Broken(uid) => !stays(uid),
        };
        if is_gone {
            self.state = State::Over;
        }
        if self.woken.take_if(|uid| !pods.contains(uid)).is_some() {
            self.is_unmarking = false;
        }
        if !self.is_unmarking {
            self.woken.take_if(|uid| !pods.get(uid).is_some_and(|pod| pod.is_asleep));
        }
    }

    /// A pod that an earlier leader told to sleep.
    fn marked<'a>(&self, scene: &RestScene<'a>) -> Option<&'a RevisionPod> {
        scene.standby?;
        let is_marked = |pod: &&RevisionPod| {
            pod.is_asleep && !pod.is_terminating && self.woken.as_ref() != Some(&pod.uid)
        };
        scene.pods.iter().find(is_marked)
    }

    fn resting(&self) -> Option<&Arc<str>> {
        match &self.state {
            State::Settling(uid)
            | State::FallingAsleep(uid)
            | State::Asleep(uid, _)
            | State::Waking(uid) => Some(uid),
            State::Awake | State::Broken(_) | State::Over => None,
        }
    }
}

/// Whether a broken pod is left alone for now: others serve, or will soon, and fewer replicas might take
/// them instead of it.
fn spares(scene: &RestScene<'_>, broken: &str) -> bool {
    let is_other = |pod: &RevisionPod| *pod.uid != *broken && !pod.is_terminating;
    scene.want > 0 && scene.pods.iter().any(is_other)
}

fn sole(scene: &RestScene<'_>) -> Sole {
    let standing: Vec<_> = scene.pods.iter().filter(|pod| !pod.is_terminating).collect();
    match &standing[..] {
        _ if scene.current > 1 => Sole::Many,
        [pod] if pod.is_ready && pod.address.is_some() => Sole::Ready(Arc::clone(&pod.uid)),
        [] | [_] => Sole::None,
        // Those that are not ready go before it.
        pods if pods.iter().any(|pod| pod.is_ready) => Sole::Many,
        _ => Sole::None,
    }
}

#[cfg(test)]
mod tests;
