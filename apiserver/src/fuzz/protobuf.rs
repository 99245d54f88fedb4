//! Protobuf bodies: any bytes, and what was read from them written once more.

use serde_json::Value;

use crate::measure;
use crate::protobuf::{ProtobufError, fuzz, read};

/// Most bytes of JSON that one byte of protobuf can become: names of fields are longer there.
const GROWTH_MAX: usize = 40;
/// Bytes of JSON that the smallest body may become.
const LEAST: usize = 200;
/// Deepest value that any table describes, as JSON.
const LEVELS_MAX: usize = 4;

/// An input is a body; bytes without Kubernetes' magic bytes stand behind them.
///
/// # Panics
/// If the input shows a fault.
pub fn protobuf(input: &[u8]) {
    let body =
        if input.starts_with(b"k8s\0") { input.to_vec() } else { [b"k8s\0", input].concat() };
    let object = match read(&body) {
        Ok(object) => object,
        Err(ProtobufError::Kind(kind)) => {
            assert!(kind.len() <= body.len());
            return;
        }
        Err(ProtobufError::Malformed | ProtobufError::Field(_)) => return,
    };
    assert!(measure::levels(&object) <= LEVELS_MAX, "{object}");
    assert!(measure::bytes(&object) <= LEAST + GROWTH_MAX * body.len(), "{object}");
    assert!(object["kind"].is_string() && is_plain(&object), "{object}");
    assert_eq!(read(&fuzz::write(&object)), Ok(object));
}

/// Whether nothing stands in the object that means the same as its absence.
fn is_plain(object: &Value) -> bool {
    object.as_object().is_some_and(|fields| {
        fields.iter().all(|(name, value)| name == "apiVersion" || !value.is_null())
    })
}
