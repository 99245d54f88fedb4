//! The stay of one request, as its revision sees it: the only way to the queue and to a slot.
//!
//! Each step changes what the lock protects and ends in [`Revision::settle`] where other requests
//! may be concerned, so that no caller can forget it.

use std::sync::Arc;
use std::time::Duration;

use ebb_api::report::{Report, Scope};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use parking_lot::MutexGuard;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Live, Pod, QueueVerdict, Revision, State};
use crate::dispatch::Slot;
use crate::error::RequestError;
use crate::observer::Event;
use crate::queue::Ticket;

/// Pause between two immediate reports of requests that were refused because no pod can start:
/// they count as demand, and once a second is enough to say so.
const REFUSED_REPORT_PAUSE: Duration = Duration::from_secs(1);

/// Pause between two immediate reports of requests that found no pod. Where clients come and give
/// up again and again, each request is the first that waits; one that comes within the pause is
/// reported by the tick, if it still waits then.
const FIRST_REPORT_PAUSE: Duration = Duration::from_millis(50);

/// A request that its revision counts, from [`Revision::enter`] on; to be given back once with
/// [`Revision::leave`].
#[must_use = "a request that does not leave is counted for ever"]
pub(crate) struct Admitted {
    live: Arc<Live>,
    ticket: Ticket,
    /// Length of its head.
    bytes: usize,
    arrived: Instant,
    /// Whether it counts as load.
    counts: bool,
    place: Place,
}

/// What a revision looks at when a request comes.
#[derive(Clone, Copy)]
pub(crate) struct Arriving<'a> {
    /// Length of its head.
    pub(crate) bytes: usize,
    pub(crate) path: &'a str,
    /// Looked into only for a revision that some requests do not wake.
    pub(crate) headers: &'a HeaderMap,
    /// When it arrived: a time that has passed if other activators were tried first.
    pub(crate) at: Instant,
}

enum Place {
    /// Nowhere: between two pods, or done.
    Nowhere,
    /// In the queue, or with a verdict on its way.
    Waiting(oneshot::Receiver<QueueVerdict>),
    /// In a pod.
    Inside(Slot, Arc<Pod>),
}

// === impl Admitted ===

impl Admitted {
    /// The settings and the metrics of the Revision that let it in.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// Its place in the order of arrival.
    pub(crate) const fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// When it arrived.
    pub(crate) const fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Whether it has to wait for a pod.
    pub(crate) const fn waits(&self) -> bool {
        matches!(self.place, Place::Waiting(_))
    }

    /// The pod that it has, if it has one.
    pub(crate) const fn pod(&self) -> Option<&Arc<Pod>> {
        match &self.place {
            Place::Inside(_, pod) => Some(pod),
            Place::Nowhere | Place::Waiting(_) => None,
        }
    }

    /// Waits until there is a pod for it, or an error. Cancel-safe: its place in the queue is kept
    /// until it leaves.
    pub(crate) async fn assigned(&mut self) -> Result<(), RequestError> {
        if let Place::Waiting(receiver) = &mut self.place {
            // The sender is dropped unused only together with the revision.
            let verdict = receiver.await.unwrap_or(Err(RequestError::RevisionGone));
            self.place = Place::Nowhere;
            let (slot, pod) = verdict?;
            self.place = Place::Inside(slot, pod);
        }
        Ok(())
    }
}

// === impl Revision ===

impl Revision {
    /// Counts a request, which gets a slot in a pod or a place in the queue. A request that is
    /// refused is counted too, with the status that its client gets. One of those that wake nothing
    /// is no load, and is served only if there is a pod.
    pub(crate) fn enter(&self, arriving: Arriving<'_>) -> Result<Admitted, RequestError> {
        let Arriving { bytes, path, headers, at: now } = arriving;
        let mut state = self.state.lock();
        let Some(live) = state.live.clone() else {
            return Err(RequestError::RevisionUnknown);
        };
        if live.settings.standby.as_ref().is_some_and(|standby| standby.is_reserved(path)) {
            live.meters.request(RequestError::StandbyPath.status(), Duration::ZERO);
            return Err(RequestError::StandbyPath);
        }
        let no_wake = live.settings.no_wake.as_ref();
        let agent = || headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
        let counts = !no_wake.is_some_and(|no_wake| no_wake.has(path, agent()));
        if !counts && !state.dispatch.has_open_pod() {
            live.meters.request(RequestError::Asleep.status(), Duration::ZERO);
            return Err(RequestError::Asleep);
        }
        self.activate(&mut state, now);
        if counts {
            state.load.enter(now);
        }
        let ticket = state.dispatch.ticket();
        let place = Place::Nowhere;
        let mut admitted = Admitted { live, ticket, bytes, arrived: now, counts, place };
        if let Some((slot, pod)) = state.dispatch.start(rand::random()) {
            admitted.place = Place::Inside(slot, pod);
            return Ok(admitted);
        }
        match self.queue(state, &admitted) {
            Ok(place) => {
                admitted.place = place;
                Ok(admitted)
            }
            Err(error) => {
                self.leave(&mut admitted, error.status(), None);
                Err(error)
            }
        }
    }

