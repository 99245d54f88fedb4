//! The JSON of the Open Inference Protocol v2.
//!
//! Unknown fields and all `parameters` are ignored: the protocol lets clients send extensions that
//! a server need not know.

use serde::{Deserialize, Serialize};
use tract_onnx::prelude::{TValue, Tensor};

use crate::data::{self, Data};

/// `POST /v2/models/NAME/infer`.
#[derive(Debug, Deserialize)]
pub struct InferRequest {
    /// Echoed in the response.
    #[serde(default)]
    pub id: Option<String>,
    /// One for each input of the model, in any order.
    pub inputs: Vec<InputTensor>,
    /// The outputs wanted; all when empty.
    #[serde(default)]
    pub outputs: Vec<RequestedOutput>,
}

/// One input with its values.
#[derive(Debug, Deserialize)]
pub struct InputTensor {
    /// The name of the model's input.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Name of the datatype, such as `FP32`.
    pub datatype: String,
    /// The values in row-major order.
    pub data: Data,
}

/// An output that the caller wants.
#[derive(Debug, Deserialize)]
pub struct RequestedOutput {
    /// The name of the model's output.
    pub name: String,
}

/// The answer to an inference.
#[derive(Debug, Serialize)]
pub struct InferResponse<'a> {
    /// The model that was asked.
    pub model_name: &'a str,
    /// Its version.
    pub model_version: &'a str,
    /// As in the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In the order they were asked for.
    pub outputs: Vec<OutputTensor<'a>>,
}

/// One output with its values.
#[derive(Debug, Serialize)]
pub struct OutputTensor<'a> {
    /// The name of the model's output.
    pub name: &'a str,
    /// Name of the datatype.
    pub datatype: String,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// The values in row-major order, flat.
    #[serde(serialize_with = "values")]
    pub data: TValue,
}

/// `GET /v2`.
#[derive(Debug, Serialize)]
pub struct ServerMetadata {
    /// The server's name.
    pub name: &'static str,
    /// The server's version.
    pub version: &'static str,
    /// Extensions of the protocol: none.
    pub extensions: [&'static str; 0],
}

/// `GET /v2/models/NAME`.
#[derive(Debug, Serialize)]
pub struct ModelMetadata {
    /// The model's name.
    pub name: String,
    /// Its only version.
    pub versions: [String; 1],
    /// Format and framework.
    pub platform: &'static str,
    /// The inputs that it takes.
    pub inputs: Vec<TensorMetadata>,
    /// The outputs that it gives.
    pub outputs: Vec<TensorMetadata>,
}

/// An input or output in a model's metadata.
#[derive(Debug, Serialize)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// Name of its datatype.
    pub datatype: String,
    /// Its sizes; -1 is any.
    pub shape: Vec<i64>,
}

fn values<S: serde::Serializer>(tensor: &Tensor, serializer: S) -> Result<S::Ok, S::Error> {
    data::serialize(tensor, serializer)
}
