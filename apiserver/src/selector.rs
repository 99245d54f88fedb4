//! Label and field selectors of list and watch requests.
//!
//! Labels are indexed beside each object, so a label selector costs no parsing. Field selectors
//! other than by name and namespace are rare (`kubectl describe` asks for events by them): they
//! parse the object when asked instead of making every object carry an index.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::failure::RequestFailure;
use crate::object::Object;

/// Longest selector read, in bytes: far above what any client writes, far below what would hurt.
const SELECTOR_BYTES_MAX: usize = 64 * 1024;
/// Longest value of a label, and longest name of its key after the prefix.
const LABEL_CHARS_MAX: usize = 63;

/// What a list or watch is narrowed to. The default selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldTerm>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldTerm {
    path: Vec<String>,
    value: String,
    equal: bool,
}

// === impl Selector ===

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`; `selectable` are the field paths that this
    /// resource may be selected by, beside name and namespace.
    pub(crate) fn parse(
        labels: Option<&str>,
        fields: Option<&str>,
        selectable: &[&str],
    ) -> Result<Self, RequestFailure> {
        for text in [labels, fields].into_iter().flatten() {
            if text.len() > SELECTOR_BYTES_MAX {
                return Err(RequestFailure::bad_request(format!(
                    "selector is longer than {SELECTOR_BYTES_MAX} bytes"
                )));
            }
        }
        Ok(Self {
            labels: parse_labels(labels.unwrap_or_default())?,
            fields: parse_fields(fields.unwrap_or_default(), selectable)?,
        })
    }

    /// Whether `object` is selected.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.labels.iter().all(|term| term.matches(object)) && self.matches_fields(object)
    }

    fn matches_fields(&self, object: &Object) -> bool {
        let mut parsed = None;
        self.fields.iter().all(|term| {
            let path: Vec<&str> = term.path.iter().map(String::as_str).collect();
            let found = match path.as_slice() {
                ["metadata", "name"] => object.name() == term.value,
                ["metadata", "namespace"] => object.namespace() == term.value,
                path => {
                    let value = parsed.get_or_insert_with(|| object.value());
                    text_at(value, path) == term.value
                }
            };
            found == term.equal
        })
    }
}

// === impl Requirement ===

impl Requirement {
    fn matches(&self, object: &Object) -> bool {
        match self {
            Self::In(key, values) => object.label(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => {
                object.label(key).is_none_or(|value| !values.contains(value))
            }
            Self::Exists(key) => object.label(key).is_some(),
            Self::Absent(key) => object.label(key).is_none(),
        }
    }
}

/// The value at `path` as a field selector sees it: absent is the empty string.
fn text_at(value: &Value, path: &[&str]) -> String {
    let found = path.iter().try_fold(value, |value, segment| value.get(*segment));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, RequestFailure> {
    split_outside_parentheses(text).filter(|term| !term.is_empty()).map(parse_label_term).collect()
}

/// Splits at the commas that do not stand inside a `(a,b)` set.
fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |character: char| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
    .map(str::trim)
}

fn parse_label_term(term: &str) -> Result<Requirement, RequestFailure> {
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(Requirement::NotIn(label_key(key)?, label_values(value)?));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Requirement::In(label_key(key)?, label_values(value)?));
    }
    if let Some(key) = term.strip_prefix('!') {
        return Ok(Requirement::Absent(label_key(key)?));
    }
    let Some((head, set)) = term.split_once('(') else {
        return Ok(Requirement::Exists(label_key(term)?));
    };
    let Some(set) = set.strip_suffix(')') else {
        return Err(unparsable(term));
    };
    let values = label_values(set)?;
    let mut words = head.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(key), Some("in"), None) => Ok(Requirement::In(label_key(key)?, values)),
        (Some(key), Some("notin"), None) => Ok(Requirement::NotIn(label_key(key)?, values)),
        _ => Err(unparsable(term)),
    }
}

/// The values between the commas, of which none need say anything.
fn label_values(text: &str) -> Result<BTreeSet<String>, RequestFailure> {
    let value = |value: &str| {
        let value = value.trim();
        if is_label(value) { Ok(value.to_owned()) } else { Err(unparsable(value)) }
    };
    text.split(',').map(value).collect()
}

fn label_key(key: &str) -> Result<String, RequestFailure> {
    let key = key.trim();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let (prefix, name) = key.split_once('/').unwrap_or(("a", key));
    if prefix.is_empty() || !prefix.bytes().all(allowed) || name.is_empty() || !is_label(name) {
        return Err(unparsable(key));
    }
    Ok(key.to_owned())
}

/// Whether a label can have this value.
fn is_label(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    value.len() <= LABEL_CHARS_MAX
        && value.bytes().all(inner)
        && edge(value.bytes().next())
        && edge(value.bytes().last())
}

fn unparsable(term: &str) -> RequestFailure {
    RequestFailure::bad_request(format!(
        "unable to parse requirement: found '{term}', expected: a key, `key=value`, `key!=value`, \
         `key in (a,b)`, `key notin (a,b)` or `!key`"
    ))
}

fn parse_fields(text: &str, selectable: &[&str]) -> Result<Vec<FieldTerm>, RequestFailure> {
    let terms = text.split(',').map(str::trim);
    terms.filter(|term| !term.is_empty()).map(|term| parse_field_term(term, selectable)).collect()
}

fn parse_field_term(term: &str, selectable: &[&str]) -> Result<FieldTerm, RequestFailure> {
    let (key, value, equal) = if let Some((key, value)) = term.split_once("!=") {
        (key, value, false)
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, value, true)
    } else {
        return Err(RequestFailure::bad_request(format!(
            "invalid selector: '{term}'; can't understand '{term}'"
        )));
    };
    let always = ["metadata.name", "metadata.namespace"];
    if !always.contains(&key) && !selectable.contains(&key) {
        return Err(RequestFailure::bad_request(format!("field label not supported: {key}")));
    }
    Ok(FieldTerm {
        path: key.split('.').map(str::to_owned).collect(),
        value: value.to_owned(),
        equal,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Object {
        Object::new(&json!({
            "metadata": {
                "name": "web", "namespace": "default", "uid": "u", "resourceVersion": "1",
                "labels": { "app": "web", "tier": "front" },
            },
            "status": { "phase": "Running" },
        }))
    }

    fn selects(labels: &str, fields: &str) -> bool {
        Selector::parse(Some(labels), Some(fields), &["status.phase", "spec.nodeName"])
            .expect("the selector is well-formed")
            .matches(&object())
    }

    #[test]
    fn label_terms_select_as_kubernetes_does() {
        let expected = [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app=api", false),
            ("app!=api", true),
            ("missing!=x", true),
            ("app in (api, web),tier", true),
            ("app notin (api,web)", false),
            ("missing notin (a)", true),
            ("!missing", true),
            ("!app", false),
            ("missing", false),
        ];
        for (labels, wanted) in expected {
            assert_eq!(selects(labels, ""), wanted, "{labels}");
        }
    }

    #[test]
    fn field_terms_select_and_absent_fields_are_empty() {
        assert!(selects("", "metadata.name=web,status.phase!=Failed"));
        assert!(selects("", "spec.nodeName="));
        assert!(!selects("", "metadata.namespace=other"));
    }

    #[test]
    fn a_selector_that_cannot_be_read_is_refused() {
        for labels in [
            "app in web",
            "a b",
            "x in (a",
            "=v",
            "a=(b",
            "a=b,c==-",
            "a in (b, c d)",
            "/a=b",
            "a/b/c",
        ] {
            assert!(Selector::parse(Some(labels), None, &[]).is_err(), "{labels}");
        }
        assert!(Selector::parse(None, Some("spec.foo=1"), &[]).is_err());
        assert!(Selector::parse(None, Some("metadata.name"), &[]).is_err());
    }
}
