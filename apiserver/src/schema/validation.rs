//! Values that a schema refuses, in the words of the real server.
//!
//! The words are those of kube-openapi's validator as the API server wraps them for custom kinds
//! (`k8s.io/apiextensions-apiserver/pkg/apiserver/validation`). For a built-in kind the real server
//! fails to decode the object instead and names a Go struct; here built-in kinds get the same
//! words.

use std::fmt;

use serde_json::{Number, Value};

use super::path::{Path, Step};
use super::shape::{Fields, Null, Rules, Schema, Shape};

/// Most problems that are named: enough to see what is wrong, and a response stays small whatever
/// was sent.
const PROBLEMS_MAX: usize = 64;

/// Why a field is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// It must be there.
    Required,
    /// Its value is of the right type, and wrong.
    Invalid,
    /// Its value is not one of those that are allowed.
    NotSupported,
    /// Its value is of another type.
    TypeInvalid,
    /// It has more characters than it may have.
    TooLong,
    /// It has more items than it may have.
    TooMany,
}

/// One refused field; shown as `spec.replicas: Invalid value: ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// Path such as `spec.template.spec.containers[0].image`; empty for the whole object.
    pub field: String,
    /// Why it is refused.
    pub kind: ProblemKind,
    /// What is wrong, without the path: the message of a Status cause.
    pub message: String,
}

// === impl ProblemKind ===

impl ProblemKind {
    /// The `reason` of a cause in a Status.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
        }
    }
}

// === impl FieldProblem ===

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "<nil>" } else { &self.field };
        write!(f, "{field}: {}", self.message)
    }
}

// === impl Schema ===

impl Schema {
    /// The problems of `object`, at most 64. Fields that the schema does not know are no problem
    /// here.
    pub fn validate(&self, object: &Value) -> Vec<FieldProblem> {
        let mut walk = Walk { path: Path::default(), problems: Vec::new() };
        walk.value(self, object);
        walk.problems.truncate(PROBLEMS_MAX);
        walk.problems
    }
}

