//! Where two answers differ.

use std::fmt;

use serde_json::Value;

use crate::argued;

/// One place where the two answers differ; an absent value is null.
#[derive(Clone, PartialEq)]
pub(crate) struct Difference {
    /// Such as `body.items[0].spec.replicas`.
    pub(crate) path: String,
    pub(crate) real: Value,
    pub(crate) embedded: Value,
}

// === impl Difference ===

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, real, embedded } = self;
        write!(f, "  {path}\n    real     {real}\n    embedded {embedded}")
    }
}

/// The differences that nobody has argued for.
pub(crate) fn unargued(what: &str, real: &Value, embedded: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    collect("", real, embedded, &mut found);
    // Once the one server takes what the other refuses, their bodies have nothing in common.
    if let Some(code) = found.iter().position(|found| found.path == "code") {
        let message = |answer: &Value| answer["body"]["message"].clone();
        let (path, code) = ("code: message".to_owned(), found.swap_remove(code));
        let said = Difference { path, real: message(real), embedded: message(embedded) };
        let is_said_alike = said.real == said.embedded;
        found = vec![code];
        found.extend((!is_said_alike).then_some(said));
    }
    argued::without_argued(what, found)
}

fn collect(path: &str, real: &Value, embedded: &Value, found: &mut Vec<Difference>) {
    match (real, embedded) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
            for key in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(&below, &real[key], &embedded[key], found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                collect(&format!("{path}[{index}]"), left, right, found);
            }
        }
        (real, embedded) if real == embedded => {}
        (real, embedded) => found.push(Difference {
            path: path.to_owned(),
            real: real.clone(),
            embedded: embedded.clone(),
        }),
    }
}
