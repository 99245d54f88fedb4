//! A loaded model: read from ONNX, optimized once, then run from many threads at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceModel, InferenceModelExt, IntoRunnable, TDim, TValue,
    TractError, TractResult, TypedFact, TypedModel, TypedRunnableModel,
};
use tract_onnx::tract_hir::internal::{DimFact, Factoid, ShapeFactoid};

use crate::data;
use crate::datatype::Datatype;
use crate::protocol::{InferRequest, InferResponse, ModelMetadata, OutputTensor};
use crate::rejection::Rejection;
use crate::signature::{Dimension, Signature, TensorSpec};

/// The version of every model: a file names none of its own, and replacing it means a new revision
/// of the whole server.
pub const VERSION: &str = "1";

/// A model ready to infer.
#[derive(Debug)]
pub struct Model {
    name: String,
    signature: Signature,
    plan: Arc<TypedRunnableModel>,
    load_times: LoadTimes,
}

/// Where the time of a load went.
#[derive(Clone, Copy, Debug)]
pub struct LoadTimes {
    /// Reading and parsing the file.
    pub parse: Duration,
    /// Inferring shapes and rewriting the graph for this machine.
    pub optimize: Duration,
}

/// Why a file cannot be served.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Not readable, or not ONNX.
    #[error("could not read `{}` as an ONNX model: {source:#}", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// What the runtime says.
        source: TractError,
    },
    /// The runtime lacks an operator, or cannot tell the shapes.
    #[error("could not prepare model `{model}`: {source:#}")]
    Prepare {
        /// The model.
        model: String,
        /// What the runtime says.
        source: TractError,
    },
    /// The number of dimensions of an input is open.
    #[error("input `{input}` of model `{model}` has no declared shape; export the model with one")]
    NoShape {
        /// The model.
        model: String,
        /// The input.
        input: String,
    },
    /// An input or output of a type that cannot be sent.
    #[error("tensor `{tensor}` of model `{model}` is of type {found}, which cannot be served")]
    NoDatatype {
        /// The model.
        model: String,
        /// The input or output.
        tensor: String,
        /// The runtime's type.
        found: String,
    },
}

// === impl Model ===

impl Model {
    /// Loads and optimizes the model in `file` to serve it as `name`. Blocks for as long as that
    /// takes, which grows with the number of operators rather than with the size of the weights.
    pub fn load(name: &str, file: &Path) -> Result<Self, LoadError> {
        let started = Instant::now();
        let mut graph = tract_onnx::onnx()
            .model_for_path(file)
            .map_err(|source| LoadError::Parse { file: file.to_owned(), source })?;
        let parse = started.elapsed();
        let parsed = Instant::now();

        let prepare = |source| LoadError::Prepare { model: name.to_owned(), source };
        if let Some(input) = name_open_dimensions(&mut graph).map_err(prepare)? {
            return Err(LoadError::NoShape { model: name.to_owned(), input });
        }
        // Optimizing renames nodes, so the names of the file are taken before.
        let names = TensorNames::of(&graph).map_err(prepare)?;
        let optimized = graph.into_optimized().map_err(prepare)?;
        let signature = names.signature(name, &optimized)?;
        let plan = optimized.into_runnable().map_err(prepare)?;
        let load_times = LoadTimes { parse, optimize: parsed.elapsed() };
        Ok(Self { name: name.to_owned(), signature, plan, load_times })
    }

    /// The name it is served as.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the time of its load went.
    pub fn load_times(&self) -> LoadTimes {
        self.load_times
    }

    /// The model as `GET /v2/models/NAME` describes it.
    pub fn metadata(&self) -> ModelMetadata {
        ModelMetadata {
            name: self.name.clone(),
            versions: [VERSION.to_owned()],
            platform: "onnx_tract",
            inputs: self.signature.inputs.iter().map(TensorSpec::metadata).collect(),
            outputs: self.signature.outputs.iter().map(TensorSpec::metadata).collect(),
        }
    }

    /// Answers the JSON of a request with the JSON of a response. Computes on the calling thread,
    /// so async code calls it through `spawn_blocking`.
    pub fn infer_json(&self, body: &[u8]) -> Result<Vec<u8>, Rejection> {
        let request = serde_json::from_slice(body).map_err(Rejection::Malformed)?;
        let response = self.infer(request)?;
        serde_json::to_vec(&response).map_err(|error| Rejection::Failed(error.into()))
    }

