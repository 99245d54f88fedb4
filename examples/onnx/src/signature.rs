//! The inputs and outputs of a model: names, datatypes and shapes, and the checks against them.

use std::collections::BTreeMap;

use tract_onnx::prelude::{TDim, TValue, TVec};

use crate::datatype::Datatype;
use crate::protocol::{InputTensor, TensorMetadata};
use crate::rejection::Rejection;

/// Largest size of the first dimension where a model leaves it open. A bigger batch gains no
/// throughput on one machine, but its intermediate tensors could take all memory.
pub const BATCH_MAX: usize = 1024;

/// One dimension of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Always this size.
    Fixed(usize),
    /// Any size, the same wherever the name occurs in one request.
    Named(String),
    /// Computed by the model from other sizes.
    Computed,
}

/// Name, datatype and shape of an input or output.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// The name that requests and responses use.
    pub name: String,
    /// The type of its elements.
    pub datatype: Datatype,
    /// Its dimensions, outermost first.
    pub shape: Vec<Dimension>,
}

/// All inputs and outputs of a model, in the model's order.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Every one must be sent.
    pub inputs: Vec<TensorSpec>,
    /// All are computed; a request may ask for some only.
    pub outputs: Vec<TensorSpec>,
}

// === impl Dimension ===

impl Dimension {
    /// The dimension that the runtime's expression stands for.
    pub fn of(expression: &TDim) -> Self {
        if let TDim::Sym(symbol) = expression {
            return Self::Named(symbol.to_string());
        }
        match expression.as_i64().map(usize::try_from) {
            Some(Ok(size)) => Self::Fixed(size),
            _ => Self::Computed,
        }
    }

    /// The size as metadata shows it: -1 stands for any.
    fn metadata(&self) -> i64 {
        match self {
            Self::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
            Self::Named(_) | Self::Computed => -1,
        }
    }
}

// === impl TensorSpec ===

impl TensorSpec {
    /// The tensor as `GET /v2/models/NAME` describes it.
    pub fn metadata(&self) -> TensorMetadata {
        TensorMetadata {
            name: self.name.clone(),
            datatype: self.datatype.to_string(),
            shape: self.shape.iter().map(Dimension::metadata).collect(),
        }
    }

    fn check_datatype(&self, sent: &str) -> Result<(), Rejection> {
        match Datatype::named(sent) {
            Some(datatype) if datatype == self.datatype => Ok(()),
            Some(_) => Err(Rejection::WrongDatatype {
                input: self.name.clone(),
                sent: sent.to_owned(),
                expected: self.datatype,
            }),
            None => Err(Rejection::UnsupportedDatatype {
                input: self.name.clone(),
                sent: sent.to_owned(),
                expected: self.datatype,
            }),
        }
    }

    /// Checks the sizes, and binds the named dimensions for the inputs that follow.
    fn check_shape<'a>(
        &'a self,
        sent: &[usize],
        sizes: &mut BTreeMap<&'a str, usize>,
    ) -> Result<(), Rejection> {
        let wrong = || Rejection::WrongShape {
            input: self.name.clone(),
            sent: sent.to_vec(),
            expected: self.metadata().shape,
        };
        if sent.len() != self.shape.len() || sent.contains(&0) {
            return Err(wrong());
        }
        for (position, (&size, dimension)) in sent.iter().zip(&self.shape).enumerate() {
            match dimension {
                Dimension::Fixed(expected) if size != *expected => return Err(wrong()),
                Dimension::Named(_) if position == 0 && size > BATCH_MAX => {
                    return Err(Rejection::BatchTooLarge { input: self.name.clone(), sent: size });
                }
                Dimension::Named(name) => {
                    let bound = *sizes.entry(name).or_insert(size);
                    if bound != size {
                        return Err(Rejection::SizesDisagree {
                            dimension: name.clone(),
                            input: self.name.clone(),
                            sent: size,
                            before: bound,
                        });
                    }
                }
                Dimension::Fixed(_) | Dimension::Computed => {}
            }
        }
        Ok(())
    }

    fn check_data(&self, tensor: &InputTensor) -> Result<(), Rejection> {
        let InputTensor { name: _, shape, datatype: _, data } = tensor;
        let expected = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
        if expected != Some(data.len()) {
            return Err(Rejection::WrongLength {
                input: self.name.clone(),
                sent: data.len(),
                shape: shape.clone(),
            });
        }
        if !data.nests_as(shape) {
            return Err(Rejection::WrongNesting {
                input: self.name.clone(),
                sent: data.lengths().to_vec(),
                shape: shape.clone(),
            });
        }
        Ok(())
    }
}

// === impl Signature ===

impl Signature {
    /// The sent tensors as the runtime takes them: checked, converted, in the model's order.
    pub fn bind(&self, sent: &[InputTensor]) -> Result<TVec<TValue>, Rejection> {
        self.check_names(sent)?;
        let mut sizes = BTreeMap::new();
        self.inputs
            .iter()
            .map(|spec| {
                let input = &spec.name;
                let tensor = sent
                    .iter()
                    .find(|tensor| tensor.name == *input)
                    .ok_or_else(|| Rejection::MissingInput { input: input.clone() })?;
                spec.check_datatype(&tensor.datatype)?;
                spec.check_shape(&tensor.shape, &mut sizes)?;
                spec.check_data(tensor)?;
                let made = tensor.data.tensor(spec.datatype, &tensor.shape);
                made.map(TValue::from)
                    .map_err(|source| Rejection::BadValue { input: input.clone(), source })
            })
            .collect()
    }

    fn check_names(&self, sent: &[InputTensor]) -> Result<(), Rejection> {
        for (position, tensor) in sent.iter().enumerate() {
            if !self.inputs.iter().any(|spec| spec.name == tensor.name) {
                return Err(Rejection::UnknownInput {
                    input: tensor.name.clone(),
                    known: names(&self.inputs),
                });
            }
            // The names before this one are known and distinct, so they are no more than the
            // signature has.
            if sent[..position].iter().any(|earlier| earlier.name == tensor.name) {
                return Err(Rejection::DuplicateInput { input: tensor.name.clone() });
            }
        }
        Ok(())
    }

    /// Positions of the outputs to answer with; all of them when none is asked for.
    pub fn select(&self, wanted: &[String]) -> Result<Vec<usize>, Rejection> {
        if wanted.is_empty() {
            return Ok((0..self.outputs.len()).collect());
        }
        let mut selected = Vec::with_capacity(self.outputs.len());
        for output in wanted {
            let position = self.outputs.iter().position(|spec| spec.name == *output);
            match position {
                Some(position) if selected.contains(&position) => {
                    return Err(Rejection::DuplicateOutput { output: output.clone() });
                }
                Some(position) => selected.push(position),
                None => {
                    return Err(Rejection::UnknownOutput {
                        output: output.clone(),
                        known: names(&self.outputs),
                    });
                }
            }
        }
        Ok(selected)
    }
}

/// The names as an error lists them.
fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ")
}