    /// A place in the queue for a request that found no pod, unless none will ever come.
    fn queue(
        &self,
        mut state: MutexGuard<'_, State>,
        admitted: &Admitted,
    ) -> Result<Place, RequestError> {
        let now = admitted.arrived;
        if let Some(reason) = state.cannot_start.clone() {
            let is_news = state.is_news(now, REFUSED_REPORT_PAUSE);
            drop(state);
            if is_news {
                self.tell(1);
            }
            return Err(RequestError::CannotStart { revision: self.key.clone(), reason });
        }
        let (sender, receiver) = oneshot::channel();
        if state.dispatch.wait(admitted.ticket, sender, admitted.bytes).is_err() {
            return Err(RequestError::QueueFull);
        }
        let first = state.dispatch.queued() == 1 && !state.dispatch.has_open_pod();
        let is_news = first && state.is_news(now, FIRST_REPORT_PAUSE);
        let waking = first && state.waking.is_none();
        if waking || (first && state.is_start_forgotten(now)) {
            state.waking = Some(now);
        }
        drop(state);
        if is_news {
            self.tell(0);
        }
        if waking {
            self.context.observer.event(Event::Waking { revision: self.key.clone() });
        }
        Ok(Place::Waiting(receiver))
    }

    /// The request has its connection to the pod, which may now be sent more of the queue.
    pub(crate) fn opened(&self, admitted: &mut Admitted) {
        let Place::Inside(slot, _) = &mut admitted.place else {
            return;
        };
        // Most requests did not wait, and need no lock here.
        if !slot.is_opening() {
            return;
        }
        let mut state = self.state.lock();
        if state.dispatch.opened(slot) && state.dispatch.queued() > 0 {
            self.settle(state, Instant::now());
        }
    }

    /// The pod could not be reached: takes the slot back and queues the request again at its old
    /// place. A request that was never sent is not refused because of a pod, whatever that costs:
    /// it is held until its own time runs out.
    pub(crate) fn again(
        self: &Arc<Self>,
        admitted: &mut Admitted,
        now: Instant,
    ) -> Result<(), RequestError> {
        let Place::Inside(slot, pod) = std::mem::replace(&mut admitted.place, Place::Nowhere)
        else {
            return Err(RequestError::Unreachable);
        };
        let mut state = self.state.lock();
        state.dispatch.release(slot);
        self.suspect(&mut state, &pod.uid, now);
        let same = |live: &Arc<Live>| live.settings.uid == admitted.live.settings.uid;
        if !state.live.as_ref().is_some_and(same) {
            self.settle(state, now);
            return Err(RequestError::RevisionGone);
        }
        let (sender, receiver) = oneshot::channel();
        state.dispatch.wait_again(admitted.ticket, sender, admitted.bytes);
        admitted.place = Place::Waiting(receiver);
        self.settle(state, now);
        self.context.meters.retry();
        Ok(())
    }

    /// The request is done, however it ended: what it held is given back. `served` says whether the
    /// pod served it well, as far as that can be told.
    pub(crate) fn leave(&self, admitted: &mut Admitted, status: StatusCode, served: Option<bool>) {
        let now = Instant::now();
        let took = now.saturating_duration_since(admitted.arrived);
        admitted.live.meters.request(status, took);
        let mut state = self.state.lock();
        if admitted.counts {
            state.load.leave(now);
        }
        match std::mem::replace(&mut admitted.place, Place::Nowhere) {
            Place::Nowhere => return,
            Place::Inside(slot, pod) => {
                state.dispatch.release(slot);
                match served {
                    Some(true) => pod.health.good(),
                    Some(false) if pod.health.bad() => self.eject(&mut state, &pod, now),
                    Some(false) | None => {}
                }
            }
            Place::Waiting(mut receiver) => {
                if state.dispatch.cancel(admitted.ticket) {
                    state.left = Some(now).filter(|_| state.dispatch.queued() == 0);
                } else {
                    // The verdict is on its way. Once the channel is closed, either the verdict is
                    // here already or its sender notices and gives the slot back itself.
                    receiver.close();
                    if let Ok(Ok((slot, _))) = receiver.try_recv() {
                        state.dispatch.release(slot);
                    }
                }
            }
        }
        // The warm path ends here: no request waits, nothing follows.
        if state.dispatch.queued() > 0 {
            self.settle(state, now);
        }
    }

    /// Tells the autoscaler at once; `refused` requests count as if they waited.
    fn tell(&self, refused: u32) {
        let mut report = self.report_now();
        report.queued += refused;
        self.context.reports.report(Report {
            activator: self.context.id.clone(),
            scope: Scope::Moment,
            revisions: vec![report],
        });
    }
}
