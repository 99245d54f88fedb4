//! The pods of a revision: news from the watch, results of the probe, and what follows from both.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{Live, Pod, Revision, State, Tracked};
use crate::dispatch::PodUid;
use crate::failure::{self, Failure, Prospect};
use crate::health::{self, Ejection, Health};
use crate::observer::Event;
use crate::pod::{PodFacts, PodState};
use crate::probe;
use crate::upstream::Upstream;

impl Revision {
    /// The watch has reported a pod.
    pub(crate) fn observe_pod(self: &Arc<Self>, facts: PodFacts, now: Instant) {
        let mut state = self.state.lock();
        self.activate(&mut state, now);
        let uid = Arc::clone(&facts.uid);
        let before = state.tracked.remove(&uid);
        let known = before.as_ref().map(|tracked| tracked.facts.clone());
        let mut tracked = before.unwrap_or_else(|| Tracked {
            facts: facts.clone(),
            state: PodState::Seen,
            failing_since: None,
            unschedulable_since: None,
            ejection: Ejection::default(),
            pod: None,
            probe: None,
        });
        if let Some(live) = &state.live {
            let before = known.as_ref().filter(|before| live.owns(before));
            tracked.state = live.state_of(&tracked, before, &facts);
        }
        if known.as_ref() != Some(&facts) {
            state.progressed = Some(now);
        }
        let since = |failing: bool, since: Option<Instant>| since.or(Some(now)).filter(|_| failing);
        tracked.failing_since = since(facts.failure.is_some(), tracked.failing_since);
        tracked.unschedulable_since =
            since(facts.unschedulable.is_some(), tracked.unschedulable_since);
        tracked.facts = facts;
        state.tracked.insert(Arc::clone(&uid), tracked);
        self.enact(&mut state, &uid, now);
        self.settle(state, now);
    }

    /// The pod object is gone.
    pub(crate) fn remove_pod(&self, uid: &str, now: Instant) {
        let mut state = self.state.lock();
        let Some(tracked) = state.tracked.remove(uid) else {
            return;
        };
        if let Some(pod) = &tracked.pod {
            pod.upstream.retire();
        }
        state.dispatch.remove_pod(uid);
        state.ejected.remove(uid);
        let last = state.tracked.is_empty();
        self.settle(state, now);
        if last {
            self.context.observer.event(Event::Asleep { revision: self.key.clone() });
        }
    }

    /// A pod refused a connection: it gets no more requests until it answers its probe again. While
    /// it serves nothing, it is probed ever more rarely.
    pub(super) fn suspect(self: &Arc<Self>, state: &mut State, uid: &PodUid, now: Instant) {
        let Some(tracked) = state.tracked.get_mut(uid) else {
            return;
        };
        if tracked.state == PodState::Ready {
            tracked.state = PodState::Probing;
            if let Some(pod) = &tracked.pod {
                pod.health.refused();
            }
            self.enact(state, uid, now);
        }
    }

    /// A pod failed too often in a row: it gets no requests for a while, unless too few pods would
    /// be left.
    pub(super) fn eject(&self, state: &mut State, pod: &Pod, now: Instant) {
        let open = state.dispatch.open_pods();
        if state.ejected.contains(&pod.uid) || !health::may_eject(state.ejected.len(), open) {
            return;
        }
        let Some(tracked) = state.tracked.get_mut(&pod.uid) else {
            return;
        };
        if tracked.state == PodState::Ready {
            tracked.ejection.begin(now);
            state.ejected.insert(Arc::clone(&pod.uid));
            state.publish(&pod.uid);
            self.context.meters.ejection();
        }
    }

    /// Judges all pods anew, after the settings came or changed.
    pub(super) fn reconsider(self: &Arc<Self>, state: &mut State, now: Instant) {
        let Some(live) = state.live.clone() else {
            return;
        };
        let uids: Vec<PodUid> = state.tracked.keys().cloned().collect();
        for uid in uids {
            if let Some(tracked) = state.tracked.get_mut(&uid) {
                tracked.state = live.state_of(tracked, None, &tracked.facts);
            }
            self.enact(state, &uid, now);
        }
    }

