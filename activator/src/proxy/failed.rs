//! A request that fails on its way to a pod.

use std::time::Duration;

use http::Request;

use crate::error::RequestError;
use crate::models::call::ErrorForm;
use crate::upload::Upload;

/// A request that gets no response of a pod, and why.
pub(super) struct Failed {
    /// The request with its body unread; `None` once any part of it may have been sent. In a box,
    /// for errors are rare and should not make every result large.
    pub(super) request: Option<Box<Request<Upload>>>,
    pub(super) error: RequestError,
    /// How the client wants to be told.
    pub(super) form: ErrorForm,
    /// How long a start usually takes, where one is needed and that is known.
    pub(super) start: Option<Duration>,
}

// === impl Failed ===

impl Failed {
    /// Nothing of the request was sent.
    pub(super) fn unsent(request: Request<Upload>, error: RequestError) -> Self {
        Self { request: Some(Box::new(request)), error, form: ErrorForm::Plain, start: None }
    }

    /// The request or a part of it was sent, or that cannot be told any more.
    pub(super) const fn sent(error: RequestError) -> Self {
        Self { request: None, error, form: ErrorForm::Plain, start: None }
    }

    /// The same, at a revision whose start usually takes so long.
    pub(super) fn at(self, start: Option<Duration>) -> Self {
        Self { start, ..self }
    }

    /// The same, told in another form.
    pub(super) fn in_form(self, form: ErrorForm) -> Self {
        Self { form, ..self }
    }
}
