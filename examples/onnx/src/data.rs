//! The `data` of a tensor: read from JSON, flat or nested, and written back flat.
//!
//! A tensor's `data` may come before its `datatype` in the JSON text, so values are first read as
//! [`Scalar`]s and given their type afterwards. Nothing is rounded in silence: a value that its
//! datatype cannot hold is refused by its position.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use tract_onnx::prelude::{Datum, DatumType, Tensor, f16};

use crate::datatype::Datatype;

/// Deepest nesting of `data`. Models of the field have at most five or six dimensions.
const RANK_MAX: usize = 8;

/// One JSON value inside `data`. Texts are not kept: no supported datatype takes one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction that is below zero or fits 63 bits.
    Integer(i64),
    /// A number without fraction that needs the 64th bit.
    Large(u64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// A string.
    Text,
    /// `null`, which some clients write for NaN.
    Null,
}

/// The values of one tensor in row-major order, and how they were nested.
#[derive(Debug, Default)]
pub struct Data {
    values: Vec<Scalar>,
    /// Length of the arrays at each depth; one entry means flat.
    lengths: Vec<usize>,
    /// How many arrays enclose each value; `None` before the first value.
    leaf_depth: Option<usize>,
}

/// Why values cannot become a tensor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// A value that the datatype cannot hold.
    #[error("value {index} is {value}, which {datatype} cannot hold{}", value.hint())]
    Value {
        /// Its position, in row-major order.
        index: usize,
        /// The value.
        value: Scalar,
        /// The datatype that it should have.
        datatype: Datatype,
    },
    /// More or fewer values than the shape has places.
    #[error("the values do not fill the shape")]
    Shape,
}

/// An element type of the runtime that can be made from a JSON value.
trait Element: Datum + Copy {
    fn from_scalar(value: Scalar) -> Option<Self>;
}

// === impl Scalar ===

impl Scalar {
    /// The value as a whole number; `3.0` is one, `3.5` is not.
    fn whole(self) -> Option<i128> {
        match self {
            Self::Integer(value) => Some(value.into()),
            Self::Large(value) => Some(value.into()),
            #[allow(
                clippy::cast_possible_truncation,
                reason = "no fraction, and a float beyond i128 saturates beyond every datatype"
            )]
            Self::Float(value) if value.fract() == 0.0 => Some(value as i128),
            _ => None,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a float takes the nearest value by definition")]
    fn real(self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(value as f64),
            Self::Large(value) => Some(value as f64),
            Self::Float(value) => Some(value),
            Self::Bool(_) | Self::Text | Self::Null => None,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Null => "; NaN and infinities have no form in JSON",
            _ => "",
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Large(value) => value.fmt(f),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text => f.write_str("a string"),
            Self::Null => f.write_str("null"),
        }
    }
}

// === impl Element ===

impl Element for bool {
    fn from_scalar(value: Scalar) -> Option<Self> {
        match value {
            Scalar::Bool(value) => Some(value),
            Scalar::Integer(value @ (0 | 1)) => Some(value == 1),
            _ => None,
        }
    }
}

macro_rules! whole_numbers {
    ($($element:ty),*) => {$(
        impl Element for $element {
            fn from_scalar(value: Scalar) -> Option<Self> {
                value.whole().and_then(|whole| whole.try_into().ok())
            }
        }
    )*};
}
whole_numbers!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Element for f16 {
    fn from_scalar(value: Scalar) -> Option<Self> {
        value.real().map(Self::from_f64).filter(|half| half.is_finite())
    }
}

impl Element for f32 {
    #[allow(clippy::cast_possible_truncation, reason = "overflow becomes infinite and is refused")]
    fn from_scalar(value: Scalar) -> Option<Self> {
        value.real().map(|real| real as Self).filter(|single| single.is_finite())
    }
}

impl Element for f64 {
    fn from_scalar(value: Scalar) -> Option<Self> {
        value.real()
    }
}

// === impl Data ===

impl Data {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether the nesting agrees with `shape`; flat data agrees with any.
    pub fn nests_as(&self, shape: &[usize]) -> bool {
        self.lengths.len() == 1 || self.lengths == shape
    }

    /// Length of the arrays at each depth.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The values as a tensor of the runtime.
    pub fn tensor(&self, datatype: Datatype, shape: &[usize]) -> Result<Tensor, Misfit> {
        match datatype {
            Datatype::Bool => self.elements::<bool>(datatype, shape),
            Datatype::Uint8 => self.elements::<u8>(datatype, shape),
            Datatype::Uint16 => self.elements::<u16>(datatype, shape),
            Datatype::Uint32 => self.elements::<u32>(datatype, shape),
            Datatype::Uint64 => self.elements::<u64>(datatype, shape),
            Datatype::Int8 => self.elements::<i8>(datatype, shape),
            Datatype::Int16 => self.elements::<i16>(datatype, shape),
            Datatype::Int32 => self.elements::<i32>(datatype, shape),
            Datatype::Int64 => self.elements::<i64>(datatype, shape),
            Datatype::Fp16 => self.elements::<f16>(datatype, shape),
            Datatype::Fp32 => self.elements::<f32>(datatype, shape),
            Datatype::Fp64 => self.elements::<f64>(datatype, shape),
        }
    }

