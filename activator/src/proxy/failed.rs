//! A request that comes to nothing on its way to a pod.

use http::Request;

use crate::error::RequestError;
use crate::upload::Upload;

/// Why a request gets no response of a pod.
pub(super) struct Failed {
    /// The request with its body unread; `None` once any part of it may have gone on. In a box, for
    /// errors are rare and should not make every result large.
    pub(super) request: Option<Box<Request<Upload>>>,
    pub(super) error: RequestError,
}

// === impl Failed ===

impl Failed {
    /// Nothing of it was sent.
    pub(super) fn unsent(request: Request<Upload>, error: RequestError) -> Self {
        Self { request: Some(Box::new(request)), error }
    }

    /// It was sent, or a part of it, or that cannot be told any more.
    pub(super) const fn sent(error: RequestError) -> Self {
        Self { request: None, error }
    }
}
