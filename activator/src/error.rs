//! The one taxonomy of requests that Ebb answers itself, and the one function from it to a response.
//!
//! Bodies are short and constant: nothing a client sent comes back in them. The machine-readable
//! header [`ERROR_HEADER`] and the metric label are the same word, so that a client's log and an
//! operator's graph can be matched.

use std::sync::Arc;

use bytes::Bytes;
use ebb_api::report::RevisionKey;
use http::{HeaderValue, Response, StatusCode, header};

use crate::body::ProxyBody;

/// Names the kind of error in a response that Ebb made itself; taken out of a model's own responses.
pub const ERROR_HEADER: &str = "ebb-error";

/// Nginx's word for a client that closed the connection: no response was sent, and the metric needs
/// a class.
const CLIENT_CLOSED: u16 = 499;

/// Why a request was answered by Ebb instead of a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request breaks HTTP, or could be read in two ways.
    #[error("bad request: {0}")]
    Malformed(&'static str),
    /// No route has this host.
    #[error("no route for this host")]
    HostUnknown,
    /// TRACE and CONNECT are never forwarded.
    #[error("method not allowed")]
    MethodRefused,
    /// `Expect` asks for something other than `100-continue`.
    #[error("expectation failed")]
    ExpectationUnknown,
    /// The route names a revision that does not exist, or no longer.
    #[error("revision not found")]
    RevisionUnknown,
    /// The revision's queue holds as many requests, or as many bytes, as it may.
    #[error("pending request queue full")]
    QueueFull,
    /// This process holds as much as it may, of all revisions together.
    #[error("the gateway is at its limit")]
    Overloaded,
    /// The client sends the request's body too slowly.
    #[error("request body too slow")]
    BodySlow,
    /// The client broke off its request; the answer is for the metrics.
    #[error("the client broke off its request")]
    ClientGone,
    /// The body is encoded in a way that would have to be undone here.
    #[error("transfer coding not supported: send the body as chunked alone")]
    CodingUnknown,
    /// Every pod of the revision failed, and none is starting.
    #[error("revision {revision} cannot start: {reason}")]
    CannotStart {
        /// The revision.
        revision: RevisionKey,
        /// The reason that Kubernetes gives for the pods, clipped.
        reason: Arc<str>,
    },
    /// No connection to a pod could be made, however often it was allowed to try.
    #[error("no connection to the model")]
    Unreachable,
    /// The pod took the request and gave no response.
    #[error("the model closed the connection without a response")]
    Upstream,
    /// One of the revision's timeouts ran out before the response started.
    // Knative's own words: clients match on them.
    #[error("activator request timeout")]
    Timeout,
}

impl RequestError {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::ClientGone => client_closed(),
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::HostUnknown | Self::RevisionUnknown => StatusCode::NOT_FOUND,
            Self::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
            Self::ExpectationUnknown => StatusCode::EXPECTATION_FAILED,
            Self::BodySlow => StatusCode::REQUEST_TIMEOUT,
            Self::CodingUnknown => StatusCode::NOT_IMPLEMENTED,
            Self::QueueFull | Self::Overloaded | Self::CannotStart { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unreachable | Self::Upstream => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The word for this error in [`ERROR_HEADER`] and in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::HostUnknown => "host-unknown",
            Self::MethodRefused => "method-refused",
            Self::ExpectationUnknown => "expectation-unknown",
            Self::RevisionUnknown => "revision-unknown",
            Self::QueueFull => "queue-full",
            Self::Overloaded => "overloaded",
            Self::BodySlow => "body-slow",
            Self::ClientGone => "client-gone",
            Self::CodingUnknown => "coding-unknown",
            Self::CannotStart { .. } => "cannot-start",
            Self::Unreachable => "unreachable",
            Self::Upstream => "upstream",
            Self::Timeout => "timeout",
        }
    }

    /// Seconds after which the same request may fare better, where that can be said.
    const fn retry_after(&self) -> Option<&'static str> {
        match self {
            Self::QueueFull | Self::Overloaded => Some("1"),
            // CrashLoopBackOff starts at 10 s: sooner than that nothing can have changed.
            Self::CannotStart { .. } => Some("10"),
            _ => None,
        }
    }

    /// Whether what the client still sends cannot be told apart from a next request, or is not worth
    /// waiting for.
    pub(crate) const fn ends_connection(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::BodySlow | Self::ClientGone | Self::CodingUnknown)
    }

    /// The response.
    pub fn response(&self) -> Response<ProxyBody> {
        let mut response = Response::new(ProxyBody::local(Bytes::from(format!("{self}\n"))));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(ERROR_HEADER, HeaderValue::from_static(self.label()));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if matches!(self, Self::MethodRefused) {
            headers.insert(
                header::ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            );
        }
        response
    }
}

/// What counts for a client that left before it had an answer.
pub(crate) fn client_closed() -> StatusCode {
    StatusCode::from_u16(CLIENT_CLOSED).unwrap_or(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn golden() -> [(RequestError, u16, &'static str, &'static str); 14] {
        let revision = RevisionKey::new("default", "x-00001");
        let reason = "ExitCode1: no model".into();
        let cannot_start = RequestError::CannotStart { revision, reason };
        let why = "revision default/x-00001 cannot start: ExitCode1: no model";
        let lost = "the model closed the connection without a response";
        let coding = "transfer coding not supported: send the body as chunked alone";
        let malformed = RequestError::Malformed("host");
        #[rustfmt::skip]
        let table = [
            (malformed, 400, "malformed", "bad request: host"),
            (RequestError::HostUnknown, 404, "host-unknown", "no route for this host"),
            (RequestError::MethodRefused, 405, "method-refused", "method not allowed"),
            (RequestError::ExpectationUnknown, 417, "expectation-unknown", "expectation failed"),
            (RequestError::RevisionUnknown, 404, "revision-unknown", "revision not found"),
            (RequestError::QueueFull, 503, "queue-full", "pending request queue full"),
            (RequestError::Overloaded, 503, "overloaded", "the gateway is at its limit"),
            (RequestError::BodySlow, 408, "body-slow", "request body too slow"),
            (RequestError::ClientGone, 499, "client-gone", "the client broke off its request"),
            (RequestError::CodingUnknown, 501, "coding-unknown", coding),
            (cannot_start, 503, "cannot-start", why),
            (RequestError::Unreachable, 502, "unreachable", "no connection to the model"),
            (RequestError::Upstream, 502, "upstream", lost),
            (RequestError::Timeout, 504, "timeout", "activator request timeout"),
        ];
        table
    }

    #[tokio::test]
    async fn every_error_has_its_status_label_and_constant_body() {
        for (error, status, label, body) in golden() {
            let response = error.response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[ERROR_HEADER], label);
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(bytes, format!("{body}\n"));
        }
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        for error in [RequestError::QueueFull, RequestError::Overloaded] {
            assert_eq!(error.response().headers()[header::RETRY_AFTER], "1");
        }
    }
}
