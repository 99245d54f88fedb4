//! Reads the protobuf bodies that `kubectl create namespace`, `configmap`, `secret` and
//! `serviceaccount` send.
//!
//! Those commands write protobuf whatever the server says that it accepts. The messages are small
//! and frozen (Kubernetes never renumbers a field), so a table of their fields is enough; no other
//! kind is read, and nothing is ever answered in protobuf. A field that the table lacks fails the
//! request instead of being dropped.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;

use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

/// First bytes of a Kubernetes object in protobuf; an envelope follows.
const MAGIC: &[u8] = b"k8s\0";
/// Content type of such a body.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
    Texts,
    TextMap,
    BytesMap,
    Message(&'static [Field]),
}

/// Number, name in JSON, and content.
type Field = (u32, &'static str, Kind);

const ENVELOPE_TYPE: u32 = 1;
const ENVELOPE_RAW: u32 = 2;

const TYPE_META: &[Field] = &[(1, "apiVersion", Kind::Text), (2, "kind", Kind::Text)];
const OBJECT_META: &[Field] = &[
    (1, "name", Kind::Text),
    (2, "generateName", Kind::Text),
    (3, "namespace", Kind::Text),
    (5, "uid", Kind::Text),
    (6, "resourceVersion", Kind::Text),
    (7, "generation", Kind::Number),
    (8, "creationTimestamp", Kind::Message(&[])),
    (11, "labels", Kind::TextMap),
    (12, "annotations", Kind::TextMap),
    (14, "finalizers", Kind::Texts),
];
const NAMESPACE: &[Field] = &[
    (1, "metadata", Kind::Message(OBJECT_META)),
    (2, "spec", Kind::Message(&[(1, "finalizers", Kind::Texts)])),
    (3, "status", Kind::Message(&[(1, "phase", Kind::Text)])),
];
const CONFIG_MAP: &[Field] = &[
    (1, "metadata", Kind::Message(OBJECT_META)),
    (2, "data", Kind::TextMap),
    (3, "binaryData", Kind::BytesMap),
    (4, "immutable", Kind::Flag),
];
const SECRET: &[Field] = &[
    (1, "metadata", Kind::Message(OBJECT_META)),
    (2, "data", Kind::BytesMap),
    (3, "type", Kind::Text),
    (4, "stringData", Kind::TextMap),
    (5, "immutable", Kind::Flag),
];
const SERVICE_ACCOUNT: &[Field] = &[(1, "metadata", Kind::Message(OBJECT_META))];
const PRECONDITIONS: &[Field] = &[(1, "uid", Kind::Text), (2, "resourceVersion", Kind::Text)];
const DELETE_OPTIONS: &[Field] = &[
    (1, "gracePeriodSeconds", Kind::Number),
    (2, "preconditions", Kind::Message(PRECONDITIONS)),
    (3, "orphanDependents", Kind::Flag),
    (4, "propagationPolicy", Kind::Text),
    (5, "dryRun", Kind::Texts),
];

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    /// The bytes are not such a message.
    #[error("the body is not a Kubernetes object in protobuf")]
    Malformed,
    /// No table describes the kind.
    #[error("{0} is not read in protobuf")]
    Kind(String),
    /// The table of the kind does not have the field.
    #[error("field {0} of the object is not read in protobuf")]
    Field(u32),
}

