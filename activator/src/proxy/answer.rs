//! The one function from an error to a response.
//!
//! Bodies are short, and nothing that a client sent comes back in them but the name of an unknown
//! model, clipped and quoted. The machine-readable
//! header [`ERROR_HEADER`] and the metric label are the same word, so that a client's log and an
//! operator's graph can be matched.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::body::ProxyBody;
use crate::error::{ModelError, RequestError};
use crate::models;
use crate::models::call::ErrorForm;

/// Names the kind of error in a response that Ebb made itself; removed from a model's responses.
pub(crate) const ERROR_HEADER: &str = "ebb-error";

impl RequestError {
    /// Seconds after which the same request may fare better, where that can be said.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::QueueFull | Self::Overloaded => Some(1),
            // CrashLoopBackOff starts at 10 s: sooner than that nothing can have changed.
            Self::CannotStart { .. } | Self::StartTimeout => Some(10),
            Self::Model(error) => error.retry_after(),
            _ => None,
        }
    }

    /// The response, in the form that the client reads. Where a start must come before anything
    /// changes and `start` is how long one usually takes, it is no use to try again sooner.
    pub(super) fn response(&self, form: ErrorForm, start: Option<Duration>) -> Response<ProxyBody> {
        let (text, media) = told(form, self.status(), self.label(), &self.to_string());
        let mut response = Response::new(ProxyBody::local(Bytes::from(text)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, media);
        headers.insert(ERROR_HEADER, HeaderValue::from_static(self.label()));
        if let Some(seconds) = self.retry_after() {
            let start = start.map_or(0, |start| start.as_secs());
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(start)));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(methods) = self.allowed() {
            headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        response
    }

    fn allowed(&self) -> Option<&'static str> {
        match self {
            Self::MethodRefused => Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            Self::Model(error) => match **error {
                ModelError::MethodRefused("GET") => Some("GET, HEAD"),
                ModelError::MethodRefused(method) => Some(method),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The text of an error and its media type.
pub(super) fn told(
    form: ErrorForm,
    status: StatusCode,
    label: &str,
    message: &str,
) -> (String, HeaderValue) {
    match form {
        ErrorForm::Plain => {
            (format!("{message}\n"), HeaderValue::from_static("text/plain; charset=utf-8"))
        }
        ErrorForm::OpenAi | ErrorForm::Anthropic => {
            let body = models::answer::error(form, status, label, message).to_string();
            (body, HeaderValue::from_static("application/json"))
        }
    }
}

#[cfg(test)]
mod tests {
    use ebb_api::report::RevisionKey;
    use http_body_util::BodyExt as _;

    use super::*;

    fn golden() -> [(RequestError, u16, &'static str, &'static str); 18] {
        let revision = RevisionKey::new("default", "x-00001");
        let reason = "ExitCode1: no model".into();
        let cannot_start = RequestError::CannotStart { revision, reason };
        let why = "revision default/x-00001 cannot start: ExitCode1: no model";
        let lost = "the model closed the connection without a response";
        let late = "no pod took the request within the revision's start timeout";
        let coding = "transfer coding not supported: send the body as chunked alone";
        let asleep = "the model sleeps, and this request does not wake it";
        let reserved = "this path is reserved for Ebb, which lets the model sleep and wakes it";
        let malformed = RequestError::Malformed("host");
        #[rustfmt::skip]
        let table = [
            (malformed, 400, "malformed", "bad request: host"),
            (RequestError::HostUnknown, 404, "host-unknown", "no route for this host"),
            (RequestError::MethodRefused, 405, "method-refused", "method not allowed"),
            (RequestError::ExpectationUnknown, 417, "expectation-unknown", "expectation failed"),
            (RequestError::RevisionUnknown, 404, "revision-unknown", "revision not found"),
            (RequestError::RevisionGone, 404, "revision-gone", "revision deleted"),
            (RequestError::Asleep, 503, "asleep", asleep),
            (RequestError::StandbyPath, 404, "standby-path", reserved),
            (RequestError::QueueFull, 503, "queue-full", "pending request queue full"),
            (RequestError::Overloaded, 503, "overloaded", "the gateway is at its limit"),
            (RequestError::BodySlow, 408, "body-slow", "request body too slow"),
            (RequestError::ClientGone, 499, "client-gone", "the client broke off its request"),
            (RequestError::CodingUnknown, 501, "coding-unknown", coding),
            (cannot_start, 503, "cannot-start", why),
            (RequestError::StartTimeout, 503, "start-timeout", late),
            (RequestError::Unreachable, 502, "unreachable", "no connection to the model"),
            (RequestError::Upstream, 502, "upstream", lost),
            (RequestError::Timeout, 504, "timeout", "activator request timeout"),
        ];
        table
    }

    #[tokio::test]
    async fn every_error_has_its_status_label_and_constant_body() {
        for (error, status, label, body) in golden() {
            let response = error.response(ErrorForm::Plain, None);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[ERROR_HEADER], label);
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(bytes, format!("{body}\n"));
        }
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let after = |error: RequestError, start| {
            let response = error.response(ErrorForm::Plain, start);
            response.headers()[header::RETRY_AFTER].to_str().unwrap().to_owned()
        };
        let start = Some(Duration::from_secs(7));
        assert_eq!(after(RequestError::QueueFull, None), "1");
        assert_eq!(after(RequestError::QueueFull, start), "7");
        assert_eq!(after(RequestError::StartTimeout, start), "10");
        assert_eq!(after(RequestError::Overloaded, None), "1");
    }
}
