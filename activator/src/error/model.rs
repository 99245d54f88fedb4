//! What can be wrong with a request to the models host.

use std::num::NonZeroU32;

use http::StatusCode;

use crate::models::BODY_BYTES_MAX;
use crate::models::call::PATHS;

/// Why the models host refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The request shows no API key.
    #[error("no API key: send it as \"Authorization: Bearer KEY\"")]
    KeyMissing,
    /// The key is none of those that the Secret has.
    #[error("the API key is not known here")]
    KeyUnknown,
    /// Keys are asked for, and there is no Secret that has them.
    #[error("the API keys cannot be checked now")]
    KeysUnread,
    /// The key's requests are used up.
    #[error("the API key has made its {most} requests a minute: try again in {seconds} s")]
    RequestsSpent {
        /// The limit.
        most: NonZeroU32,
        /// How long until there is another.
        seconds: u64,
    },
    /// The key's tokens are used up.
    #[error("the API key has used its {most} tokens a minute: try again in {seconds} s")]
    TokensSpent {
        /// The limit.
        most: NonZeroU32,
        /// How long until there are some.
        seconds: u64,
    },
    /// There is no such path.
    #[error("unknown path: this host has GET /v1/models and POST {paths}", paths = *PATHS)]
    PathUnknown,
    /// The path has another method.
    #[error("method not allowed: use {0}")]
    MethodRefused(&'static str),
    /// The body is larger than may be held.
    #[error("the body is larger than {largest} MiB", largest = BODY_BYTES_MAX >> 20)]
    BodyLarge,
    /// The body is compressed, so that the model's name cannot be read.
    #[error("the body is compressed: send it without content-encoding")]
    BodyEncoded,
    /// The body is not what its path takes.
    #[error("the body must be {0}")]
    BodyUnfit(&'static str),
    /// The body is not JSON; where, and what is wrong there.
    #[error("the body is not valid JSON: {0}")]
    BodyBroken(String),
    /// The body names no model.
    #[error("the body names no model: set \"model\" to a name of GET /v1/models")]
    ModelMissing,
    /// The body names two.
    #[error("the body names \"model\" twice")]
    ModelTwice,
    /// The name is no text, or is too long for one.
    #[error("\"model\" must be a string, a name of GET /v1/models")]
    ModelUnfit,
    /// No Route that this door knows declares the model.
    #[error("the model {name:?} does not exist; {known}")]
    ModelUnknown {
        /// What the client has asked for, clipped.
        name: String,
        /// The names there are, in words.
        known: String,
    },
    /// The model is declared, and no revision serves it.
    #[error("the model {name:?} is not served yet: {why}")]
    ModelUnserved {
        /// Its name.
        name: String,
        /// What its Route's status says.
        why: String,
    },
}

impl ModelError {
    /// The status of the response.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyUnknown => StatusCode::UNAUTHORIZED,
            Self::RequestsSpent { .. } | Self::TokensSpent { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::PathUnknown | Self::ModelUnknown { .. } => StatusCode::NOT_FOUND,
            Self::MethodRefused(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyEncoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyUnfit(_)
            | Self::BodyBroken(_)
            | Self::ModelMissing
            | Self::ModelTwice
            | Self::ModelUnfit => StatusCode::BAD_REQUEST,
            Self::KeysUnread | Self::ModelUnserved { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Seconds after which the same request may fare better, where that can be said.
    pub(crate) const fn retry_after(&self) -> Option<u64> {
        match self {
            // As for a revision that cannot start.
            Self::ModelUnserved { .. } => Some(10),
            // A Secret that was forgotten is there soon.
            Self::KeysUnread => Some(5),
            Self::RequestsSpent { seconds, .. } | Self::TokensSpent { seconds, .. } => {
                Some(*seconds)
            }
            _ => None,
        }
    }

    /// The word for it in the response's header, in metrics and in the body's `code`.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::KeyMissing => "key-missing",
            Self::KeyUnknown => "key-unknown",
            Self::KeysUnread => "keys-unread",
            Self::RequestsSpent { .. } => "requests-spent",
            Self::TokensSpent { .. } => "tokens-spent",
            Self::PathUnknown => "path-unknown",
            Self::MethodRefused(_) => "method-unfit",
            Self::BodyLarge => "body-large",
            Self::BodyEncoded => "body-encoded",
            Self::BodyUnfit(_) => "body-unfit",
            Self::BodyBroken(_) => "body-broken",
            Self::ModelMissing => "model-missing",
            Self::ModelTwice => "model-twice",
            Self::ModelUnfit => "model-unfit",
            Self::ModelUnknown { .. } => "model-unknown",
            Self::ModelUnserved { .. } => "model-unserved",
        }
    }
}
