//! The datatypes that protocol and runtime have in common.
//!
//! BYTES and BF16 are in the protocol too, but the runtime computes with neither. They are refused
//! by name: a model that needs them at load, a request that sends them when it comes.

use std::fmt;

use tract_onnx::prelude::DatumType;

/// A datatype of the protocol that this server can take and give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// `BOOL`.
    Bool,
    /// `UINT8`.
    Uint8,
    /// `UINT16`.
    Uint16,
    /// `UINT32`.
    Uint32,
    /// `UINT64`.
    Uint64,
    /// `INT8`.
    Int8,
    /// `INT16`.
    Int16,
    /// `INT32`.
    Int32,
    /// `INT64`.
    Int64,
    /// `FP16`.
    Fp16,
    /// `FP32`.
    Fp32,
    /// `FP64`.
    Fp64,
}

/// Each datatype with its name in the protocol.
const NAMES: [(Datatype, &str); 12] = [
    (Datatype::Bool, "BOOL"),
    (Datatype::Uint8, "UINT8"),
    (Datatype::Uint16, "UINT16"),
    (Datatype::Uint32, "UINT32"),
    (Datatype::Uint64, "UINT64"),
    (Datatype::Int8, "INT8"),
    (Datatype::Int16, "INT16"),
    (Datatype::Int32, "INT32"),
    (Datatype::Int64, "INT64"),
    (Datatype::Fp16, "FP16"),
    (Datatype::Fp32, "FP32"),
    (Datatype::Fp64, "FP64"),
];

impl Datatype {
    /// The datatype of that name; `None` for a name that is unknown or not supported.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(datatype, _)| *datatype)
    }

    /// The protocol's datatype for the runtime's; `None` if the protocol has none.
    pub fn of(datum: DatumType) -> Option<Self> {
        Some(match datum {
            DatumType::Bool => Self::Bool,
            DatumType::U8 => Self::Uint8,
            DatumType::U16 => Self::Uint16,
            DatumType::U32 => Self::Uint32,
            DatumType::U64 => Self::Uint64,
            DatumType::I8 => Self::Int8,
            DatumType::I16 => Self::Int16,
            DatumType::I32 => Self::Int32,
            // The runtime keeps computed shapes symbolic; to a caller they are integers.
            DatumType::I64 | DatumType::TDim => Self::Int64,
            DatumType::F16 => Self::Fp16,
            DatumType::F32 => Self::Fp32,
            DatumType::F64 => Self::Fp64,
            _ => return None,
        })
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(datatype, _)| datatype == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datatype_is_found_by_the_name_it_shows() {
        for (datatype, name) in NAMES {
            assert_eq!(datatype.to_string(), name);
            assert_eq!(Datatype::named(name), Some(datatype));
        }
        assert_eq!(Datatype::named("BYTES"), None);
        assert_eq!(Datatype::named("fp32"), None);
    }

    #[test]
    fn strings_of_the_runtime_have_no_datatype() {
        assert_eq!(Datatype::of(DatumType::String), None);
        assert_eq!(Datatype::of(DatumType::F32), Some(Datatype::Fp32));
    }
}