/// One field as it stands in a message.
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// Reads an object.
pub(crate) fn read(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::Malformed)?;
    let (mut identity, mut raw) = (Value::Null, &[][..]);
    for field in fields(envelope) {
        match field? {
            (ENVELOPE_TYPE, Wire::Bytes(bytes)) => identity = message(bytes, TYPE_META)?,
            (ENVELOPE_RAW, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let kind = identity["kind"].as_str().unwrap_or_default();
    let table = table_of(kind).ok_or_else(|| ProtobufError::Kind(kind.to_owned()))?;
    let mut object = message(raw, table)?;
    object["apiVersion"] = identity["apiVersion"].take();
    object["kind"] = identity["kind"].take();
    Ok(object)
}

/// The fields of a kind.
fn table_of(kind: &str) -> Option<&'static [Field]> {
    match kind {
        "Namespace" => Some(NAMESPACE),
        "ConfigMap" => Some(CONFIG_MAP),
        "Secret" => Some(SECRET),
        "ServiceAccount" => Some(SERVICE_ACCOUNT),
        "DeleteOptions" => Some(DELETE_OPTIONS),
        _ => None,
    }
}

fn message(bytes: &[u8], table: &[Field]) -> Result<Value, ProtobufError> {
    let mut object = Map::new();
    for field in fields(bytes) {
        let (number, wire) = field?;
        // Empty values are written too; in JSON they are left out.
        if matches!(wire, Wire::Bytes([]) | Wire::Varint(0)) {
            continue;
        }
        let known = table.iter().find(|(own, ..)| *own == number);
        let (_, name, kind) = known.ok_or(ProtobufError::Field(number))?;
        // A time that says nothing may have fields nevertheless, all of them zero.
        if let (Kind::Message([]), Wire::Bytes(bytes)) = (kind, &wire) {
            message(bytes, &[])?;
            continue;
        }
        put(object.entry(*name).or_insert(Value::Null), *kind, wire)?;
    }
    Ok(Value::Object(object))
}

fn put(slot: &mut Value, kind: Kind, wire: Wire<'_>) -> Result<(), ProtobufError> {
    match (kind, wire) {
        (Kind::Number, Wire::Varint(number)) => *slot = json!(number.cast_signed()),
        (Kind::Flag, Wire::Varint(number)) => *slot = json!(number != 0),
        (Kind::Text, Wire::Bytes(bytes)) => *slot = json!(text(bytes)?),
        (Kind::Message(table), Wire::Bytes(bytes)) => *slot = message(bytes, table)?,
        (Kind::Texts, Wire::Bytes(bytes)) => {
            let item = json!(text(bytes)?);
            match slot {
                Value::Array(items) => items.push(item),
                slot => *slot = Value::Array(vec![item]),
            }
        }
        (Kind::TextMap, Wire::Bytes(bytes)) => {
            let (key, value) = entry(bytes)?;
            slot[key] = json!(text(value)?);
        }
        (Kind::BytesMap, Wire::Bytes(bytes)) => {
            let (key, value) = entry(bytes)?;
            slot[key] = json!(ByteString(value.to_vec()));
        }
        _ => return Err(ProtobufError::Malformed),
    }
    Ok(())
}

/// An entry of a map is a message of its key and its value.
fn entry(bytes: &[u8]) -> Result<(&str, &[u8]), ProtobufError> {
    let (mut key, mut value) = ("", &[][..]);
    for field in fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => return Err(ProtobufError::Malformed),
        }
    }
    Ok((key, value))
}

fn text(bytes: &[u8]) -> Result<&str, ProtobufError> {
    str::from_utf8(bytes).map_err(|_| ProtobufError::Malformed)
}

fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u32, Wire<'_>), ProtobufError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let field = next_field(&mut bytes);
        if field.is_none() {
            // What follows a malformed field cannot be read.
            bytes = &[];
        }
        Some(field.ok_or(ProtobufError::Malformed))
    })
}

fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Wire<'a>)> {
    let tag = varint(bytes)?;
    let number = u32::try_from(tag >> 3).ok()?;
    let wire = match tag & 7 {
        0 => Wire::Varint(varint(bytes)?),
        2 => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Wire::Bytes(value)
        }
        _ => return None,
    };
    Some((number, wire))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `kubectl create namespace foo`, as kubectl 1.32 sends it.
    const CREATE_NAMESPACE: &[u8] = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x1b\x0a\x13\
        \x0a\x03foo\x12\0\x1a\0\"\0*\x002\x008\0B\0\x12\0\x1a\x02\x0a\0\x1a\0\"\0";

    #[test]
    fn a_namespace_of_kubectl_is_read() {
        let expected = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "foo" }, "status": {},
        });
        assert_eq!(read(CREATE_NAMESPACE), Ok(expected));
    }

    #[test]
    fn maps_of_bytes_become_base64() {
        let raw = b"\x12\x08\x0a\x01k\x12\x03abc";
        let secret = message(raw, SECRET).unwrap();
        assert_eq!(secret, json!({ "data": { "k": "YWJj" } }));
    }

    #[test]
    fn a_field_that_is_not_known_is_not_dropped() {
        assert_eq!(message(b"\x7a\x01x", CONFIG_MAP), Err(ProtobufError::Field(15)));
    }

    #[test]
    fn a_time_of_zero_is_no_time() {
        assert_eq!(message(b"\x42\x04\x08\0\x10\0", OBJECT_META), Ok(json!({})));
        assert_eq!(message(b"\x42\x02\x08\x01", OBJECT_META), Err(ProtobufError::Field(1)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail_otherwise_than_by_an_error(
            cut in 0..CREATE_NAMESPACE.len(), at in 4..CREATE_NAMESPACE.len(), byte: u8,
        ) {
            let mut bytes = CREATE_NAMESPACE.to_vec();
            bytes[at] = byte;
            drop(read(&bytes));
            drop(read(&bytes[..cut]));
        }
    }
}