    /// Brings about what the state of a pod asks for: a handle, a probe, a place among the open
    /// pods.
    fn enact(self: &Arc<Self>, state: &mut State, uid: &PodUid, now: Instant) {
        let Some(live) = state.live.clone() else {
            return;
        };
        let Some(tracked) = state.tracked.get_mut(uid) else {
            return;
        };
        if !live.owns(&tracked.facts) {
            tracked.probe = None;
            tracked.take_pod(None);
            state.dispatch.remove_pod(uid);
            return;
        }
        let protocol = live.settings.protocol;
        if let Some(address) = tracked.facts.address {
            let outdated = |pod: &Arc<Pod>| {
                pod.upstream.address() != address || pod.upstream.protocol() != protocol
            };
            if tracked.pod.as_ref().is_none_or(outdated) {
                let connect = Arc::clone(&self.context.connect);
                tracked.take_pod(Some(Arc::new(Pod {
                    uid: Arc::clone(uid),
                    upstream: Arc::new(Upstream::new(address, protocol, connect)),
                    addressed: now,
                    ready: OnceLock::new(),
                    health: Health::default(),
                })));
            }
        }
        if tracked.state != PodState::Probing {
            tracked.probe = None;
        } else if tracked.probe.as_ref().is_none_or(AbortOnDropHandle::is_finished)
            && let Some(pod) = &tracked.pod
        {
            let (revision, pod) = (Arc::clone(self), Arc::clone(pod));
            let pause = pod.health.probe_pause();
            tracked.probe = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                let connect = &revision.context.connect;
                probe::until_ready(&live.settings.probe, pod.upstream.address(), connect).await;
                revision.probed(&pod.uid, Instant::now());
            })));
        }
        if tracked.state == PodState::Ready
            && let Some(pod) = &tracked.pod
        {
            pod.ready.get_or_init(|| now);
        }
        state.publish(uid);
    }

    /// The probe of a pod succeeded.
    fn probed(self: &Arc<Self>, uid: &PodUid, now: Instant) {
        let mut state = self.state.lock();
        if let Some(tracked) = state.tracked.get_mut(uid)
            && tracked.state == PodState::Probing
        {
            tracked.state = PodState::Ready;
            self.enact(&mut state, uid, now);
        }
        self.settle(state, now);
    }
}

impl Tracked {
    /// Has this handle from now on. No connection that is being made by the one before is used: its
    /// address may be another pod's. Requests in flight there go on, for their pod may live.
    fn take_pod(&mut self, pod: Option<Arc<Pod>>) {
        if let Some(before) = std::mem::replace(&mut self.pod, pod) {
            before.upstream.leave();
        }
    }
}

impl Live {
    /// Whether the pod was made for this Revision, and not for an earlier one of its name.
    pub(super) fn owns(&self, facts: &PodFacts) -> bool {
        self.settings.uid.as_ref() == Some(&facts.revision_uid)
    }

    /// The state of a pod after the watch has reported `now`; another Revision's pod is never more
    /// than seen.
    fn state_of(&self, pod: &Tracked, before: Option<&PodFacts>, now: &PodFacts) -> PodState {
        if self.owns(now) {
            pod.state.after(before, now, self.settings.probe.is_own())
        } else {
            PodState::Seen
        }
    }
}

impl State {
    /// The pods of the Revision as it is now.
    pub(super) fn own_pods(&self) -> impl Iterator<Item = (&PodUid, &Tracked)> {
        let live = self.live.as_deref();
        self.tracked
            .iter()
            .filter(move |(_, tracked)| live.is_some_and(|live| live.owns(&tracked.facts)))
    }

    /// Tells the dispatcher the state of a pod.
    pub(super) fn publish(&mut self, uid: &PodUid) {
        let Some(tracked) = self.tracked.get(uid) else {
            return;
        };
        if let Some(pod) = &tracked.pod {
            let ready = tracked.state == PodState::Ready && !self.ejected.contains(uid);
            let drained = self.is_drained(uid);
            self.dispatch.set_pod(uid, Arc::clone(pod), ready, drained);
        }
    }

    /// Takes back the ejected pods whose time is over, and those that are needed because others are
    /// gone.
    pub(super) fn review_ejections(&mut self, now: Instant) {
        if self.ejected.is_empty() {
            return;
        }
        let until = |tracked: &Tracked| tracked.ejection.until().unwrap_or(now);
        let mut left: Vec<(Instant, PodUid)> = Vec::new();
        let mut back: Vec<PodUid> = Vec::new();
        for uid in &self.ejected {
            match self.tracked.get(uid) {
                Some(tracked) if tracked.state == PodState::Ready && until(tracked) > now => {
                    left.push((until(tracked), Arc::clone(uid)));
                }
                _ => back.push(Arc::clone(uid)),
            }
        }
        left.sort();
        let mut left = left.into_iter();
        loop {
            for uid in back.drain(..) {
                self.ejected.remove(&uid);
                if let Some(tracked) = self.tracked.get_mut(&uid) {
                    tracked.ejection.end(now);
                }
                self.publish(&uid);
            }
            if !health::is_excess(self.ejected.len(), self.dispatch.open_pods()) {
                return;
            }
            back.extend(left.next().map(|(_, uid)| uid));
        }
    }

    /// Why no pod will ever serve, if that is so.
    pub(super) fn hopeless(&self, now: Instant) -> Option<Arc<str>> {
        let long = |since: Option<Instant>| {
            since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
        };
        failure::cannot_start(self.own_pods().map(|(_, tracked)| {
            let facts = &tracked.facts;
            match tracked.state {
                PodState::Ready => Prospect::Ready,
                // Its Deployment makes another pod in its place.
                PodState::Draining => Prospect::Leaving,
                _ => match (&facts.failure, &facts.unschedulable) {
                    (Some(Failure { reason, is_lasting: true }), _) => {
                        Prospect::Failed(Arc::clone(reason))
                    }
                    (Some(Failure { reason, .. }), _) => {
                        Prospect::Failing(long(tracked.failing_since), Arc::clone(reason))
                    }
                    (None, Some(reason)) => Prospect::Unschedulable(
                        long(tracked.unschedulable_since),
                        Arc::clone(reason),
                    ),
                    (None, None) => Prospect::Starting,
                },
            }
        }))
    }
}
