//! The pods of a revision: what the watch says of them, what the probe finds out, what follows.

use std::sync::{Arc, OnceLock};

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Pod, Revision, State, Tracked};
use crate::dispatch::PodUid;
use crate::failure::{self, Prospect};
use crate::observer::Event;
use crate::pod::{PodFacts, PodState};
use crate::probe;
use crate::upstream::Upstream;

impl Revision {
    /// The watch says something of a pod.
    pub(crate) fn observe_pod(self: &Arc<Self>, facts: PodFacts, now: Instant) {
        let mut state = self.state.lock();
        let uid = Arc::clone(&facts.uid);
        let before = state.tracked.remove(&uid);
        let known = before.as_ref().map(|tracked| (tracked.facts.clone(), tracked.state));
        let mut tracked = before.unwrap_or_else(|| Tracked {
            facts: facts.clone(),
            state: PodState::Seen,
            unschedulable_since: None,
            pod: None,
            probe: None,
        });
        if let Some(live) = &state.live {
            let own_probe = live.settings.probe.is_own();
            tracked.state =
                tracked.state.after(known.as_ref().map(|(facts, _)| facts), &facts, own_probe);
        }
        tracked.unschedulable_since = match &facts.unschedulable {
            Some(_) => tracked.unschedulable_since.or(Some(now)),
            None => None,
        };
        tracked.facts = facts;
        state.tracked.insert(Arc::clone(&uid), tracked);
        self.enact(&mut state, &uid, now);
        self.settle(state, now);
    }

    /// The pod object is gone.
    pub(crate) fn remove_pod(&self, uid: &str, now: Instant) {
        let mut state = self.state.lock();
        if state.tracked.remove(uid).is_none() {
            return;
        }
        state.dispatch.remove_pod(uid);
        let last = state.tracked.is_empty();
        self.settle(state, now);
        if last {
            self.context.observer.event(Event::Asleep { revision: self.key.clone() });
        }
    }

    /// A pod refused a connection: it gets nothing more until it answers its probe again.
    pub(crate) fn suspect(self: &Arc<Self>, state: &mut State, uid: &PodUid, now: Instant) {
        let Some(tracked) = state.tracked.get_mut(uid) else {
            return;
        };
        if tracked.state == PodState::Ready {
            tracked.state = PodState::Probing;
            self.enact(state, uid, now);
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
                let own_probe = live.settings.probe.is_own();
                tracked.state = tracked.state.after(None, &tracked.facts, own_probe);
            }
            self.enact(state, &uid, now);
        }
    }

    /// Makes true what the state of a pod says: a handle, a probe, a place among the open pods.
    fn enact(self: &Arc<Self>, state: &mut State, uid: &PodUid, now: Instant) {
        let Some(live) = state.live.clone() else {
            return;
        };
        let Some(tracked) = state.tracked.get_mut(uid) else {
            return;
        };
        let protocol = live.settings.protocol;
        if let Some(address) = tracked.facts.address {
            let outdated = |pod: &Arc<Pod>| {
                pod.upstream.address() != address || pod.upstream.protocol() != protocol
            };
            if tracked.pod.as_ref().is_none_or(outdated) {
                let connect = Arc::clone(&self.context.connect);
                tracked.pod = Some(Arc::new(Pod {
                    uid: Arc::clone(uid),
                    upstream: Arc::new(Upstream::new(address, protocol, connect)),
                    addressed: now,
                    ready: OnceLock::new(),
                }));
            }
        }
        if tracked.state != PodState::Probing {
            tracked.probe = None;
        } else if tracked.probe.as_ref().is_none_or(AbortOnDropHandle::is_finished)
            && let Some(pod) = &tracked.pod
        {
            let (revision, pod) = (Arc::clone(self), Arc::clone(pod));
            tracked.probe = Some(AbortOnDropHandle::new(tokio::spawn(async move {
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

impl State {
    /// Tells the dispatcher how a pod stands.
    pub(super) fn publish(&mut self, uid: &PodUid) {
        let Some(tracked) = self.tracked.get(uid) else {
            return;
        };
        if let Some(pod) = &tracked.pod {
            let ready = tracked.state == PodState::Ready;
            let drained = self.drained.contains(uid);
            self.dispatch.set_pod(uid, Arc::clone(pod), ready, drained);
        }
    }

    /// Why no pod will ever serve, if that is so.
    pub(super) fn hopeless(&self, now: Instant) -> Option<Arc<str>> {
        failure::cannot_start(self.tracked.values().map(|tracked| {
            let facts = &tracked.facts;
            match tracked.state {
                PodState::Ready => Prospect::Ready,
                PodState::Draining if facts.failure.is_none() => Prospect::Leaving,
                _ => match (&facts.failure, &facts.unschedulable) {
                    (Some(reason), _) => Prospect::Failed(Arc::clone(reason)),
                    (None, Some(reason)) => Prospect::Unschedulable(
                        tracked.unschedulable_since.map_or_else(Default::default, |since| {
                            now.saturating_duration_since(since)
                        }),
                        Arc::clone(reason),
                    ),
                    (None, None) => Prospect::Starting,
                },
            }
        }))
    }
}
