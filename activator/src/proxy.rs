//! The life of one request: check, route, wait for a pod, forward, answer.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, timeout_at};

use crate::body::ProxyBody;
use crate::budget::{Budget, Purpose};
use crate::directory::Directory;
use crate::error::RequestError;
use crate::guard::{Activity, Busy};
use crate::headers::{self, ClientEnd};
use crate::meters::Bound;
use crate::peers::Peers;
use crate::places::Place;
use crate::progress::Progress;
use crate::revision::{Context, Revision};
use crate::route::{self, Door};
use crate::settings::{Deadlines, Settings};
use crate::tunnel::{Held, Tunnels};
use crate::upload::Upload;
use crate::upstream::Lease;
use crate::visit::{Stay, Visit};

mod answer;
mod check;
mod exchange;
mod held;
mod leftover;
mod relay;

use check::{Checked, check};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What all connections share.
pub(crate) struct Proxy {
    pub(crate) directory: Arc<Directory>,
    pub(crate) context: Arc<Context>,
    pub(crate) tunnels: Tunnels,
    /// What all requests hold in memory.
    pub(crate) held: Arc<Budget>,
    /// Nothing where this activator is the only one.
    pub(crate) peers: Option<Arc<Peers>>,
}

/// One connection of a client or of another activator.
pub(crate) struct Client {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) caller: Caller,
    pub(crate) activity: Arc<Activity>,
    /// The place of the connection, which its tunnel keeps; without one its requests are refused.
    pub(crate) place: Option<Arc<Place>>,
}

/// Who is at the other end.
pub(crate) enum Caller {
    /// Anybody who reached this door: nothing that it says about revisions or other clients is
    /// believed.
    Client(ClientEnd, Door),
    /// Another activator.
    Peer,
}

/// What is left of a request's arrival once it is fit for a pod.
struct Way {
    /// The client's side of a tunnel, and the place that it will have among the tunnels.
    upgrade: Option<(OnUpgrade, Place)>,
    deadlines: Deadlines,
}

// === impl Client ===

