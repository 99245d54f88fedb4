//! Writes the terms of a [`super::Selector`] that was read.

use super::{FieldTerm, Requirement, Selector};

/// The terms for labels, and those for fields.
pub(crate) fn terms(selector: &Selector) -> (Vec<String>, Vec<String>) {
    let labels = selector.labels.iter().map(requirement).collect();
    let field = |FieldTerm { path, value, equal }: &FieldTerm| {
        let operator = if *equal { "==" } else { "!=" };
        format!("{}{operator}{value}", path.join("."))
    };
    (labels, selector.fields.iter().map(field).collect())
}

/// The values that a label is compared with.
pub(crate) fn values(selector: &Selector) -> impl Iterator<Item = &str> {
    let values = selector.labels.iter().filter_map(|term| match term {
        Requirement::In(_, values) | Requirement::NotIn(_, values) => Some(values),
        Requirement::Exists(_)
        | Requirement::Absent(_)
        | Requirement::Above(..)
        | Requirement::Below(..) => None,
    });
    values.flatten().map(String::as_str)
}

fn requirement(term: &Requirement) -> String {
    let list = |values: &std::collections::BTreeSet<String>| {
        values.iter().map(String::as_str).collect::<Vec<_>>().join(",")
    };
    match term {
        Requirement::In(key, values) => format!("{key} in ({})", list(values)),
        Requirement::NotIn(key, values) => format!("{key} notin ({})", list(values)),
        Requirement::Exists(key) => key.clone(),
        Requirement::Absent(key) => format!("!{key}"),
        Requirement::Above(key, limit) => format!("{key} > {limit}"),
        Requirement::Below(key, limit) => format!("{key} < {limit}"),
    }
}
