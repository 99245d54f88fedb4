//! Everything that can be wrong with a request, each with its status and one exact sentence.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use thiserror::Error;
use tract_onnx::prelude::TractError;

use crate::data::Misfit;
use crate::datatype::Datatype;
use crate::signature::BATCH_MAX;

/// Why a request was not answered as asked.
#[derive(Debug, Error)]
pub enum Rejection {
    /// No such path.
    #[error("there is no route `{path}`; the routes begin with /v2")]
    UnknownRoute {
        /// The path of the request.
        path: String,
    },
    /// The path exists, but not for this method.
    #[error("`{path}` does not take {method}; infer takes POST, all other routes take GET")]
    WrongMethod {
        /// The method of the request.
        method: String,
        /// The path of the request.
        path: String,
    },
    /// No model of that name is loaded.
    #[error("there is no model `{model}`; the models here are {known}")]
    UnknownModel {
        /// The name in the path.
        model: String,
        /// All loaded models.
        known: String,
    },
    /// The model exists in another version only.
    #[error("model `{model}` has no version `{version}`; it has version {known}")]
    UnknownVersion {
        /// The name in the path.
        model: String,
        /// The version in the path.
        version: String,
        /// The only version there is.
        known: String,
    },
    /// Body beyond the limit.
    #[error("the body is larger than {limit_bytes} bytes; send fewer inputs or raise --max-body")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The client broke off.
    #[error("the body could not be read to its end")]
    BodyBroken,
    /// The client sends too slowly.
    #[error("the body did not arrive within {limit_s} seconds")]
    BodySlow {
        /// The limit.
        limit_s: u64,
    },
    /// Too many requests wait already.
    #[error("{limit} requests are being served or wait already; try again later")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// Not JSON, or not an inference request.
    #[error("the body is not an inference request: {0}")]
    Malformed(serde_json::Error),
    /// An input of the model is not in the request.
    #[error("input `{input}` is missing")]
    MissingInput {
        /// Its name.
        input: String,
    },
    /// The model has no such input.
    #[error("the model has no input `{input}`; its inputs are {known}")]
    UnknownInput {
        /// The name that was sent.
        input: String,
        /// All inputs of the model.
        known: String,
    },
    /// An input was sent twice.
    #[error("input `{input}` is there twice")]
    DuplicateInput {
        /// Its name.
        input: String,
    },
    /// A known datatype that is not the input's.
    #[error("input `{input}` takes {expected}, not {sent}")]
    WrongDatatype {
        /// The input.
        input: String,
        /// The datatype that was sent.
        sent: String,
        /// The datatype of the model.
        expected: Datatype,
    },
    /// A datatype that this server does not have.
    #[error("datatype `{sent}` is not supported by this server; input `{input}` takes {expected}")]
    UnsupportedDatatype {
        /// The input.
        input: String,
        /// The datatype that was sent.
        sent: String,
        /// The datatype of the model.
        expected: Datatype,
    },
    /// A shape that does not fit the input's.
    #[error("input `{input}` takes shape {expected:?} where -1 is any size from 1, not {sent:?}")]
    WrongShape {
        /// The input.
        input: String,
        /// The shape that was sent.
        sent: Vec<usize>,
        /// The shape of the model.
        expected: Vec<i64>,
    },
    /// More rows than allowed at once.
    #[error("input `{input}` has a batch of {sent}, and at most {BATCH_MAX} are taken at once")]
    BatchTooLarge {
        /// The input.
        input: String,
        /// The size of its first dimension.
        sent: usize,
    },
    /// Two inputs share a dimension, but not its size.
    #[error("dimension `{dimension}` is {sent} in input `{input}` but {before} before it")]
    SizesDisagree {
        /// The name of the dimension.
        dimension: String,
        /// The input where it differs.
        input: String,
        /// Its size there.
        sent: usize,
        /// Its size where it came first.
        before: usize,
    },
    /// Data and shape disagree in number.
    #[error("input `{input}` has {sent} values, which do not fill shape {shape:?}")]
    WrongLength {
        /// The input.
        input: String,
        /// Number of values.
        sent: usize,
        /// The shape that was sent with them.
        shape: Vec<usize>,
    },
    /// Nested data whose arrays do not follow the shape.
    #[error(
        "input `{input}` has data nested as {sent:?}, which is neither flat nor shape {shape:?}"
    )]
    WrongNesting {
        /// The input.
        input: String,
        /// Length of the arrays at each depth.
        sent: Vec<usize>,
        /// The shape that was sent with them.
        shape: Vec<usize>,
    },
    /// A value that the datatype cannot hold.
    #[error("input `{input}`: {source}")]
    BadValue {
        /// The input.
        input: String,
        /// Which value and why.
        source: Misfit,
    },
    /// The model has no such output.
    #[error("the model has no output `{output}`; its outputs are {known}")]
    UnknownOutput {
        /// The name that was asked for.
        output: String,
        /// All outputs of the model.
        known: String,
    },
    /// An output was asked for twice.
    #[error("output `{output}` is asked for twice")]
    DuplicateOutput {
        /// Its name.
        output: String,
    },
    /// The result has no form in JSON.
    #[error("output `{output}` has NaN or an infinity at value {index}, which JSON cannot carry")]
    NotFinite {
        /// The output.
        output: String,
        /// Position of the value, in row-major order.
        index: usize,
    },
    /// The runtime failed on inputs that fit the signature.
    #[error("the model failed on these inputs: {0:#}")]
    Failed(TractError),
    /// A bug in the runtime ended the computation.
    #[error("the model broke off on these inputs; the server's log has the reason")]
    Panicked,
}

#[derive(Serialize)]
struct ErrorBody {
    error: String,
}

// === impl Rejection ===

impl Rejection {
    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownRoute { .. } | Self::UnknownModel { .. } | Self::UnknownVersion { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodySlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFinite { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            // The protocol wants 4xx for errors of the request; these two are not the caller's
            // fault.
            Self::Failed(_) | Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        (self.status(), Json(ErrorBody { error: self.to_string() })).into_response()
    }
}
