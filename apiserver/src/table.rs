//! `meta.k8s.io/v1` Tables: what `kubectl get` shows.
//!
//! Custom kinds say by JSONPath what stands in a column; the columns of built-in kinds are those
//! of the real server (`pkg/printers/internalversion`).

pub(crate) mod columns;

mod age;
mod json_path;
mod pod;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use serde_json::{Value, json};

use self::json_path::JsonPath;
use crate::resources::ResourceType;

/// One column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its heading.
    pub name: String,
    kind: String,
    format: String,
    description: String,
    /// 0 is shown always, all else only by `-o wide`.
    priority: i32,
    cell: Cell,
}

/// What stands in a column.
#[derive(Clone, Debug)]
enum Cell {
    /// The value at a path of a custom kind, shown as a value of the column's type.
    Path(JsonPath),
    /// The text at a JSON pointer of a built-in kind.
    Text(&'static str),
    /// What a built-in kind computes.
    Computed(fn(&Value, Timestamp) -> Value),
}

/// What the `object` of a row holds: the query parameter `includeObject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// A PartialObjectMetadata.
    #[default]
    Metadata,
    /// The object itself.
    Object,
}

// === impl IncludeObject ===

impl IncludeObject {
    /// Reads the query parameter; `None` for a value that it cannot have.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "Metadata" | "" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
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

    fn text(name: &str, pointer: &'static str) -> Self {
        Self::of(name, "string", Cell::Text(pointer))
    }

    fn computed(name: &str, kind: &str, cell: fn(&Value, Timestamp) -> Value) -> Self {
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
    fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    fn definition(&self) -> Value {
        json!({
            "name": self.name,
            // The server itself turns a date into an age, which is text.
            "type": if self.kind == "date" { "string" } else { &self.kind },
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }

    fn cell(&self, object: &Value, now: Timestamp) -> Value {
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

/// The table of `objects`. `metadata` is that of the list, or of the one object (its
/// resourceVersion), and stands in the table as it is.
pub fn render<'a>(
    resource: &ResourceType,
    objects: impl IntoIterator<Item = &'a Value>,
    metadata: Value,
    include: IncludeObject,
    now: Timestamp,
) -> Value {
    let columns = &resource.columns;
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let cells: Vec<Value> = columns.iter().map(|column| column.cell(object, now)).collect();
            match included(object, include) {
                Some(object) => json!({"cells": cells, "object": object}),
                None => json!({"cells": cells}),
            }
        })
        .collect();
    let definitions: Vec<Value> = columns.iter().map(Column::definition).collect();
    let mut table = json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "columnDefinitions": definitions,
    });
    // Moved rather than copied: rows may hold every object of a kind.
    table["metadata"] = metadata;
    table["rows"] = Value::Array(rows);
    table
}

fn included(object: &Value, include: IncludeObject) -> Option<Value> {
    match include {
        IncludeObject::None => None,
        IncludeObject::Object => Some(object.clone()),
        IncludeObject::Metadata => Some(json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": object.get("metadata"),
        })),
    }
}

/// The text at a JSON pointer; empty if there is none.
fn str_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list_at<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    let list = object.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

fn count_at(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}
