//! Requests between activators: sent to the owner of a revision, and taken from others.
//!
//! While a request waits at the owner, a part of its body is already under way: as much as fits
//! into the buffers of the hop (`BUFFER_BYTES` in `upstream`) and of its sockets. So a client that
//! expects a `100 Continue` gets it once the owner is reached, and not only once there is a pod:
//! hyper's client does not wait for a `100 Continue` itself.

use std::sync::Arc;

use ebb_api::report::RevisionKey;
use ebb_api::serving::Protocol;
use futures::TryFutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::answer::ERROR_HEADER;
use super::check::Checked;
use super::client::{Caller, Client};
use super::exchange::within;
use super::failed::Failed;
use super::prepare::Prepared;
use crate::budget::Purpose;
use crate::error::RequestError;
use crate::headers::{PEER_READS_EVENTS, PEER_REVISION, PEER_REVISION_UID};
use crate::peers::Peer;
use crate::revision::Revision;
use crate::upload::{KeptUpload, Upload};
use crate::upstream::{Lease, SendError};

/// The response of another activator, its connection, and the place that the request has there.
type Answer = (Response<Incoming>, Lease, OwnedSemaphorePermit);

/// A revision as one activator names it to another.
#[derive(Clone)]
struct Named {
    key: HeaderValue,
    uid: Option<HeaderValue>,
    /// Whether the client reads events.
    reads_events: bool,
}

/// The result of offering a request to other activators.
pub(super) enum Relayed {
    /// One of them has answered the request.
    Answered(Answer, Prepared),
    /// None of them takes the request, which is fit for a pod of this activator.
    Alone(Checked, Prepared),
}

// === impl Named ===

impl Named {
    fn new(key: &RevisionKey, uid: Option<&str>, reads_events: bool) -> Result<Self, RequestError> {
        let value =
            |text| HeaderValue::try_from(text).map_err(|_| RequestError::Malformed("revision"));
        let uid = uid.map(|uid| value(uid.to_owned())).transpose()?;
        Ok(Self { key: value(key.to_string())?, uid, reads_events })
    }

    fn write(self, headers: &mut HeaderMap) {
        headers.insert(PEER_REVISION, self.key);
        if let Some(uid) = self.uid {
            headers.insert(PEER_REVISION_UID, uid);
        }
        if self.reads_events {
            headers.insert(PEER_READS_EVENTS, HeaderValue::from_static("1"));
        }
    }

    fn remove(headers: &mut HeaderMap) {
        headers.remove(PEER_REVISION);
        headers.remove(PEER_REVISION_UID);
        headers.remove(PEER_READS_EVENTS);
    }
}

// === impl Client ===

impl Client {
    /// The activators that should serve the request rather than this one: none for a revision
    /// without a limit. A request from a peer is never sent on: two activators that disagree must
    /// not pass it to and fro.
    pub(super) fn owners_of(&self, revision: &Revision, now: Instant) -> Vec<Arc<Peer>> {
        if !revision.is_limited() {
            return Vec::new();
        }
        match (&self.caller, &self.proxy.peers) {
            (Caller::Client(..), Some(peers)) => peers.before_us(revision.point, now),
            (Caller::Peer, _) | (_, None) => Vec::new(),
        }
    }

    /// Makes the request fit for a pod and sends it to the first of `peers` that can be reached.
    pub(super) async fn relay(
        &self,
        mut checked: Checked,
        revision: &Revision,
        peers: &[Arc<Peer>],
        arrived: Instant,
    ) -> Result<Relayed, Failed> {
        let (named, protocol, prepared) =
            match self.prepare_for_peers(&mut checked, revision, arrived) {
                Ok(prepared) => prepared,
                Err(error) => return Err(checked.failed(error)),
            };
        let deadline = prepared.deadlines.start;
        Ok(match self.send_to_peers(peers, (named, protocol), checked.request, deadline).await? {
            Ok(answer) => Relayed::Answered(answer, prepared),
            Err(request) => Relayed::Alone(Checked { request, ..checked }, prepared),
        })
    }

    fn prepare_for_peers(
        &self,
        checked: &mut Checked,
        revision: &Revision,
        arrived: Instant,
    ) -> Result<(Named, Protocol, Prepared), RequestError> {
        // The request may wait at the peer.
        self.hold_body(checked, Purpose::Passing, &revision.held)?;
        checked.request.body_mut().passes();
        let live = revision.live().ok_or(RequestError::RevisionUnknown)?;
        let uid = live.settings.uid.as_deref();
        let named = Named::new(&revision.key, uid, checked.events.is_some())?;
        Ok((named, live.settings.protocol, self.prepare(checked, &live.settings, arrived)?))
    }

