//! `components.schemas`: compiled schemas written out again.

use serde_json::{Map, Value, json};

use super::group_version_kind;
use crate::resources::ResourceType;
use crate::schema::{Field, Fields, ListKind, Null, Rules, Schema, Shape};

/// Marks a schema as that of a kind.
const KINDS: &str = "x-kubernetes-group-version-kind";

/// The named types of a document.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    schemas: Map<String, Value>,
}

// === impl Definitions ===

impl Definitions {
    /// Adds a kind and every type that it refers to.
    pub(super) fn add(&mut self, resource: &ResourceType) {
        let Some(name) = &resource.schema.type_name else {
            return;
        };
        self.add_type(name, &resource.schema);
        self.schemas[&**name][KINDS] = json!([group_version_kind(resource)]);
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.schemas)
    }

    fn add_type(&mut self, name: &str, schema: &Schema) {
        if self.schemas.contains_key(name) {
            return;
        }
        // The name is taken before the parts are written, so that a type is written once.
        self.schemas.insert(name.to_owned(), Value::Null);
        let mut written = self.written_out(schema);
        if let Some(description) = &schema.description {
            written["description"] = json!(**description);
        }
        self.schemas.insert(name.to_owned(), written);
    }

    /// A reference to a named type, or the schema itself.
    fn part(&mut self, schema: &Schema) -> Value {
        match &schema.type_name {
            Some(name) => {
                self.add_type(name, schema);
                json!({"$ref": format!("#/components/schemas/{name}")})
            }
            None => self.written_out(schema),
        }
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut written = self.part(&field.schema);
        if let Some(description) = &field.description {
            if written.get("$ref").is_some() {
                // Nothing may stand beside a reference in OpenAPI 3.0.
                written = json!({"allOf": [written]});
            }
            written["description"] = json!(**description);
        }
        written
    }

    fn written_out(&mut self, schema: &Schema) -> Value {
        let mut written = match &schema.shape {
            Shape::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
            Shape::IntOrString => json!({"x-kubernetes-int-or-string": true}),
            // As the real server has it: a quantity is written as text.
            Shape::Quantity => json!({"type": "string"}),
            Shape::Boolean => json!({"type": "boolean"}),
            Shape::Integer { format } => scalar("integer", format.as_deref()),
            Shape::Number { format } => scalar("number", format.as_deref()),
            Shape::String { format } => scalar("string", format.as_deref()),
            Shape::Map { values, atomic } => {
                let mut map = json!({"type": "object", "additionalProperties": self.part(values)});
                if *atomic {
                    map["x-kubernetes-map-type"] = json!("atomic");
                }
                map
            }
            Shape::Object(fields) => self.object(fields),
            Shape::List { items, kind } => self.list(items, kind),
        };
        if let Some(default) = &schema.default {
            written["default"] = Value::clone(default);
        }
        if schema.null == Null::Kept {
            written["nullable"] = json!(true);
        }
        if let Some(rules) = &schema.rules {
            add_rules(&mut written, rules);
        }
        written
    }

    fn object(&mut self, fields: &Fields) -> Value {
        let mut written = json!({"type": "object"});
        if !fields.known.is_empty() {
            let properties: Map<String, Value> = fields
                .known
                .iter()
                .map(|field| (field.name.to_string(), self.field(field)))
                .collect();
            written["properties"] = Value::Object(properties);
        }
        let required: Vec<&str> =
            fields.known.iter().filter(|field| field.required).map(|field| &*field.name).collect();
        if !required.is_empty() {
            written["required"] = json!(required);
        }
        if fields.open && !fields.known.is_empty() {
            written["x-kubernetes-preserve-unknown-fields"] = json!(true);
        }
        if fields.atomic {
            written["x-kubernetes-map-type"] = json!("atomic");
        }
        written
    }

    fn list(&mut self, items: &Schema, kind: &ListKind) -> Value {
        let mut written = json!({"type": "array", "items": self.part(items)});
        match kind {
            ListKind::Atomic => written["x-kubernetes-list-type"] = json!("atomic"),
            ListKind::Set => written["x-kubernetes-list-type"] = json!("set"),
            ListKind::Map(keys) => {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                written["x-kubernetes-list-type"] = json!("map");
                written["x-kubernetes-list-map-keys"] = json!(keys);
            }
        }
        written
    }
}

fn scalar(name: &str, format: Option<&str>) -> Value {
    match format {
        Some(format) => json!({"type": name, "format": format}),
        None => json!({"type": name}),
    }
}

fn add_rules(written: &mut Value, rules: &Rules) {
    let Rules { allowed, minimum, maximum, min_length, max_length, min_items, max_items } = rules;
    if !allowed.is_empty() {
        written["enum"] = json!(allowed);
    }
    let numbers = [("minimum", minimum), ("maximum", maximum)];
    for (name, number) in numbers {
        if let Some(number) = number {
            written[name] = json!(number);
        }
    }
    let counts = [
        ("minLength", min_length),
        ("maxLength", max_length),
        ("minItems", min_items),
        ("maxItems", max_items),
    ];
    for (name, count) in counts {
        if let Some(count) = count {
            written[name] = json!(count);
        }
    }
}
