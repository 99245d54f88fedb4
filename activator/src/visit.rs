//! The stay of one request at a revision, from its arrival to the last byte of its response.
//!
//! Everything that is counted is counted here and given back when the visit is dropped, however
//! the request ends: its place in the queue, its slot in a pod, its part in the load.

use std::sync::Arc;
use std::time::Duration;

use ebb_api::report::{Report, Scope};
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::dispatch::Slot;
use crate::error::{RequestError, client_closed};
use crate::health;
use crate::observer::Event;
use crate::queue::Ticket;
use crate::revision::{Live, Pod, Revision, Verdict};
use crate::upload::UploadState;

/// Pause between two immediate reports of requests that were refused because no pod can start:
/// they count as demand, and once a second is enough to say so.
const REFUSED_REPORT_PAUSE: Duration = Duration::from_secs(1);

/// Pause between two immediate reports of requests that found no pod. Where clients come and give
/// up again and again, each is the first that waits; what comes within the pause is told by the
/// tick, if it still waits then.
const FIRST_REPORT_PAUSE: Duration = Duration::from_millis(50);

/// One request at one revision.
pub(crate) struct Visit {
    revision: Arc<Revision>,
    live: Arc<Live>,
    ticket: Ticket,
    bytes: usize,
    arrived: Instant,
    place: Place,
    /// What is counted at the end; a client that leaves early leaves no response.
    status: StatusCode,
    /// Whether the pod served it well, as far as that can be told.
    served: Option<bool>,
    /// What became of its body, if it has one and the pod has answered.
    upload: Option<Arc<UploadState>>,
    /// Whether the revision had no pod when it came, and when it got one.
    wait: Option<Instant>,
}

/// Where a request is served, for as long as its response lasts.
#[derive(Debug)]
pub(crate) enum Stay {
    /// Here.
    Here(Visit),
    /// At the activator that owns the revision, which counts it; here it only has a place among
    /// those that may be there at once.
    There(#[expect(dead_code, reason = "held, never looked at")] OwnedSemaphorePermit),
}

enum Place {
    /// Nowhere: between two pods, or done.
    Nowhere,
    /// In the queue, or with a verdict on its way.
    Waiting(oneshot::Receiver<Verdict>),
    /// In a pod.
    Inside(Slot, Arc<Pod>),
}

/// Parts of the time that a request waited, for `Server-Timing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phases {
    /// From arrival until it had a pod.
    pub(crate) queue: Duration,
    /// Until the pod had an address.
    pub(crate) pod: Duration,
    /// From then until the pod was ready.
    pub(crate) probe: Duration,
}

// === impl Visit ===

impl Visit {
    /// A request with a head of `bytes`, which arrived at `now` or, if it was offered to others
    /// first, somewhat earlier.
    pub(crate) fn enter(
        revision: &Arc<Revision>,
        bytes: usize,
        now: Instant,
    ) -> Result<Self, RequestError> {
        let mut guard = revision.state.lock();
        let state = &mut *guard;
        let Some(live) = state.live.clone() else {
            return Err(RequestError::RevisionUnknown);
        };
        revision.activate(state, now);
        state.load.enter(now);
        let ticket = state.dispatch.ticket();
        let mut visit = Self {
            revision: Arc::clone(revision),
            live,
            ticket,
            bytes,
            arrived: now,
            place: Place::Nowhere,
            status: client_closed(),
            upload: None,
            served: None,
            wait: None,
        };
        if let Some((slot, pod)) = state.dispatch.start(rand::random()) {
            visit.place = Place::Inside(slot, pod);
            return Ok(visit);
        }
        let refusal = state.cannot_start.clone();
        if let Some(reason) = refusal {
            let news = state.is_news(now, REFUSED_REPORT_PAUSE);
            drop(guard);
            if news {
                visit.tell(1);
            }
            let revision = revision.key.clone();
            return Err(visit.refused(RequestError::CannotStart { revision, reason }));
        }
        let (sender, receiver) = oneshot::channel();
        if state.dispatch.wait(ticket, sender, bytes).is_err() {
            drop(guard);
            return Err(visit.refused(RequestError::QueueFull));
        }
        visit.place = Place::Waiting(receiver);
        let first = state.dispatch.queued() == 1 && !state.dispatch.has_open_pod();
        let news = first && state.is_news(now, FIRST_REPORT_PAUSE);
        let waking = first && state.waking.is_none();
        if waking {
            state.waking = Some(now);
        }
        drop(guard);
        if news {
            visit.tell(0);
        }
        if waking {
            let revision = revision.key.clone();
            visit.revision.context.observer.event(Event::Waking { revision });
        }
        Ok(visit)
    }

    /// What the revision asks of its requests.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// Whether it has to wait for a pod.
    pub(crate) const fn waits(&self) -> bool {
        matches!(self.place, Place::Waiting(_))
    }

    /// When it arrived.
    pub(crate) const fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The pod for this request, as soon as there is one. Cancel-safe: a place in the queue is
    /// freed when the visit is dropped.
    pub(crate) async fn pod(&mut self) -> Result<Arc<Pod>, RequestError> {
        if let Place::Waiting(receiver) = &mut self.place {
            // The sender is dropped unused only together with the revision.
            let verdict = receiver.await.unwrap_or(Err(RequestError::RevisionUnknown));
            self.place = Place::Nowhere;
            let (slot, pod) = verdict?;
            let now = Instant::now();
            self.live.meters.wait(now.saturating_duration_since(self.arrived));
            self.wait = Some(now);
            self.place = Place::Inside(slot, pod);
        }
        match &self.place {
            Place::Inside(_, pod) => Ok(Arc::clone(pod)),
            Place::Nowhere | Place::Waiting(_) => Err(RequestError::Unreachable),
        }
    }