impl Client {
    /// Answers a request, whatever it takes.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<ProxyBody> {
        let busy = self.activity.begin();
        let is_timed = matches!(self.caller, Caller::Client(..));
        let mut checked = match check(request, is_timed, self.activity.is_ambiguous()) {
            Ok(checked) => checked,
            Err((request, error)) => return self.refuse(Some(request), &error).await,
        };
        if self.place.is_none() {
            // Counted when the connection was accepted.
            return self.refuse(checked.request, &RequestError::Overloaded).await;
        }
        match self.forward(&mut checked, busy).await {
            Ok(response) => response,
            Err(error) => self.refuse(checked.request, &error).await,
        }
    }

    async fn refuse(
        &self,
        request: Option<Request<Upload>>,
        error: &RequestError,
    ) -> Response<ProxyBody> {
        self.proxy.context.meters.error(error);
        tracing::debug!(error.kind = error.label(), "Request refused");
        let mut response = error.response();
        let closes = error.ends_connection() || self.place.is_none();
        if closes || leftover::must_close(request).await {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn forward(
        &self,
        checked: &mut Checked,
        busy: Busy,
    ) -> Result<Response<ProxyBody>, RequestError> {
        let arrived = Instant::now();
        let revision = match self.revision(checked) {
            Ok(revision) => revision,
            // In a box: it is rare, and requests should not carry its state.
            Err(unknown) => Box::pin(self.revision_by_news(checked, unknown)).await?,
        };
        let bytes = checked.head_bytes();
        let mut way = None;
        let peers = self.owners_of(&revision, arrived);
        if !peers.is_empty() {
            // It may wait there.
            self.hold_body(checked, Purpose::Passing, &revision.held)?;
            // In a box: requests that are served here should not carry the state of those that go
            // to another activator.
            let sent = Box::pin(self.relay(checked, &revision, &peers, arrived));
            let (prepared, sent) = sent.await?;
            if let Some((response, lease, place)) = sent {
                return self.respond(response, lease, (Stay::There(place), busy), prepared);
            }
            way = Some(prepared);
        }
        let mut visit = match Visit::enter(&revision, bytes, arrived) {
            // Its Route was seen before it was.
            Err(RequestError::RevisionUnknown) => {
                let seen = || revision.live().map(drop);
                Box::pin(self.proxy.directory.news.find(seen)).await;
                Visit::enter(&revision, bytes, arrived)?
            }
            entered => entered?,
        };
        let held = if visit.waits() {
            self.hold_waiting(checked, bytes, &revision.held).map(Some)
        } else {
            self.hold_body(checked, Purpose::Passing, &revision.held).map(|()| None)
        };
        drop(revision);
        let held = held.inspect_err(|error| visit.answered(error.status()))?;
        let way = match way {
            Some(way) => way,
            None => self.prepare(checked, &visit.live().settings, arrived)?,
        };
        let sent = self.exchange(&mut visit, &mut checked.request, held);
        let (response, lease) =
            within(way.deadlines.start, sent).await.inspect_err(|error| visit.failed(error))?;
        self.respond(response, lease, (Stay::Here(visit), busy), way)
    }

    /// The revision that the host of a client's request names, or that a peer has named.
    fn revision(&self, checked: &Checked) -> Result<Arc<Revision>, RequestError> {
        let directory = &self.proxy.directory;
        match &self.caller {
            Caller::Client(_, door) => {
                let text = checked.host.to_str().map_err(|_| RequestError::Malformed("host"))?;
                let host = route::normalise(text).map_err(|_| RequestError::Malformed("host"))?;
                directory.route(&host, *door, rand::random()).ok_or(RequestError::HostUnknown)
            }
            Caller::Peer => {
                let request = checked.request.as_ref().ok_or(RequestError::Malformed("request"))?;
                let key = relay::revision_of(request.headers())?;
                directory.revision(&key).ok_or(RequestError::RevisionUnknown)
            }
        }
    }

    /// The same after news, for a host or a revision that is not known yet.
    async fn revision_by_news(
        &self,
        checked: &mut Checked,
        unknown: RequestError,
    ) -> Result<Arc<Revision>, RequestError> {
        if !matches!(unknown, RequestError::HostUnknown | RequestError::RevisionUnknown) {
            return Err(unknown);
        }
        let _held = self.hold_for_news(checked)?;
        let look = || self.revision(checked).ok();
        self.proxy.directory.news.find(look).await.ok_or(unknown)
    }

    /// Makes the request fit for a pod.
    fn prepare(
        &self,
        checked: &mut Checked,
        settings: &Settings,
        arrived: Instant,
    ) -> Result<Way, RequestError> {
        let Some(request) = &mut checked.request else {
            return Err(RequestError::Malformed("request"));
        };
        let h2 = settings.protocol == ebb_api::serving::Protocol::H2c;
        // A pod that speaks HTTP/2 has no upgrades.
        let upgrade = checked.upgrade.take().filter(|_| !h2);
        let (protocol, upgrade) = upgrade.unzip();
        let upgrade = match upgrade {
            Some(client) => Some((client, self.tunnel_place()?)),
            None => None,
        };
        if !h2 {
            headers::join_cookies(request.headers_mut());
        }
        match &self.caller {
            Caller::Client(end, _) => {
                headers::for_pod(request.headers_mut(), &checked.host, end, protocol);
            }
            Caller::Peer => headers::from_peer(request.headers_mut(), protocol),
        }
        address(request, &checked.host, h2)?;
        Ok(Way { upgrade, deadlines: settings.deadlines(arrived) })
    }

    /// The answer to the client: a response, or a tunnel if that was agreed.
    fn respond(
        &self,
        response: Response<Incoming>,
        lease: Lease,
        (mut stay, busy): (Stay, Busy),
        Way { upgrade, deadlines }: Way,
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

    fn tunnel_place(&self) -> Result<Place, RequestError> {
        self.proxy.tunnels.place().ok_or_else(|| {
            self.proxy.context.meters.overflow(Bound::Tunnels);
            RequestError::Overloaded
        })
    }
}

/// What `sent` gives until `deadline`.
async fn within<T>(
    deadline: Option<Instant>,
    sent: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    match deadline {
        Some(deadline) => timeout_at(deadline, sent).await.unwrap_or(Err(RequestError::Timeout)),
        None => sent.await,
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
    // The activator that held the request has said where its time went.
    if let Stay::Here(visit) = &stay
        && let Some(timing) = server_timing(visit, now)
    {
        head.headers.append(SERVER_TIMING, timing);
    }
    let body = ProxyBody::from_pod(body, lease, (stay, busy), idle, Progress::current());
    Response::from_parts(head, body)
}

/// Where the time went, for a request that waited; in milliseconds as the header wants it.
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

/// Writes the target in the form of the pod's protocol.
fn address(
    request: &mut Request<Upload>,
    host: &HeaderValue,
    h2: bool,
) -> Result<(), RequestError> {
    if h2 {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority =
            Some(host.as_bytes().try_into().map_err(|_| RequestError::Malformed("host"))?);
        parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        *request.uri_mut() =
            Uri::from_parts(parts).map_err(|_| RequestError::Malformed("target"))?;
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
        return Ok(());
    }
    if request.uri().authority().is_some() {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = None;
        parts.authority = None;
        parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        *request.uri_mut() =
            Uri::from_parts(parts).map_err(|_| RequestError::Malformed("target"))?;
        request.headers_mut().insert(header::HOST, host.clone());
    }
    *request.version_mut() = Version::HTTP_11;
    // hyper takes it for granted that these have no body, unless they say so.
    if matches!(*request.method(), Method::GET | Method::HEAD)
        && has_body(request)
        && !request.headers().contains_key(header::CONTENT_LENGTH)
    {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
    }
    Ok(())
}

/// Whether a request has a body that nobody has read.
fn has_body(request: &Request<Upload>) -> bool {
    !request.body().is_end_stream()
}
