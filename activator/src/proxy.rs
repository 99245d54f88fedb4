//! The life of one request: check, route, wait for a pod, forward, answer.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::body::{ProxyBody, SILENCE_MAX};
use crate::budget::{Purpose, Share};
use crate::error::RequestError;
use crate::guard::Busy;
use crate::headers;
use crate::progress::Progress;
use crate::revision::{Arriving, Revision};
use crate::route;
use crate::tunnel::Held;
use crate::upstream::Lease;
use crate::visit::{Stay, Visit};

mod answer;
mod check;
mod client;
mod events;
mod exchange;
mod failed;
mod held;
mod leftover;
mod models;
mod note;
mod page;
mod prepare;
mod reader;
mod relay;
mod waiting;

use check::{Checked, check};
pub(crate) use client::{Caller, Client, Proxy};
use failed::Failed;
use prepare::Prepared;
use relay::Relayed;
use waiting::Waiting;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

// === impl Client ===

impl Client {
    /// Answers a request, with a pod's response or an error.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
    ) -> Response<ProxyBody> {
        let busy = self.activity.begin();
        let is_peer = matches!(self.caller, Caller::Peer);
        let failed = match check(request, is_peer, self.activity.is_ambiguous()) {
            // The overflow was counted when the connection was accepted.
            Ok(checked) if self.place.is_none() => checked.failed(RequestError::Overloaded),
            Ok(checked) => match self.forward(checked, busy).await {
                Ok(response) => return response,
                Err(failed) => failed,
            },
            Err(failed) => failed,
        };
        self.refuse(failed).await
    }

    async fn refuse(&self, failed: Failed) -> Response<ProxyBody> {
        let Failed { request, error, form, start } = failed;
        self.proxy.context.meters.error(&error);
        tracing::debug!(error.kind = error.label(), "Request refused");
        let mut response = error.response(form, start);
        let mut closes = error.ends_connection() || self.place.is_none();
        // For a request that was sent, hyper closes the connection itself if a part of the body is
        // still to come.
        if let Some(request) = request
            && !closes
        {
            closes = leftover::must_close(*request).await;
        }
        if closes {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn forward(
        self: &Arc<Self>,
        checked: Checked,
        busy: Busy,
    ) -> Result<Response<ProxyBody>, Failed> {
        let arrived = Instant::now();
        let found = match self.revision(&checked) {
            Err(RequestError::HostUnknown) if self.is_for_models(&checked.host) => {
                return Box::pin(self.serve_model(checked, busy)).await;
            }
            // In a box: this wait is rare, and requests should not carry its state.
            Err(unknown) => Box::pin(self.revision_by_news(&checked, unknown)).await,
            found => found,
        };
        let revision = match found {
            Ok(revision) => revision,
            Err(error) => return Err(checked.failed(error)),
        };
        self.pass(checked, revision, arrived, busy).await
    }

    /// Brings a request to its revision.
    async fn pass(
        self: &Arc<Self>,
        mut checked: Checked,
        revision: Arc<Revision>,
        arrived: Instant,
        busy: Busy,
    ) -> Result<Response<ProxyBody>, Failed> {
        let mut prepared = None;
        let peers = self.owners_of(&revision, arrived);
        if !peers.is_empty() {
            // In a box: requests that are served here should not carry the state of those that go
            // to another activator.
            let relayed = Box::pin(self.relay(checked, &revision, &peers, arrived)).await;
            match relayed.map_err(|failed| failed.at(revision.usual_start()))? {
                Relayed::Answered((response, lease, place), mut prepared) => {
                    // The other activator keeps the time of the pod, and comments while there is none.
                    let idle = &mut prepared.deadlines.idle;
                    *idle = idle.map(|idle| idle.max(3 * SILENCE_MAX));
                    let rest = (Stay::There(place), busy);
                    return self.respond(response, lease, rest, prepared).map_err(Failed::sent);
                }
                Relayed::Alone(back, ready) => (checked, prepared) = (back, Some(ready)),
            }
        }
        let entered = self.enter(&mut checked, &revision, prepared, arrived).await;
        let (visit, held, prepared) = match entered {
            Ok(entered) => entered,
            Err(error) => return Err(checked.failed(error).at(revision.usual_start())),
        };
        drop(revision);
        let Checked { request, events, .. } = checked;
        let waiting = Waiting { visit, request, held, prepared, busy };
        if !waiting.visit.waits() {
            return self.finish(waiting).await;
        }
        // In boxes: most requests do not wait.
        match events {
            Some(form) if waiting.prepared.upgrade.is_none() => {
                Box::pin(self.answer_in_time(waiting, form)).await
            }
            _ if waiting.visit.live().settings.has_waiting_page
                && page::navigates(&waiting.request) =>
            {
                Box::pin(self.answer_browser(waiting)).await
            }
            _ => self.finish(waiting).await,
        }
    }

    /// Sends a request to its pod, once there is one, and answers with what the pod says.
    async fn finish(&self, waiting: Waiting) -> Result<Response<ProxyBody>, Failed> {
        let Waiting { mut visit, request, held, mut prepared, busy } = waiting;
        let sent = self.exchange(&mut visit, request, held, &mut prepared.deadlines).await;
        let (response, lease) = sent.map_err(|failed| {
            visit.failed(&failed.error);
            failed.at(visit.usual_start())
        })?;
        self.respond(response, lease, (Stay::Here(visit), busy), prepared).map_err(Failed::sent)
    }

    /// Lets a request enter its revision, counts the bytes that it holds there, and makes it fit
    /// for a pod unless that is done already.
    async fn enter(
        &self,
        checked: &mut Checked,
        revision: &Arc<Revision>,
        prepared: Option<Prepared>,
        arrived: Instant,
    ) -> Result<(Visit, Option<Share>, Prepared), RequestError> {
        let request = &checked.request;
        let arriving = Arriving {
            bytes: checked.head_bytes,
            path: request.uri().path(),
            headers: request.headers(),
            at: arrived,
        };
        let mut visit = match Visit::enter(revision, arriving) {
            // The Route was seen before its Revision.
            Err(RequestError::RevisionUnknown) => {
                let seen = || revision.live().map(drop);
                Box::pin(self.find_by_news(seen)).await;
                Visit::enter(revision, arriving)?
            }
            entered => entered?,
        };
        let held = if visit.waits() {
            self.hold_waiting(checked, &revision.held).map(Some)
        } else {
            self.hold_body(checked, Purpose::Passing, &revision.held).map(|()| None)
        };
        let held = held.inspect_err(|error| visit.answered(error.status()))?;
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => self.prepare(checked, &visit.live().settings, arrived)?,
        };
        Ok((visit, held, prepared))
    }

    /// The revision that the host of a client's request names, or that a peer has named.
    fn revision(&self, checked: &Checked) -> Result<Arc<Revision>, RequestError> {
        let directory = &self.proxy.directory;
        match &self.caller {
            Caller::Client(_, door) => {
                let text = checked.host.to_str().map_err(|_| RequestError::Malformed("host"))?;
                let host = route::normalise(text).map_err(|_| RequestError::Malformed("host"))?;
                let tag = checked.request.headers().get(headers::SERVING_TAG);
                let revision = directory.route(&host, *door, tag, rand::random());
                revision.ok_or(RequestError::HostUnknown)
            }
            Caller::Peer => {
                let headers = checked.request.headers();
                let revision = directory.revision(&relay::revision_of(headers)?);
                let meant = revision.filter(|revision| relay::is_meant(headers, revision));
                meant.ok_or(RequestError::RevisionUnknown)
            }
        }
    }

    /// The same after a wait for news, for a host or a revision that is not known yet.
    async fn revision_by_news(
        &self,
        checked: &Checked,
        unknown: RequestError,
    ) -> Result<Arc<Revision>, RequestError> {
        if !matches!(unknown, RequestError::HostUnknown | RequestError::RevisionUnknown) {
            return Err(unknown);
        }
        let _held = self.hold_for_news(checked)?;
        let look = || self.revision(checked).ok();
        self.find_by_news(look).await.ok_or(unknown)
    }

    async fn find_by_news<T>(&self, look: impl FnMut() -> Option<T>) -> Option<T> {
        let arrivals = &self.proxy.directory.arrivals;
        match &self.caller {
            Caller::Client(..) => arrivals.find_patiently(look).await,
            Caller::Peer => arrivals.find(look).await,
        }
    }

    /// The answer to the client: a response, or a tunnel if the pod agreed to one.
    fn respond(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        (mut stay, busy): (Stay, Busy),
        Prepared { upgrade, deadlines }: Prepared,
    ) -> Result<Response<ProxyBody>, RequestError> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(respond(response, lease, (stay, busy), deadlines.idle));
        }
        let Some((client, tunnel)) = upgrade else {
            stay.answered(RequestError::Upstream.status());
            return Err(RequestError::Upstream);
        };
        stay.answered(response.status());
        let held = Held { lease, rest: (stay, busy, tunnel, self.place.clone()) };
        Ok(self.proxy.tunnels.open(response, client, held, deadlines.tunnel_end))
    }
}

