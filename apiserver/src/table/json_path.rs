//! The part of JSONPath that columns of definitions use: `.a.b`, `['a.b']`, `[0]` and
//! `[?(@.type=='Ready')]`.

use serde_json::Value;

/// A path to one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonPath {
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(Box<str>),
    Index(usize),
    /// The items whose field has a value.
    Where {
        field: Box<str>,
        equals: Box<str>,
    },
    /// Something that is not understood: it leads nowhere.
    Unknown,
}

// === impl JsonPath ===

impl JsonPath {
    /// Reads a path. A part that is not understood leads nowhere: a column then stays empty, as one
    /// whose path matches nothing does.
    pub(super) fn parse(text: &str) -> Self {
        let mut rest = text.trim();
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = if let Some(after) = rest.strip_prefix('[') {
                bracketed(after)
            } else {
                field(rest.strip_prefix('.').unwrap_or(rest))
            };
            steps.push(step);
            rest = after;
        }
        Self { steps: steps.into() }
    }

    /// The first value that the path leads to.
    pub(super) fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.steps.iter().try_fold(object, |value, step| match step {
            Step::Field(name) => value.get(&**name),
            Step::Index(index) => value.get(index),
            Step::Where { field, equals } => value
                .as_array()?
                .iter()
                .find(|item| item.get(&**field).and_then(Value::as_str) == Some(equals)),
            Step::Unknown => None,
        })
    }
}

/// A name up to the next `.` or `[`; a backslash takes the next character as it is.
fn field(text: &str) -> (Step, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((index, char)) = chars.next() {
        match char {
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (named(name), &text[index..]),
            char => name.push(char),
        }
    }
    (named(name), "")
}

fn named(name: String) -> Step {
    if name.is_empty() { Step::Unknown } else { Step::Field(name.into()) }
}

/// Reads the content of brackets, behind the opening one; returns the step and the rest.
fn bracketed(text: &str) -> (Step, &str) {
    if let Some((name, rest)) = quoted(text) {
        return match rest.strip_prefix(']') {
            Some(rest) => (Step::Field(name.into()), rest),
            None => (Step::Unknown, ""),
        };
    }
    if let Some(filter) = text.strip_prefix("?(@.") {
        return filtered(filter).unwrap_or((Step::Unknown, ""));
    }
    match text.split_once(']') {
        Some((index, rest)) => (index.trim().parse().map_or(Step::Unknown, Step::Index), rest),
        None => (Step::Unknown, ""),
    }
}

/// Reads `field=='value')]`; returns the step and the rest.
fn filtered(text: &str) -> Option<(Step, &str)> {
    let (field, rest) = text.split_once("==")?;
    let (equals, rest) = quoted(rest.trim_start())?;
    let rest = rest.trim_start().strip_prefix(")]")?;
    let step = Step::Where { field: field.trim().into(), equals: equals.into() };
    Some((step, rest))
}

/// A text in single or double quotes, and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|&char| char == '\'' || char == '"')?;
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((index, char)) = chars.next() {
        match char {
            '\\' => inside.extend(chars.next().map(|(_, escaped)| escaped)),
            char if char == quote => return Some((inside, &text[index + 1..])),
            char => inside.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_keys_with_dots_indices_and_filters_lead_to_values() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "label"}},
            "list": [{"x": 1}, {"x": 2}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}],
        });
        for (path, value) in [
            (".metadata.labels['a\\.b/c']", json!("label")),
            (".metadata.labels['a.b/c']", json!("label")),
            (".metadata.labels.a\\.b/c", json!("label")),
            (".list[1].x", json!(2)),
            (".conditions[?(@.type=='Other')].status", json!("False")),
            (".conditions[?(@.type == \"Ready\")].status", json!("True")),
        ] {
            assert_eq!(JsonPath::parse(path).first(&object), Some(&value), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_or_not_understood_leads_nowhere() {
        let object = json!({"a": {"b": 1}, "list": []});
        for path in [".a.c", ".a[", ".a..b", ".list[?(@.x>1)]", ".list[*]", ".a['b"] {
            assert_eq!(JsonPath::parse(path).first(&object), None, "{path}");
        }
    }
}
