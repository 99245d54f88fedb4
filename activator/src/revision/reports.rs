//! What the autoscaler is told of a revision, and how soon.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::report::{PodReport, RevisionKey, RevisionReport};
use tokio::time::Instant;

use super::{Live, Revision, State, Tracked};
use crate::dispatch::PodUid;
use crate::pod::PodState;

impl Revision {
    /// The settings and the metrics of the Revision, if a request waits and there is no pod that
    /// may yet serve it: pods that go away or have ended, and pods of an earlier Revision of the
    /// name, never will.
    pub(crate) fn stranded(&self) -> Option<Arc<Live>> {
        if !self.is_active() {
            return None;
        }
        let state = self.state.lock();
        let is_stranded = state.dispatch.queued() > 0
            && state.own_pods().all(|(_, pod)| pod.state == PodState::Draining);
        state.live.clone().filter(|_| is_stranded)
    }

    /// Its report of this moment, if something was reported at once since [`Revision::tick`] was
    /// last called.
    pub(crate) fn told_since_tick(&self) -> Option<RevisionReport> {
        let state = self.state.lock();
        state.is_told.then(|| state.report(&self.key))
    }

    /// The settings and the metrics of the Revision, if a request waits, no pod can take it, and one
    /// could but for an order that has drained it.
    pub(crate) fn held_back(&self) -> Option<Arc<Live>> {
        if !self.is_active() {
            return None;
        }
        let state = self.state.lock();
        state.live.clone().filter(|_| state.is_held_back())
    }

    /// Serves waiting requests with those pods that an order has drained and that stand at these
    /// addresses, if no other can take them. Only for when no autoscaler is left to call the order off.
    /// Returns whether it did so.
    pub(crate) fn take_back(&self, standing: &HashMap<PodUid, SocketAddr>, now: Instant) -> bool {
        let mut state = self.state.lock();
        let can_serve = |uid: &&PodUid| {
            let known = state.tracked.get(*uid).and_then(|tracked| tracked.facts.address);
            let sleeps = state.sleeps(uid);
            !sleeps && known.is_some() && standing.get(*uid).copied() == known
        };
        let back: Vec<_> = state.drained.iter().filter(can_serve).cloned().collect();
        if back.is_empty() || !state.is_held_back() {
            return false;
        }
        for uid in &back {
            state.drained.remove(uid);
            state.publish(uid);
        }
        self.settle(state, now);
        true
    }
}

impl State {
    /// Whether a request waits only because an order has drained the revision's pods. The order may
    /// name pods that are gone, or that are yet to be seen.
    fn is_held_back(&self) -> bool {
        let is_ready = |uid: &PodUid| {
            let is_ready = |tracked: &Tracked| tracked.state == PodState::Ready;
            self.tracked.get(uid).is_some_and(is_ready) && !self.sleeps(uid)
        };
        self.dispatch.queued() > 0
            && !self.dispatch.has_open_pod()
            && self.drained.iter().any(is_ready)
    }

    /// Whether the pod's model was told to sleep, as far as is known, and no order has called it back
    /// since. An activator that is new sees the mark before it hears of an order.
    pub(super) fn sleeps(&self, uid: &PodUid) -> bool {
        let has_standby = self.live.as_ref().is_some_and(|live| live.settings.standby.is_some());
        let is_called = self.called.as_ref() == Some(uid);
        let is_marked = |tracked: &Tracked| tracked.facts.asleep;
        has_standby && !is_called && self.tracked.get(uid).is_some_and(is_marked)
    }

    /// Whether the pod gets no requests: an order drains it, or its model sleeps.
    pub(super) fn is_drained(&self, uid: &PodUid) -> bool {
        self.drained.contains(uid) || self.sleeps(uid)
    }

    /// The report of this moment.
    pub(super) fn report(&self, key: &RevisionKey) -> RevisionReport {
        RevisionReport {
            revision: key.clone(),
            concurrency_mean: f64::from(self.load.inside()),
            requests_per_second: 0.0,
            queued: u32::try_from(self.dispatch.queued()).unwrap_or(u32::MAX),
            interval_s: 0.0,
            obeyed: self.obeyed,
            pods: self.pod_reports(),
            is_cut: false,
        }
    }

    /// All pods of the revision that may get a request or have one inside, even those without an
    /// address: the autoscaler must see that an order to drain one of them is obeyed. One that leaves
    /// with nothing inside is not named, for a name that the autoscaler does not know says that its
    /// watch is behind.
    fn pod_reports(&self) -> Vec<PodReport> {
        let in_flight: HashMap<_, _> =
            self.dispatch.pods().map(|view| (view.uid, view.in_flight)).collect();
        let report = |uid: &PodUid| PodReport {
            uid: Arc::clone(uid),
            in_flight: in_flight.get(uid).copied().unwrap_or(0),
            draining: self.is_drained(uid),
        };
        let is_left = |(uid, tracked): &(&PodUid, &Tracked)| {
            tracked.state == PodState::Draining
                && in_flight.get(*uid).is_none_or(|inside| *inside == 0)
        };
        let kept = self.own_pods().filter(|pod| !is_left(pod));
        let mut pods: Vec<_> = kept.map(|(uid, _)| report(uid)).collect();
        // In the same order each time: that is how a stream sees that nothing has changed.
        pods.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
        pods
    }

    /// Whether the autoscaler should hear of a request at once; at most once in `pause`.
    pub(super) fn is_news(&mut self, now: Instant, pause: Duration) -> bool {
        let news = self.told.is_none_or(|told| now.saturating_duration_since(told) >= pause);
        if news {
            self.told = Some(now);
            self.is_told = true;
        }
        news
    }
}

#[cfg(test)]
impl Revision {
    /// Its lock, held until the result is dropped.
    pub(crate) fn locked(&self) -> impl Sized {
        self.state.lock()
    }

    /// Whether the autoscaler should hear now of a request; counts as told if so.
    pub(crate) fn is_news(&self) -> bool {
        self.state.lock().is_news(Instant::now(), Duration::ZERO)
    }
}
