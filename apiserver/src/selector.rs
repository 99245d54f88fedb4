//! Label and field selectors of list and watch requests.
//!
//! Labels are indexed beside each object, so a label selector costs no parsing. Field selectors
//! other than by name and namespace are rare (`kubectl describe` asks for events by them): they
//! parse the object when asked instead of making every object carry an index.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod labels;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::failure::RequestFailure;
use crate::object::Object;

/// Longest selector read, in bytes: far above what any client writes, far below what would hurt.
const SELECTOR_BYTES_MAX: usize = 64 * 1024;

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
    Above(String, i64),
    Below(String, i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldTerm {
    path: Vec<String>,
    value: String,
    equal: bool,
}

// === impl Selector ===

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`.
    pub(crate) fn parse(
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, RequestFailure> {
        for text in [labels, fields].into_iter().flatten() {
            if text.len() > SELECTOR_BYTES_MAX {
                return Err(RequestFailure::bad_request(format!(
                    "selector is longer than {SELECTOR_BYTES_MAX} bytes"
                )));
            }
        }
        Ok(Self {
            labels: labels::parse(labels.unwrap_or_default())
                .map_err(RequestFailure::bad_request)?,
            fields: parse_fields(fields.unwrap_or_default())?,
        })
    }

    /// The selector, if it names no fields but those of `selectable`, by which this resource may be
    /// selected, and name and namespace.
    pub(crate) fn among(self, selectable: &[&str]) -> Result<Self, RequestFailure> {
        for term in &self.fields {
            let key = term.path.join(".");
            let always = ["metadata.name", "metadata.namespace"];
            if always.contains(&&*key) || selectable.contains(&&*key) {
                continue;
            }
            let message = if selectable.is_empty() {
                format!(
                    "{key:?} is not a known field selector: only \"metadata.name\", \
                     \"metadata.namespace\""
                )
            } else {
                format!("field label not supported: {key}")
            };
            return Err(RequestFailure::bad_request(message));
        }
        Ok(self)
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        *self == Self::default()
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
            Self::Above(key, limit) => number(object.label(key)).is_some_and(|own| own > *limit),
            Self::Below(key, limit) => number(object.label(key)).is_some_and(|own| own < *limit),
        }
    }
}

fn number(label: Option<&str>) -> Option<i64> {
    label?.parse().ok()
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

fn parse_fields(text: &str) -> Result<Vec<FieldTerm>, RequestFailure> {
    let terms = text.split(',').map(str::trim);
    terms.filter(|term| !term.is_empty()).map(parse_field_term).collect()
}

fn parse_field_term(term: &str) -> Result<FieldTerm, RequestFailure> {
    let (key, value, equal) = if let Some((key, value)) = term.split_once("!=") {
        (key, value, false)
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, value, true)
    } else {
        return Err(RequestFailure::bad_request(format!(
            "invalid selector: '{term}'; can't understand '{term}'"
        )));
    };
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
                "labels": { "app": "web", "tier": "front", "size": "4" },
            },
            "status": { "phase": "Running" },
        }))
    }

    fn selects(labels: &str, fields: &str) -> bool {
        Selector::parse(Some(labels), Some(fields))
            .and_then(|own| own.among(&["status.phase", "spec.nodeName"]))
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
            ("app in ()", false),
            ("size>3,size<5", true),
            ("size>4", false),
            ("app>1", false),
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
            assert!(Selector::parse(Some(labels), None).is_err(), "{labels}");
        }
        let unknown = Selector::parse(None, Some("spec.foo=1")).unwrap();
        assert!(unknown.among(&["spec.bar"]).is_err());
        assert!(Selector::parse(None, Some("metadata.name")).is_err());
    }
}
