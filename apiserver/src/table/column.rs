//! One column: its heading, and the part of an object that stands in it.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use serde_json::{Value, json};

use super::age;
use super::json_path::JsonPath;

/// One column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its heading.
    pub name: String,
    kind: String,
    format: String,
    description: String,
    /// 0 is always shown, any other only by `-o wide`.
    priority: i32,
    cell: Cell,
}

/// The content of a column.
#[derive(Clone, Debug)]
enum Cell {
    /// The value at a path of a custom kind, shown as a value of the column's type.
    Path(JsonPath),
    /// The text at a JSON pointer of a built-in kind.
    Text(&'static str),
    /// A value that a built-in kind computes.
    Computed(fn(&Value, Timestamp) -> Value),
}

// === impl Column ===

impl Column {
    /// A column that a definition asks for. One with a path that is not understood stays empty.
    pub(crate) fn custom(definition: &CustomResourceColumnDefinition) -> Self {
        Self {
            name: definition.name.clone(),
            kind: definition.type_.clone(),
            format: definition.format.clone().unwrap_or_default(),
            description: definition.description.clone().unwrap_or_default(),
            priority: definition.priority.unwrap_or_default(),
            cell: Cell::Path(JsonPath::parse(&definition.json_path)),
        }
    }

    /// The column that every table begins with.
    pub(crate) fn name() -> Self {
        let mut column = Self::text("Name", "/metadata/name");
        "name".clone_into(&mut column.format);
        "Name must be unique within a namespace.".clone_into(&mut column.description);
        column
    }

    /// The column that nearly every table ends with.
    pub(crate) fn age() -> Self {
        Self::computed("Age", "string", |object, now| {
            json!(age::since(object.pointer("/metadata/creationTimestamp"), now))
        })
    }

    pub(super) fn text(name: &str, pointer: &'static str) -> Self {
        Self::of(name, "string", Cell::Text(pointer))
    }

    pub(super) fn computed(name: &str, kind: &str, cell: fn(&Value, Timestamp) -> Value) -> Self {
        Self::of(name, kind, Cell::Computed(cell))
    }

    fn of(name: &str, kind: &str, cell: Cell) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            format: String::new(),
            description: String::new(),
            priority: 0,
            cell,
        }
    }

    /// The same column, shown only by `-o wide`.
    pub(super) fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    pub(super) fn definition(&self) -> Value {
        json!({
            "name": self.name,
            // The server itself turns a date into an age, which is text.
            "type": if self.kind == "date" { "string" } else { &self.kind },
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }

    pub(super) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        match &self.cell {
            Cell::Text(pointer) => json!(str_at(object, pointer)),
            Cell::Computed(cell) => cell(object, now),
            Cell::Path(path) => self.shown(path.first(object), now),
        }
    }

    /// A value as the column's type; one of another type is left out, as in the real server.
    fn shown(&self, value: Option<&Value>, now: Timestamp) -> Value {
        match (self.kind.as_str(), value) {
            ("date", value) => json!(age::since(value, now)),
            ("integer", Some(value)) if value.is_i64() || value.is_u64() => value.clone(),
            ("number", Some(value)) if value.is_number() => value.clone(),
            ("boolean", Some(value)) if value.is_boolean() => value.clone(),
            ("string", Some(Value::String(text))) => json!(text),
            ("string", Some(value)) if !value.is_null() => json!(value.to_string()),
            _ => Value::Null,
        }
    }
}

/// The text at a JSON pointer; empty if there is none.
pub(super) fn str_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn list_at<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    let list = object.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

pub(super) fn count_at(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}
