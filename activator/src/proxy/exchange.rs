//! Sending a request to a pod, and whose fault it is when there is no response.

use std::net::SocketAddr;

use futures::TryFutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::answer::ERROR_HEADER;
use super::client::Client;
use super::failed::Failed;
use crate::budget::Share;
use crate::error::RequestError;
use crate::meters::{Bound, Cut};
use crate::settings::Deadlines;
use crate::upload::{Upload, UploadState};
use crate::upstream::{Lease, SendError};
use crate::visit::Visit;

// === impl Client ===

impl Client {
    /// Sends the request to a pod. As often as the request provably was not sent, it waits for
    /// another pod, all within `deadlines`. `held` is given back as soon as there is a pod.
    pub(super) async fn exchange(
        &self,
        visit: &mut Visit,
        mut request: Request<Upload>,
        mut held: Option<Share>,
        deadlines: &mut Deadlines,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        loop {
            let pod = match within(deadlines.wait_end(), visit.pod()).await.flatten() {
                Ok(pod) => pod,
                Err(RequestError::Timeout) if deadlines.pod.is_some() => {
                    let later = visit.waits_until(Instant::now());
                    if later.is_none() {
                        return Err(Failed::unsent(request, RequestError::StartTimeout));
                    }
                    deadlines.pod = later;
                    continue;
                }
                Err(error) => return Err(Failed::unsent(request, error)),
            };
            *deadlines = visit.live().settings.deadlines_in_pod(*deadlines, Instant::now());
            drop(held.take());
            request.body_mut().passes();
            let (address, body) = (pod.upstream.address(), request.body().state());
            let mut opened = || visit.opened();
            let sent = pod.upstream.send(request, &mut opened).map_err(Box::new);
            match within(deadlines.start, sent).await.map_err(Failed::sent)?.map_err(|error| *error)
            {
                Ok(mut answer) => {
                    // A model must not set this header: another activator goes by it.
                    answer.0.headers_mut().remove(ERROR_HEADER);
                    if let Some(body) = body {
                        body.answered();
                        visit.uploads(body);
                    }
                    return Ok(answer);
                }
                Err(SendError::Lost { source, .. }) => {
                    return Err(Failed::sent(self.lost(&source, address, body.as_deref())));
                }
                Err(SendError::Unsent { request: back, source, .. }) => {
                    tracing::info!(error = %source, pod.address = %address, "Pod not reachable");
                    request = *back;
                    if source.is_local() {
                        return Err(Failed::unsent(request, self.out_of_means()));
                    }
                    if let Err(error) = visit.again(Instant::now()) {
                        return Err(Failed::unsent(request, error));
                    }
                }
            }
        }
    }

    /// The error for a request that got no response, which depends on whose fault that is.
    pub(super) fn lost(
        &self,
        source: &hyper::Error,
        address: SocketAddr,
        body: Option<&UploadState>,
    ) -> RequestError {
        if body.is_some_and(UploadState::was_slow) {
            self.proxy.context.meters.cut(Cut::Upload).inc();
            return RequestError::BodySlow;
        }
        if body.is_some_and(UploadState::was_broken) {
            return RequestError::ClientGone;
        }
        tracing::info!(error = %source, server.address = %address, "Request lost");
        RequestError::Upstream
    }

    /// This machine has no file, port or buffer left for a connection; no pod is to blame.
    pub(super) fn out_of_means(&self) -> RequestError {
        self.proxy.context.meters.overflow(Bound::Machine);
        RequestError::Overloaded
    }
}

/// The result of `work`, or a timeout at `deadline`.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Result<T, RequestError> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await.map_err(|_| RequestError::Timeout),
        None => Ok(work.await),
    }
}
