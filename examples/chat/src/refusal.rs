//! Errors as the OpenAI API writes them: `{"error": {"message", "type", "param", "code"}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use thiserror::Error;

use crate::protocol::{BODY_BYTES_MAX, TOKENS_MAX};

/// Why a request was not answered as asked.
#[derive(Debug, Error)]
pub enum Refusal {
    /// No such path, or not for this method.
    #[error("There is no route {method} {path}.")]
    UnknownRoute {
        /// The method of the request.
        method: String,
        /// The path of the request.
        path: String,
    },
    /// Another model was asked for.
    #[error("The model `{model}` does not exist; this server has `{known}`.")]
    UnknownModel {
        /// The name asked for.
        model: String,
        /// The name there is.
        known: String,
    },
    /// Body beyond the limit.
    #[error("The body is larger than {BODY_BYTES_MAX} bytes.")]
    BodyTooLarge,
    /// The client broke off, or sent too slowly.
    #[error("The body did not arrive to its end in time.")]
    BodyBroken,
    /// Not JSON, or not a chat request.
    #[error("The body is not a chat request: {0}.")]
    Malformed(serde_json::Error),
    /// A conversation without anything to answer.
    #[error("`messages` is empty; send at least one.")]
    NoMessages,
    /// A number of tokens that is not offered.
    #[error("`{field}` is {sent}; it must be from 1 to {TOKENS_MAX}.")]
    Tokens {
        /// `max_tokens` or `max_completion_tokens`.
        field: &'static str,
        /// What was sent.
        sent: i64,
    },
    /// More than one answer at once.
    #[error("`n` is {sent}; only one answer at a time is simulated.")]
    Choices {
        /// What was sent.
        sent: i64,
    },
    /// `stream_options` without a stream.
    #[error("`stream_options` is only allowed when `stream` is true.")]
    StreamOptions,
    /// A pause beyond the limit.
    #[error("`ms` is {sent}; it must be at most {limit}.")]
    Sleep {
        /// What was sent.
        sent: u64,
        /// The limit.
        limit: u64,
    },
    /// The model sleeps.
    #[error("The model sleeps; POST /wake_up wakes it.")]
    Asleep,
    /// Too many requests are inside.
    #[error("{limit} requests are running or waiting already; try again later.")]
    Busy {
        /// The limit.
        limit: usize,
    },
}

// === impl Refusal ===

impl Refusal {
    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownRoute { .. } | Self::UnknownModel { .. } => StatusCode::NOT_FOUND,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Asleep => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    fn param(&self) -> Option<&'static str> {
        match self {
            Self::UnknownModel { .. } => Some("model"),
            Self::NoMessages => Some("messages"),
            Self::Tokens { field, .. } => Some(field),
            Self::Choices { .. } => Some("n"),
            Self::StreamOptions => Some("stream_options"),
            Self::Sleep { .. } => Some("ms"),
            _ => None,
        }
    }

    /// Clients branch on these two codes; other errors have none in the OpenAI API either.
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::UnknownModel { .. } => Some("model_not_found"),
            Self::Busy { .. } => Some("rate_limit_exceeded"),
            _ => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let kind = match self {
            Self::Busy { .. } => "rate_limit_error",
            Self::Asleep => "server_error",
            _ => "invalid_request_error",
        };
        let error = json!({
            "message": self.to_string(),
            "type": kind,
            "param": self.param(),
            "code": self.code(),
        });
        (self.status(), Json(json!({ "error": error }))).into_response()
    }
}
