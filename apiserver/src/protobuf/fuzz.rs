//! Writes what [`super::read`] has read, by the same tables.

use k8s_openapi::ByteString;
use serde_json::Value;

use super::{ENVELOPE_RAW, ENVELOPE_TYPE, Field, Kind, MAGIC, TYPE_META, table_of};

/// Kinds of values on the wire.
const VARINT: u32 = 0;
const LENGTH: u32 = 2;

/// The body of a request that sends `object`.
pub(crate) fn write(object: &Value) -> Vec<u8> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let mut body = MAGIC.to_vec();
    bytes(&mut body, ENVELOPE_TYPE, &message(object, TYPE_META));
    let table = table_of(kind).expect("a kind that was read has a table");
    bytes(&mut body, ENVELOPE_RAW, &message(object, table));
    body
}

fn message(object: &Value, table: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, name, kind) in table {
        match (kind, &object[*name]) {
            (_, Value::Null) => {}
            (Kind::Text, Value::String(text)) => bytes(&mut out, *number, text.as_bytes()),
            (Kind::Number, Value::Number(value)) => {
                let value = value.as_i64().expect("numbers are read as signed");
                varint(&mut out, *number, value.cast_unsigned());
            }
            (Kind::Flag, Value::Bool(value)) => varint(&mut out, *number, u64::from(*value)),
            (Kind::Texts, Value::Array(items)) => {
                for item in items {
                    bytes(&mut out, *number, item.as_str().unwrap_or_default().as_bytes());
                }
            }
            (Kind::TextMap, Value::Object(entries)) => {
                for (key, value) in entries {
                    entry(&mut out, *number, key, value.as_str().unwrap_or_default().as_bytes());
                }
            }
            (Kind::BytesMap, Value::Object(entries)) => {
                for (key, value) in entries {
                    let ByteString(value) =
                        serde_json::from_value(value.clone()).expect("bytes are base64");
                    entry(&mut out, *number, key, &value);
                }
            }
            (Kind::Message(table), value @ Value::Object(_)) => {
                let inner = message(value, table);
                // An empty message would be left out: a field of no value keeps it.
                let inner = if inner.is_empty() { empty(table) } else { inner };
                bytes(&mut out, *number, &inner);
            }
            (_, value) => unreachable!("{name} was read as {value}"),
        }
    }
    out
}

/// A message that says nothing, and is not empty: its first field without a value.
fn empty(table: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    let (number, ..) = table.first().expect("a message without fields is never read");
    bytes(&mut out, *number, b"");
    out
}

fn entry(out: &mut Vec<u8>, number: u32, key: &str, value: &[u8]) {
    let mut inner = Vec::new();
    bytes(&mut inner, 1, key.as_bytes());
    bytes(&mut inner, 2, value);
    bytes(out, number, &inner);
}

fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    digits(out, u64::from(number << 3 | LENGTH));
    digits(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, number: u32, value: u64) {
    digits(out, u64::from(number << 3 | VARINT));
    digits(out, value);
}

fn digits(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7F);
            return;
        }
        out.push(low | 0x80);
    }
}
