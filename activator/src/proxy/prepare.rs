//! Brings a request into the form that a pod is sent: its headers, its target, its tunnel's place.

use ebb_api::serving::Protocol;
use http::header::{self, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::check::Checked;
use super::client::{Caller, Client};
use crate::error::RequestError;
use crate::headers;
use crate::meters::Bound;
use crate::places::Place;
use crate::settings::{Deadlines, Settings};
use crate::upload::Upload;

/// The upgrade and the deadlines of a request that is fit for a pod.
pub(super) struct Prepared {
    /// The client's side of a tunnel, and the place that it will have among the tunnels.
    pub(super) upgrade: Option<(OnUpgrade, Place)>,
    pub(super) deadlines: Deadlines,
}

// === impl Client ===

impl Client {
    /// Makes the request fit for a pod.
    pub(super) fn prepare(
        &self,
        checked: &mut Checked,
        settings: &Settings,
        arrived: Instant,
    ) -> Result<Prepared, RequestError> {
        let request = &mut checked.request;
        let h2 = settings.protocol == Protocol::H2c;
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
        Ok(Prepared { upgrade, deadlines: settings.deadlines(arrived) })
    }

    fn tunnel_place(&self) -> Result<Place, RequestError> {
        self.proxy.tunnels.place().ok_or_else(|| {
            self.proxy.context.meters.overflow(Bound::Tunnels);
            RequestError::Overloaded
        })
    }
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
    // hyper assumes that a GET or HEAD has no body, unless a header says so.
    if matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.body().is_end_stream()
        && !request.headers().contains_key(header::CONTENT_LENGTH)
    {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
    }
    Ok(())
}
