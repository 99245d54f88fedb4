//! `meta.k8s.io/v1` Tables: what `kubectl get` shows.
//!
//! Custom kinds say by JSONPath what stands in a column; the columns of built-in kinds are those
//! of the real server (`pkg/printers/internalversion`).

pub(crate) mod column;
pub(crate) mod columns;

mod age;
mod json_path;
mod pod;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use self::column::Column;
use crate::resources::ResourceType;

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
            let mut row = json!({ "cells": cells });
            if let Some(object) = included(object, include) {
                row["object"] = object;
            }
            if let Some(condition) = pod::ended(resource, object) {
                row["conditions"] = json!([condition]);
            }
            row
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
