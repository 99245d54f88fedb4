//! Refuses requests that are not fit for any pod, and reads from the others what is needed on the
//! way.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::failed::Failed;
use super::reader;
use crate::error::RequestError;
use crate::headers;
use crate::models::call::ErrorForm;
use crate::upload::Upload;

/// Longest method that is forwarded; the registered ones have 17 letters at the most.
const METHOD_BYTES_MAX: usize = 32;

/// A request that the checks have passed.
pub(super) struct Checked {
    pub(super) request: Request<Upload>,
    /// Bytes that its head, as it came, takes in memory while it waits.
    pub(super) head_bytes: usize,
    pub(super) host: HeaderValue,
    pub(super) upgrade: Option<(HeaderValue, OnUpgrade)>,
    /// For a client that reads events, how it wants to be told of an error by one.
    pub(super) events: Option<ErrorForm>,
}

// === impl Checked ===

impl Checked {
    /// The failure of this request, of which nothing was sent.
    pub(super) fn failed(self, error: RequestError) -> Failed {
        Failed::unsent(self.request, error)
    }
}

/// Refuses a request that is not fit for any pod, and takes any other apart. `is_peer` says whether
/// another activator sends it, and not a client, whose body must come at some pace; `is_ambiguous`
/// whether the connection saw two lengths in its head.
pub(super) fn check(
    request: Request<Incoming>,
    is_peer: bool,
    is_ambiguous: bool,
) -> Result<Checked, Failed> {
    let mut request = Upload::watch(request, !is_peer);
    match refusal(&request, is_ambiguous) {
        Err(error) => Err(Failed::unsent(request, error)),
        Ok(host) => {
            let upgrade = (request.version() == Version::HTTP_11)
                .then(|| headers::upgrade_of(request.headers()))
                .flatten()
                .map(|protocol| (protocol, hyper::upgrade::on(&mut request)));
            let head_bytes = headers::head_bytes(request.headers(), request.uri().path());
            let events = reader::of_head(&request, is_peer);
            Ok(Checked { request, head_bytes, host, upgrade, events })
        }
    }
}

/// The host of a request that passes the checks.
fn refusal(request: &Request<Upload>, is_ambiguous: bool) -> Result<HeaderValue, RequestError> {
    let method = request.method();
    if *method == Method::TRACE || *method == Method::CONNECT {
        return Err(RequestError::MethodRefused);
    }
    if method.as_str().len() > METHOD_BYTES_MAX {
        return Err(RequestError::Malformed("method"));
    }
    let continues = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if request.headers().get(header::EXPECT).is_some_and(|value| !continues(value)) {
        return Err(RequestError::ExpectationUnknown);
    }
    if is_ambiguous {
        return Err(RequestError::Malformed("content-length"));
    }
    check_coding(request.headers())?;
    host_of(request)
}

/// Accepts only `chunked`, said once: any other coding would have to be decoded here, or the pod
/// would take the coded bytes for the body.
fn check_coding(headers: &HeaderMap) -> Result<(), RequestError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(first), second) => {
            let lists_another = |value: &HeaderValue| {
                let mut tokens = value.as_bytes().split(|byte| *byte == b',');
                tokens.any(|token| !token.trim_ascii().eq_ignore_ascii_case(b"chunked"))
            };
            let known = lists_another(first) || second.is_some_and(lists_another);
            Err(if known {
                RequestError::CodingUnknown
            } else {
                RequestError::Malformed("transfer-encoding")
            })
        }
    }
}

/// The one host of the request. The URI's authority wins, and must not be contradicted.
fn host_of(request: &Request<Upload>) -> Result<HeaderValue, RequestError> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(RequestError::Malformed("host"));
    }
    match (request.uri().authority(), first) {
        (Some(authority), host) => {
            let authority = authority.as_str();
            if host.is_some_and(|h| !h.as_bytes().eq_ignore_ascii_case(authority.as_bytes())) {
                return Err(RequestError::Malformed("host"));
            }
            HeaderValue::try_from(authority).map_err(|_| RequestError::Malformed("host"))
        }
        (None, Some(host)) => Ok(host.clone()),
        (None, None) => Err(RequestError::Malformed("host")),
    }
}