    /// Sends a request, which is fit for a pod, to the first of `peers` that can be reached until
    /// `deadline`. If none takes the request, it comes back as it was, and provably no pod has seen
    /// it.
    async fn send_to_peers(
        &self,
        peers: &[Arc<Peer>],
        (named, protocol): (Named, Protocol),
        mut request: Request<Upload>,
        deadline: Option<Instant>,
    ) -> Result<Result<Answer, Request<Upload>>, Failed> {
        let meters = &self.proxy.context.meters;
        for peer in peers {
            let Some(place) = peer.place() else {
                return Err(Failed::unsent(request, RequestError::QueueFull));
            };
            named.clone().write(request.headers_mut());
            let upstream = peer.upstream(protocol);
            let (address, body) = (upstream.address(), request.body().state());
            // Until the peer is known to know the revision, the request can be had again.
            let (head, mut copy) = (head_of(&request), request.body().copy());
            let kept = if copy.is_none() { self.keep_body(&mut request) } else { None };
            let mut opened = || {};
            let sent = upstream.send(request, &mut opened).map_err(Box::new);
            let sent = within(deadline, sent);
            let sent = KeptUpload::during(kept.as_ref(), &mut copy, sent);
            match sent.await.map_err(Failed::sent)?.map_err(|error| *error) {
                Ok((response, _)) if is_behind(&response) => {
                    peer.reached();
                    // The peer has refused the request before it did anything with it.
                    let again = match (copy, &kept, &body) {
                        (Some(copy), _, _) => Some(copy),
                        (None, Some(kept), _) => kept.take_back(),
                        (None, None, Some(_)) => None,
                        (None, None, None) => Some(Upload::Empty),
                    };
                    let again = again.ok_or(Failed::sent(RequestError::Unreachable))?;
                    request = head.map(|()| again);
                }
                Ok((response, lease)) => {
                    body.inspect(|body| body.answered());
                    kept.inspect(KeptUpload::arrived);
                    peer.reached();
                    meters.forwarded();
                    return Ok(Ok((response, lease, place)));
                }
                Err(SendError::Lost { source, .. }) => {
                    meters.forwarded();
                    return Err(Failed::sent(self.lost(&source, address, body.as_deref())));
                }
                Err(SendError::Unsent { request: back, source, .. }) => {
                    request = *back;
                    if source.is_local() {
                        return Err(Failed::unsent(request, self.out_of_means()));
                    }
                    meters.peer_failure();
                    peer.unreachable(Instant::now());
                    tracing::warn!(error = %source, peer.address = %address, "Peer not reachable");
                }
            }
            Named::remove(request.headers_mut());
        }
        *request.body_mut() = unkept(std::mem::replace(request.body_mut(), Upload::Empty));
        Ok(Err(request))
    }

    /// Keeps the beginning of the request's body, if it has one and there is a place.
    fn keep_body(&self, request: &mut Request<Upload>) -> Option<KeptUpload> {
        let body = unkept(std::mem::replace(request.body_mut(), Upload::Empty));
        let place = match body.state() {
            Some(_) if !matches!(body, Upload::Kept(_)) => self.kept_place(),
            _ => None,
        };
        let Some(place) = place else {
            *request.body_mut() = body;
            return None;
        };
        let kept = KeptUpload::new(body, place, Instant::now());
        *request.body_mut() = kept.upload();
        Some(kept)
    }

    fn kept_place(&self) -> Option<OwnedSemaphorePermit> {
        self.proxy.peers.as_ref()?.kept_place()
    }
}

/// The body itself, if it was kept for a peer that could not be reached.
fn unkept(body: Upload) -> Upload {
    match body {
        Upload::Kept(kept) => kept.take_back().unwrap_or_else(|| kept.upload()),
        body => body,
    }
}

/// Whether a peer has not yet seen the revision that this activator knows.
fn is_behind(response: &Response<Incoming>) -> bool {
    let error = response.headers().get(ERROR_HEADER);
    response.status() == RequestError::RevisionUnknown.status()
        && error.is_some_and(|error| error == RequestError::RevisionUnknown.label())
}

/// The same request without its body.
fn head_of(request: &Request<Upload>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// The revision that another activator names.
pub(super) fn revision_of(headers: &HeaderMap) -> Result<RevisionKey, RequestError> {
    let mut values = headers.get_all(PEER_REVISION).iter();
    let key = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().and_then(parse),
        _ => None,
    };
    key.ok_or(RequestError::Malformed("ebb-peer-revision"))
}

/// Whether another activator, which says so by a header, means this revision and not another of its
/// name. An activator of an earlier version does not say which it means.
pub(super) fn is_meant(headers: &HeaderMap, revision: &Revision) -> bool {
    let live = revision.live();
    let known = live.as_ref().and_then(|live| live.settings.uid.as_deref());
    match (headers.get(PEER_REVISION_UID), known) {
        (Some(meant), Some(known)) => meant.as_bytes() == known.as_bytes(),
        (None, _) | (_, None) => true,
    }
}

fn parse(text: &str) -> Option<RevisionKey> {
    let (namespace, name) = text.split_once('/')?;
    let whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    whole.then(|| RevisionKey::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_names_exactly_one_revision() {
        let key = RevisionKey::new("default", "digits-00001");
        let mut headers = HeaderMap::new();
        assert!(revision_of(&headers).is_err());
        headers.append(PEER_REVISION, HeaderValue::try_from(key.to_string()).unwrap());
        assert_eq!(revision_of(&headers), Ok(key));
        headers.append(PEER_REVISION, HeaderValue::from_static("default/other"));
        assert!(revision_of(&headers).is_err());
        for bad in ["", "/", "a", "a/", "/b", "a/b/c", "a\u{e9}/b"] {
            headers.insert(PEER_REVISION, HeaderValue::try_from(bad).unwrap());
            assert!(revision_of(&headers).is_err(), "{bad}");
        }
    }
}
