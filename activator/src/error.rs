//! The one taxonomy of requests that Ebb answers itself. `proxy/answer.rs` makes responses of it.

use std::sync::Arc;

use ebb_api::report::RevisionKey;
use http::StatusCode;

mod model;

pub use model::ModelError;

/// Nginx's status for a client that closed the connection: no response was sent, but the metric
/// needs a class.
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
    /// The revision was deleted, or made anew, while the request waited for a pod of it.
    #[error("revision deleted")]
    RevisionGone,
    /// The request is one that does not wake the revision, which has no pod.
    #[error("the model sleeps, and this request does not wake it")]
    Asleep,
    /// The path lets the model sleep or wakes it, which is Ebb's to do.
    #[error("this path is reserved for Ebb, which lets the model sleep and wakes it")]
    StandbyPath,
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
    /// The body has a transfer coding that would have to be decoded here.
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
    /// No pod had the request within the time that the revision gives to a start.
    #[error("no pod took the request within the revision's start timeout")]
    StartTimeout,
    /// The request did not reach a pod: the activator that owns the revision did not know the
    /// revision yet, and the request's body cannot be sent again.
    #[error("no connection to the model")]
    Unreachable,
    /// The pod took the request and gave no response.
    #[error("the model closed the connection without a response")]
    Upstream,
    /// The models host refuses the request.
    #[error(transparent)]
    Model(Box<ModelError>),
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
            Self::HostUnknown | Self::RevisionUnknown | Self::RevisionGone | Self::StandbyPath => {
                StatusCode::NOT_FOUND
            }
            Self::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
            Self::ExpectationUnknown => StatusCode::EXPECTATION_FAILED,
            Self::BodySlow => StatusCode::REQUEST_TIMEOUT,
            Self::CodingUnknown => StatusCode::NOT_IMPLEMENTED,
            Self::Asleep
            | Self::QueueFull
            | Self::Overloaded
            | Self::CannotStart { .. }
            | Self::StartTimeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable | Self::Upstream => StatusCode::BAD_GATEWAY,
            Self::Model(error) => error.status(),
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The word for this error in the response's header and in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::HostUnknown => "host-unknown",
            Self::MethodRefused => "method-refused",
            Self::ExpectationUnknown => "expectation-unknown",
            Self::RevisionUnknown => "revision-unknown",
            Self::RevisionGone => "revision-gone",
            Self::Asleep => "asleep",
            Self::StandbyPath => "standby-path",
            Self::QueueFull => "queue-full",
            Self::Overloaded => "overloaded",
            Self::BodySlow => "body-slow",
            Self::ClientGone => "client-gone",
            Self::CodingUnknown => "coding-unknown",
            Self::CannotStart { .. } => "cannot-start",
            Self::StartTimeout => "start-timeout",
            Self::Unreachable => "unreachable",
            Self::Upstream => "upstream",
            Self::Timeout => "timeout",
            Self::Model(error) => error.label(),
        }
    }

    /// Whether the rest of the client's data cannot be told apart from a next request, or is not
    /// worth waiting for.
    pub(crate) const fn ends_connection(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::BodySlow | Self::ClientGone | Self::CodingUnknown)
    }
}

impl From<ModelError> for RequestError {
    fn from(error: ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

/// The status that is counted for a client that left before it had an answer.
pub(crate) fn client_closed() -> StatusCode {
    StatusCode::from_u16(CLIENT_CLOSED).unwrap_or(StatusCode::BAD_REQUEST)
}