fn respond(
    response: Response<Incoming>,
    lease: Lease,
    (mut stay, busy): (Stay, Busy),
    idle: Option<Duration>,
) -> Response<ProxyBody> {
    let (mut head, body) = response.into_parts();
    headers::for_client(&mut head.headers);
    head.version = Version::HTTP_11;
    stay.answered(head.status);
    let now = Instant::now();
    // For a request that another activator held, that activator has added its timing.
    if let Stay::Here(visit) = &stay
        && let Some(timing) = server_timing(visit, now)
    {
        head.headers.append(SERVER_TIMING, timing);
    }
    let body = ProxyBody::from_pod(body, lease, (stay, busy), idle, Progress::current());
    Response::from_parts(head, body)
}

/// The `Server-Timing` of a request that waited; in milliseconds as the header wants it.
fn server_timing(visit: &Visit, now: Instant) -> Option<HeaderValue> {
    let phases = visit.phases()?;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let upstream = now.saturating_duration_since(visit.arrived()).saturating_sub(phases.queue);
    HeaderValue::try_from(format!(
        "queue;dur={:.1}, pod;dur={:.1}, probe;dur={:.1}, upstream;dur={:.1}",
        ms(phases.queue),
        ms(phases.pod),
        ms(phases.probe),
        ms(upstream),
    ))
    .ok()
}
