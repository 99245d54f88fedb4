//! A JSON reader that remembers which fields were given twice.
//!
//! `serde_json` keeps the last of them without a word; Kubernetes' strict validation refuses the
//! object, because one of the two is a mistake.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Most duplicates named in an error.
const DUPLICATES_MAX: usize = 10;

/// A decoded body.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The document.
    pub(crate) value: Value,
    /// Strict-decoding errors: fields given twice.
    pub(crate) duplicates: Vec<String>,
}

/// Reads the value at `path`.
#[derive(Clone, Copy)]
struct Reader<'a> {
    path: &'a str,
    duplicates: &'a RefCell<Vec<String>>,
}

/// Reads a JSON document. The last of two values of one field counts.
pub(crate) fn read_json(body: &[u8]) -> Result<Decoded, serde_json::Error> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let reader = Reader { path: "", duplicates: &duplicates };
    let value = reader.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Decoded { value, duplicates: duplicates.into_inner() })
}

// === impl Reader ===

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, list.len());
            let reader = Reader { path: &path, ..self };
            match items.next_element_seed(reader)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let separator = if self.path.is_empty() { "" } else { "." };
            let path = format!("{}{separator}{key}", self.path);
            let reader = Reader { path: &path, ..self };
            let value = fields.next_value_seed(reader)?;
            if map.insert(key, value).is_some() {
                let mut duplicates = self.duplicates.borrow_mut();
                if duplicates.len() < DUPLICATES_MAX {
                    duplicates.push(format!("duplicate field \"{path}\""));
                }
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_given_twice_is_named_with_its_path() {
        let body = br#"{"spec":{"list":[{"a":1,"a":2.5}],"n":null},"kind":"X"}"#;
        let decoded = read_json(body).unwrap();
        assert_eq!(decoded.duplicates, ["duplicate field \"spec.list[0].a\""]);
        let last =
            serde_json::json!({ "spec": { "list": [{ "a": 2.5 }], "n": null }, "kind": "X" });
        assert_eq!(decoded.value, last);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert!(read_json(b"{} {}").is_err());
    }
}
