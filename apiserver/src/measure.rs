//! How deep and how large a JSON value is: bounds that hold before anything is stored.
//!
//! A stored object must be readable, here at the next start and by every client: JSON readers give
//! up at 128 levels, and a list or a watch event adds its own levels around an object.

use serde_json::Value;

use crate::failure::RequestFailure;

/// Most levels of an object, and of anything that is to become a part of one. Deeper than any
/// schema of Kubernetes needs; with managedFields, which are a few levels deeper than the fields
/// that they describe, still well below the limit of readers.
pub(super) const LEVELS_MAX: usize = 100;
/// Most bytes of an object, as JSON: the real server's limit for a request, so that an object that
/// can be read can be written back. The real server's store takes half of that.
pub(super) const OBJECT_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Levels of `value`: one for a scalar. Looks no deeper than one level below [`LEVELS_MAX`].
pub(super) fn levels(value: &Value) -> usize {
    fn below(value: &Value, budget: usize) -> usize {
        if budget == 0 {
            return 1;
        }
        let inner = match value {
            Value::Array(items) => items.iter().map(|item| below(item, budget - 1)).max(),
            Value::Object(fields) => fields.values().map(|field| below(field, budget - 1)).max(),
            _ => None,
        };
        1 + inner.unwrap_or(0)
    }
    below(value, LEVELS_MAX)
}

/// Refuses a document that is nested too deep.
pub(super) fn check_levels(value: &Value) -> Result<(), RequestFailure> {
    if levels(value) <= LEVELS_MAX {
        return Ok(());
    }
    Err(RequestFailure::bad_request(format!(
        "the object is nested deeper than {LEVELS_MAX} levels: flatten it, or keep the deep part \
         as text"
    )))
}

/// Bytes of `value` as JSON.
pub(super) fn bytes(value: &Value) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).expect("a value is JSON, and counting never fails");
    counter.0
}

/// Refuses an object that is too large to be stored.
pub(super) fn check_bytes(value: &Value) -> Result<(), RequestFailure> {
    let bytes = bytes(value);
    if bytes <= OBJECT_BYTES_MAX {
        return Ok(());
    }
    Err(RequestFailure::new(
        413,
        "RequestEntityTooLarge",
        format!("the object would be {bytes} bytes, and the limit is {OBJECT_BYTES_MAX} bytes"),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn levels_are_counted_up_to_one_more_than_there_may_be() {
        assert_eq!(levels(&json!(1)), 1);
        assert_eq!(levels(&json!({"a": [1, {"b": {}}]})), 4);
        let deep = (0..500).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(levels(&deep), LEVELS_MAX + 1);
        let edge = (1..LEVELS_MAX).fold(json!(1), |inner, _| json!({"a": inner}));
        assert_eq!(levels(&edge), LEVELS_MAX);
        assert!(check_levels(&edge).is_ok() && check_levels(&deep).is_err());
    }

    #[test]
    fn bytes_are_those_of_the_json() {
        let value = json!({"a": ["ü", 1.5, null]});
        assert_eq!(bytes(&value), value.to_string().len());
        let code = |length| check_bytes(&json!("x".repeat(length))).map_err(|error| error.code);
        assert_eq!(code(OBJECT_BYTES_MAX - 2), Ok(()));
        assert_eq!(code(OBJECT_BYTES_MAX - 1), Err(413));
    }
}