    fn elements<T: Element>(&self, datatype: Datatype, shape: &[usize]) -> Result<Tensor, Misfit> {
        let elements = self
            .values
            .iter()
            .enumerate()
            .map(|(index, &value)| {
                let misfit = Misfit::Value { index, value, datatype };
                T::from_scalar(value).ok_or(misfit)
            })
            .collect::<Result<Vec<T>, _>>()?;
        Tensor::from_shape(shape, &elements).map_err(|_| Misfit::Shape)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Self::default();
        Level { data: &mut data, depth: 0 }.deserialize(deserializer)?;
        Ok(data)
    }
}

/// Reads a value or an array that stands inside `depth` arrays.
struct Level<'a> {
    data: &'a mut Data,
    depth: usize,
}

impl Level<'_> {
    fn value<E: Error>(self, value: Scalar) -> Result<(), E> {
        if self.depth == 0 {
            return Err(E::custom("data must be an array"));
        }
        if *self.data.leaf_depth.get_or_insert(self.depth) != self.depth {
            return Err(E::custom("data has values and arrays side by side"));
        }
        self.data.values.push(value);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers or booleans, flat or nested")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.value(Scalar::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.value(Scalar::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.value(i64::try_from(value).map_or(Scalar::Large(value), Scalar::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.value(Scalar::Float(value))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.value(Scalar::Text)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.value(Scalar::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Level { data, depth } = self;
        if depth == RANK_MAX {
            return Err(A::Error::custom(format_args!("data is nested deeper than {RANK_MAX}")));
        }
        if data.leaf_depth.is_some_and(|leaf| depth >= leaf) {
            return Err(A::Error::custom("data has values and arrays side by side"));
        }
        let first = data.lengths.len() == depth;
        if first {
            data.lengths.push(0);
        }
        let mut length = 0;
        while sequence.next_element_seed(Level { data: &mut *data, depth: depth + 1 })?.is_some() {
            length += 1;
        }
        if first {
            data.lengths[depth] = length;
        } else if data.lengths[depth] != length {
            return Err(A::Error::custom("data has nested arrays of different lengths"));
        }
        Ok(())
    }
}

// === output ===

/// Position of the first element that JSON cannot carry: NaN or an infinity.
pub fn first_not_finite(tensor: &Tensor) -> Option<usize> {
    match tensor.datum_type() {
        DatumType::F16 => elements::<f16>(tensor).iter().position(|value| !value.is_finite()),
        DatumType::F32 => elements::<f32>(tensor).iter().position(|value| !value.is_finite()),
        DatumType::F64 => elements::<f64>(tensor).iter().position(|value| !value.is_finite()),
        _ => None,
    }
}

/// Writes the elements flat, in row-major order.
pub fn serialize<S: Serializer>(tensor: &Tensor, serializer: S) -> Result<S::Ok, S::Error> {
    match tensor.datum_type() {
        DatumType::Bool => elements::<bool>(tensor).serialize(serializer),
        DatumType::U8 => elements::<u8>(tensor).serialize(serializer),
        DatumType::U16 => elements::<u16>(tensor).serialize(serializer),
        DatumType::U32 => elements::<u32>(tensor).serialize(serializer),
        DatumType::U64 => elements::<u64>(tensor).serialize(serializer),
        DatumType::I8 => elements::<i8>(tensor).serialize(serializer),
        DatumType::I16 => elements::<i16>(tensor).serialize(serializer),
        DatumType::I32 => elements::<i32>(tensor).serialize(serializer),
        DatumType::I64 => elements::<i64>(tensor).serialize(serializer),
        DatumType::F16 => {
            let halves = elements::<f16>(tensor);
            let mut sequence = serializer.serialize_seq(Some(halves.len()))?;
            for half in halves {
                sequence.serialize_element(&half.to_f32())?;
            }
            sequence.end()
        }
        DatumType::F32 => elements::<f32>(tensor).serialize(serializer),
        DatumType::F64 => elements::<f64>(tensor).serialize(serializer),
        other => {
            Err(serde::ser::Error::custom(format_args!("{other:?} has no form in the protocol")))
        }
    }
}

/// The elements of a tensor whose type was just matched. Results outside plain memory were refused
/// in [`crate::model::Model::infer`], so none is lost here.
fn elements<T: Datum>(tensor: &Tensor) -> &[T] {
    tensor.as_plain_ram().and_then(|view| view.as_slice::<T>().ok()).unwrap_or(&[])
}

#[cfg(test)]
mod tests;