struct Walk<'a> {
    path: Path<'a>,
    problems: Vec<FieldProblem>,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    fn value(&mut self, schema: &Schema, value: &'a Value) {
        if self.problems.len() >= PROBLEMS_MAX || (value.is_null() && schema.null != Null::Refused)
        {
            return;
        }
        match (&schema.shape, value) {
            (Shape::Object(fields), Value::Object(object)) => {
                self.fields(fields, object);
            }
            (Shape::Map { values, .. }, Value::Object(object)) => {
                for (name, value) in object {
                    self.step(Step::Field(name), values, value);
                }
            }
            (Shape::List { items, .. }, Value::Array(list)) => {
                for (index, item) in list.iter().enumerate() {
                    self.step(Step::Index(index), items, item);
                }
            }
            (Shape::Integer { format }, Value::Number(number)) => {
                self.integer(format.as_deref(), number);
            }
            (Shape::IntOrString, Value::Number(number)) if !is_integer(number) => {
                self.wrong_type("integer,string", "number");
            }
            (Shape::String { format }, Value::String(text)) => {
                self.string(format.as_deref(), text);
            }
            (shape, value) if !fits(shape, value) => {
                self.wrong_type(expected_name(shape), type_name(value));
                return;
            }
            _ => {}
        }
        if let Some(rules) = &schema.rules {
            self.rules(rules, value);
        }
    }

    fn step(&mut self, step: Step<'a>, schema: &Schema, value: &'a Value) {
        self.path.enter(step);
        self.value(schema, value);
        self.path.leave();
    }

    fn fields(&mut self, fields: &Fields, object: &'a serde_json::Map<String, Value>) {
        for field in &fields.known {
            match object.get_key_value(&*field.name) {
                None => {
                    if field.required {
                        let field = self.path.with_field(&field.name);
                        self.add(field, ProblemKind::Required, "Required value".to_owned());
                    }
                }
                Some((_, Value::Null)) if field.schema.null == Null::Dropped && field.required => {
                    let field = self.path.with_field(&field.name);
                    self.add(field, ProblemKind::Required, "Required value".to_owned());
                }
                Some((name, value)) => self.step(Step::Field(name), &field.schema, value),
            }
        }
    }

    fn integer(&mut self, format: Option<&str>, number: &Number) {
        if !is_integer(number) {
            self.wrong_type("integer", "number");
            return;
        }
        let fits = match format {
            Some("int32") => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Some("uint32") => number.as_u64().is_some_and(|n| u32::try_from(n).is_ok()),
            Some("uint16") => number.as_u64().is_some_and(|n| u16::try_from(n).is_ok()),
            Some("int64") => number.as_i64().is_some(),
            _ => true,
        };
        if !fits {
            let format = format.unwrap_or_default();
            self.invalid(
                &Value::Number(number.clone()),
                &format!("must be of type integer and fit format {format}"),
            );
        }
    }

    fn string(&mut self, format: Option<&str>, text: &str) {
        let (valid, name) = match format {
            Some("date-time") => (text.parse::<jiff::Timestamp>().is_ok(), "date-time"),
            Some("byte") => (is_base64(text), "byte"),
            _ => return,
        };
        if !valid {
            self.invalid(
                &Value::String(text.to_owned()),
                &format!("must be of type {name}: {text:?}"),
            );
        }
    }

    fn rules(&mut self, rules: &Rules, value: &Value) {
        if !rules.allowed.is_empty() && !rules.allowed.contains(value) {
            let allowed: Vec<String> = rules.allowed.iter().map(Value::to_string).collect();
            let message =
                format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
            self.add(self.path.text(), ProblemKind::NotSupported, message);
        }
        match value {
            Value::Number(number) => self.bounds(rules, number, value),
            Value::String(text) => self.length(rules, text, value),
            Value::Array(list) => self.count(rules, list.len() as u64, value),
            _ => {}
        }
    }

    fn bounds(&mut self, rules: &Rules, number: &Number, value: &Value) {
        if let Some(minimum) = &rules.minimum
            && number.as_f64() < minimum.as_f64()
        {
            self.invalid(value, &format!("should be greater than or equal to {minimum}"));
        }
        if let Some(maximum) = &rules.maximum
            && number.as_f64() > maximum.as_f64()
        {
            self.invalid(value, &format!("should be less than or equal to {maximum}"));
        }
    }

    fn length(&mut self, rules: &Rules, text: &str, value: &Value) {
        let chars = text.chars().count() as u64;
        if let Some(min) = rules.min_length
            && chars < min
        {
            self.invalid(value, &format!("should be at least {min} chars long"));
        }
        if let Some(max) = rules.max_length
            && chars > max
        {
            let message = format!("Too long: may not be more than {max} bytes");
            self.add(self.path.text(), ProblemKind::TooLong, message);
        }
    }

    fn count(&mut self, rules: &Rules, items: u64, value: &Value) {
        if let Some(min) = rules.min_items
            && items < min
        {
            self.invalid(value, &format!("should have at least {min} items"));
        }
        if let Some(max) = rules.max_items
            && items > max
        {
            let message = format!("Too many: {items}: must have at most {max} items");
            self.add(self.path.text(), ProblemKind::TooMany, message);
        }
    }

    fn wrong_type(&mut self, expected: &str, found: &str) {
        let path = self.path.text();
        let message = format!(
            "Invalid value: {found:?}: {path} in body must be of type {expected}: {found:?}"
        );
        self.add(path, ProblemKind::TypeInvalid, message);
    }

    fn invalid(&mut self, value: &Value, what: &str) {
        let path = self.path.text();
        let message = format!("Invalid value: {value}: {path} in body {what}");
        self.add(path, ProblemKind::Invalid, message);
    }

    fn add(&mut self, field: String, kind: ProblemKind, message: String) {
        self.problems.push(FieldProblem { field, kind, message });
    }
}

fn fits(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Any => true,
        Shape::IntOrString | Shape::Quantity => value.is_number() || value.is_string(),
        Shape::Boolean => value.is_boolean(),
        Shape::Integer { .. } | Shape::Number { .. } => value.is_number(),
        Shape::String { .. } => value.is_string(),
        Shape::Map { .. } | Shape::Object(_) => value.is_object(),
        Shape::List { .. } => value.is_array(),
    }
}

fn expected_name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Any => "any",
        Shape::IntOrString | Shape::Quantity => "integer,string",
        Shape::Boolean => "boolean",
        Shape::Integer { .. } => "integer",
        Shape::Number { .. } => "number",
        Shape::String { .. } => "string",
        Shape::Map { .. } | Shape::Object(_) => "object",
        Shape::List { .. } => "array",
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if is_integer(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A float with nothing behind the point is an integer, as in the real server.
fn is_integer(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|n| n.fract() == 0.0)
}

/// Whether `text` is base64 in the standard alphabet with padding, which is how JSON carries
/// the bytes of a Secret.
fn is_base64(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    let padding = text.len() - data.len();
    text.len().is_multiple_of(4)
        && padding <= 2
        && data.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}
