//! The stay of one request at a revision, from its arrival to the last byte of its response.
//!
//! Its place in the queue, its slot in a pod and its part in the load are given back when the visit
//! is dropped, however the request ends.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::error::{RequestError, client_closed};
use crate::health;
use crate::revision::{Admitted, Arriving, Live, Pod, Revision};
use crate::upload::UploadState;

/// One request at one revision.
pub(crate) struct Visit {
    revision: Arc<Revision>,
    admitted: Admitted,
    /// The status that is counted at the end; at first that of a client that left before it had a
    /// response.
    status: StatusCode,
    /// Whether the pod served it well, as far as that can be told.
    served: Option<bool>,
    /// The state of its upload, if it has a body and the pod has answered.
    upload: Option<Arc<UploadState>>,
    /// When it got its pod, if it had to wait for one.
    wait: Option<Instant>,
}

/// Where a request is served, for as long as its response lasts.
#[derive(Debug)]
pub(crate) enum Stay {
    /// Here.
    Here(Visit),
    /// At the activator that owns the revision, which counts it; here it only has a place among the
    /// requests that may be at that activator at once.
    There(#[expect(dead_code, reason = "held, never looked at")] OwnedSemaphorePermit),
}

/// Parts of the time that a request waited, for `Server-Timing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phases {
    /// From arrival until it had a pod.
    pub(crate) queue: Duration,
    /// From arrival until the pod had an address.
    pub(crate) pod: Duration,
    /// From then until the pod was ready.
    pub(crate) probe: Duration,
}

// === impl Visit ===

impl Visit {
    /// A request that arrives.
    pub(crate) fn enter(
        revision: &Arc<Revision>,
        arriving: Arriving<'_>,
    ) -> Result<Self, RequestError> {
        Ok(Self {
            admitted: revision.enter(arriving)?,
            revision: Arc::clone(revision),
            status: client_closed(),
            upload: None,
            served: None,
            wait: None,
        })
    }

    /// The settings and the metrics of the Revision that let it in.
    pub(crate) fn live(&self) -> &Live {
        self.admitted.live()
    }

    /// Whether it has to wait for a pod.
    pub(crate) const fn waits(&self) -> bool {
        self.admitted.waits()
    }

    /// When it arrived.
    pub(crate) const fn arrived(&self) -> Instant {
        self.admitted.arrived()
    }

    /// The pod for this request, as soon as there is one. Cancel-safe: a place in the queue is
    /// freed when the visit is dropped.
    pub(crate) async fn pod(&mut self) -> Result<Arc<Pod>, RequestError> {
        if self.admitted.waits() {
            self.admitted.assigned().await?;
            let now = Instant::now();
            self.live().meters.wait(now.saturating_duration_since(self.arrived()));
            self.wait = Some(now);
        }
        self.admitted.pod().cloned().ok_or(RequestError::Unreachable)
    }

    /// When to ask again whether it still waits for a pod, where the steps of the start count and it
    /// does.
    pub(crate) fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.revision.waits_until(&self.live().settings, self.arrived(), now)
    }

    /// The revision.
    pub(crate) fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    /// How long a start usually takes, if there is no pod and that is known.
    pub(crate) fn usual_start(&self) -> Option<Duration> {
        self.revision.usual_start()
    }

    /// The request has its connection to the pod, which may now be sent more of the queue.
    pub(crate) fn opened(&mut self) {
        self.revision.opened(&mut self.admitted);
    }

    /// The pod could not be reached: the request waits again at its old place.
    pub(crate) fn again(&mut self, now: Instant) -> Result<(), RequestError> {
        self.revision.again(&mut self.admitted, now)
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

    /// The pod has answered while `body` may still be on its way to the pod.
    pub(crate) fn uploads(&mut self, body: Arc<UploadState>) {
        self.upload = Some(body);
    }

    /// The response broke off after its head was sent. It counts as a failure, unless the client
    /// broke off its request: that ends the connection to the pod, too.
    pub(crate) fn broken(&mut self) {
        let left = self.upload.as_ref().is_some_and(|body| body.was_broken());
        self.status = if left { client_closed() } else { StatusCode::BAD_GATEWAY };
        self.served = if left { None } else { Some(false) };
    }

    /// Where the time went, of a request that waited.
    pub(crate) fn phases(&self) -> Option<Phases> {
        let until = self.wait?;
        let (pod, arrived) = (self.admitted.pod()?, self.arrived());
        let ready = pod.ready.get().copied().unwrap_or(until).min(until);
        let addressed = pod.addressed.min(ready);
        Some(Phases {
            queue: until.saturating_duration_since(arrived),
            pod: addressed.saturating_duration_since(arrived),
            probe: ready.saturating_duration_since(addressed.max(arrived)),
        })
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

    /// The response broke off after its head was sent, as [`Visit::broken`] counts it.
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
            .field("ticket", &self.admitted.ticket())
            .finish_non_exhaustive()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.revision.leave(&mut self.admitted, self.status, self.served);
    }
}