    /// Answers one request; computes on the calling thread.
    pub fn infer(&self, request: InferRequest) -> Result<InferResponse<'_>, Rejection> {
        let InferRequest { id, inputs, outputs } = request;
        let wanted: Vec<String> = outputs.into_iter().map(|output| output.name).collect();
        let selected = self.signature.select(&wanted)?;
        let bound = self.signature.bind(&inputs)?;
        // The parsed values are several times as large as the tensors made of them.
        drop(inputs);
        let results = self.plan.run(bound).map_err(Rejection::Failed)?;
        let outputs = selected
            .into_iter()
            .map(|position| output(&self.signature.outputs[position], results.get(position)))
            .collect::<Result<_, _>>()?;
        Ok(InferResponse { model_name: &self.name, model_version: VERSION, id, outputs })
    }
}

/// One result as the protocol carries it.
fn output<'a>(
    spec: &'a TensorSpec,
    result: Option<&TValue>,
) -> Result<OutputTensor<'a>, Rejection> {
    let failed =
        |what: &str| Rejection::Failed(TractError::msg(format!("output `{}` {what}", spec.name)));
    let tensor = result.ok_or_else(|| failed("was not computed"))?;
    let tensor: TValue = match tensor.datum_type() {
        DatumType::TDim => tensor.cast_to::<i64>().map_err(Rejection::Failed)?.into_owned().into(),
        _ => tensor.clone(),
    };
    if tensor.as_plain_ram().is_none() {
        return Err(failed("is not in plain memory"));
    }
    if let Some(index) = data::first_not_finite(&tensor) {
        return Err(Rejection::NotFinite { output: spec.name.clone(), index });
    }
    Ok(OutputTensor {
        name: &spec.name,
        datatype: spec.datatype.to_string(),
        shape: tensor.shape().to_vec(),
        data: tensor,
    })
}

/// Gives a name to each dimension that the file leaves open without one, so that the graph can be
/// optimized for every size at once. Returns the first input whose very rank is open.
fn name_open_dimensions(graph: &mut InferenceModel) -> TractResult<Option<String>> {
    for position in 0..graph.input_outlets()?.len() {
        let mut fact = graph.input_fact(position)?.clone();
        if fact.shape.is_open() {
            let node = graph.input_outlets()?[position].node;
            return Ok(Some(graph.node(node).name.clone()));
        }
        let dimensions = fact.shape.dims().map(|dimension| {
            let expression = dimension
                .concretize()
                .unwrap_or_else(|| TDim::from(graph.new_sym_with_prefix("open")));
            DimFact::from(expression)
        });
        fact.shape = ShapeFactoid::closed(dimensions.collect());
        graph.set_input_fact(position, fact)?;
    }
    Ok(None)
}

/// The names that the file gives to inputs and outputs, in its order.
struct TensorNames {
    inputs: Vec<String>,
    outputs: Vec<String>,
}

// === impl TensorNames ===

impl TensorNames {
    fn of(graph: &InferenceModel) -> TractResult<Self> {
        let inputs = graph.input_outlets()?.iter();
        let outputs = graph.output_outlets()?.iter();
        Ok(Self {
            inputs: inputs.map(|outlet| graph.node(outlet.node).name.clone()).collect(),
            outputs: outputs
                .map(|outlet| {
                    let label = graph.outlet_label(*outlet);
                    label.unwrap_or(&graph.node(outlet.node).name).to_owned()
                })
                .collect(),
        })
    }

    fn signature(self, model: &str, optimized: &TypedModel) -> Result<Signature, LoadError> {
        let prepare = |source| LoadError::Prepare { model: model.to_owned(), source };
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (position, name) in self.inputs.into_iter().enumerate() {
            inputs.push(spec(model, name, optimized.input_fact(position).map_err(prepare)?)?);
        }
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for (position, name) in self.outputs.into_iter().enumerate() {
            outputs.push(spec(model, name, optimized.output_fact(position).map_err(prepare)?)?);
        }
        Ok(Signature { inputs, outputs })
    }
}

fn spec(model: &str, name: String, fact: &TypedFact) -> Result<TensorSpec, LoadError> {
    let Some(datatype) = Datatype::of(fact.datum_type) else {
        return Err(LoadError::NoDatatype {
            model: model.to_owned(),
            tensor: name,
            found: format!("{:?}", fact.datum_type),
        });
    };
    Ok(TensorSpec { name, datatype, shape: fact.shape.iter().map(Dimension::of).collect() })
}