    /// The request has its connection to the pod, which may now be sent more of the queue.
    pub(crate) fn opened(&mut self) {
        let Place::Inside(slot, _) = &mut self.place else {
            return;
        };
        // Most requests did not wait, and need no lock here.
        if !slot.is_opening() {
            return;
        }
        let mut state = self.revision.state.lock();
        if state.dispatch.opened(slot) && state.dispatch.queued() > 0 {
            self.revision.settle(state, Instant::now());
        }
    }

    /// The pod could not be reached: gives the slot back and queues again at the old place. What
    /// was never sent is not refused for the pod's sake, whatever it costs (class R0): it is held
    /// until its own time runs out.
    pub(crate) fn again(&mut self, now: Instant) -> Result<(), RequestError> {
        let Place::Inside(slot, pod) = std::mem::replace(&mut self.place, Place::Nowhere) else {
            return Err(RequestError::Unreachable);
        };
        let revision = Arc::clone(&self.revision);
        let mut state = revision.state.lock();
        state.dispatch.release(slot);
        revision.suspect(&mut state, &pod.uid, now);
        let same = |live: &Arc<Live>| live.settings.uid == self.live.settings.uid;
        if !state.live.as_ref().is_some_and(same) {
            revision.settle(state, now);
            return Err(RequestError::RevisionUnknown);
        }
        let (sender, receiver) = oneshot::channel();
        state.dispatch.wait_again(self.ticket, sender, self.bytes);
        self.place = Place::Waiting(receiver);
        revision.settle(state, now);
        revision.context.meters.retry();
        Ok(())
    }

    /// The pod has answered, and the client gets this status.
    pub(crate) const fn answered(&mut self, status: StatusCode) {
        self.status = status;
        self.served = Some(!health::is_failure(status));
    }

    /// The client gets this error instead of an answer.
    pub(crate) fn failed(&mut self, error: &RequestError) {
        self.status = error.status();
        if matches!(error, RequestError::Upstream) {
            self.served = Some(false);
        }
    }

    /// The pod has answered while `body` may still be on its way to it.
    pub(crate) fn uploads(&mut self, body: Arc<UploadState>) {
        self.upload = Some(body);
    }

    /// The response broke off after its head was sent. It counts as a failure, unless the client
    /// broke off its request: the connection to the pod ends with that.
    pub(crate) fn broken(&mut self) {
        let left = self.upload.as_ref().is_some_and(|body| body.was_broken());
        self.status = if left { client_closed() } else { StatusCode::BAD_GATEWAY };
        self.served = if left { None } else { Some(false) };
    }

    /// Where the time went, of a request that waited.
    pub(crate) fn phases(&self) -> Option<Phases> {
        let until = self.wait?;
        let Place::Inside(_, pod) = &self.place else {
            return None;
        };
        let ready = pod.ready.get().copied().unwrap_or(until).min(until);
        let addressed = pod.addressed.min(ready);
        Some(Phases {
            queue: until.saturating_duration_since(self.arrived),
            pod: addressed.saturating_duration_since(self.arrived),
            probe: ready.saturating_duration_since(addressed.max(self.arrived)),
        })
    }

    /// Tells the autoscaler at once; `refused` requests count as if they waited.
    fn tell(&self, refused: u32) {
        let mut report = self.revision.report_now();
        report.queued += refused;
        let context = &self.revision.context;
        context.reports.report(Report {
            activator: context.id.clone(),
            scope: Scope::Moment,
            revisions: vec![report],
        });
    }

    fn refused(mut self, error: RequestError) -> RequestError {
        self.status = error.status();
        error
    }
}

// === impl Stay ===

impl Stay {
    /// The status that the client gets.
    pub(crate) const fn answered(&mut self, status: StatusCode) {
        if let Self::Here(visit) = self {
            visit.answered(status);
        }
    }

    /// The response broke off after its head was sent; it counts as a failure.
    pub(crate) fn broken(&mut self) {
        if let Self::Here(visit) = self {
            visit.broken();
        }
    }
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visit")
            .field("revision", &self.revision.key)
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let now = Instant::now();
        self.live.meters.request(self.status, now.saturating_duration_since(self.arrived));
        let mut state = self.revision.state.lock();
        state.load.leave(now);
        match std::mem::replace(&mut self.place, Place::Nowhere) {
            Place::Nowhere => return,
            Place::Inside(slot, pod) => {
                state.dispatch.release(slot);
                match self.served {
                    Some(true) => pod.health.good(),
                    Some(false) if pod.health.bad() => self.revision.eject(&mut state, &pod, now),
                    Some(false) | None => {}
                }
            }
            Place::Waiting(mut receiver) => {
                if !state.dispatch.cancel(self.ticket) {
                    // The verdict is on its way. Once closed, either it is here already or its
                    // sender notices and gives the slot back itself.
                    receiver.close();
                    if let Ok(Ok((slot, _))) = receiver.try_recv() {
                        state.dispatch.release(slot);
                    }
                }
            }
        }
        // The warm path ends here: nobody waits, nothing follows.
        if state.dispatch.queued() > 0 {
            self.revision.settle(state, now);
        }
    }
}
