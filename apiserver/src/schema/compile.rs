//! From JSON schemas to [`Schema`]s.
//!
//! Two dialects come in: the structural schemas of CRDs, and the schemas that schemars makes of
//! k8s-openapi's types, where named types refer to each other. Keywords that neither uses are not
//! read; a test over every kind that is shipped checks that.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::builtin;
use super::shape::{Field, Fields, ListKind, Null, Rules, Schema, Shape};

/// Prefix of a reference to a named type, as schemars writes it.
const REFERENCE_PREFIX: &str = "#/$defs/";

/// Compiles schemas and shares their equal parts; drop it when all kinds are compiled.
#[derive(Debug, Default)]
pub struct Compiler {
    definitions: Map<String, Value>,
    named: HashMap<String, Arc<Schema>>,
    nodes: HashSet<Arc<Schema>>,
    texts: HashSet<Arc<str>>,
}

/// The dialect of a schema.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Custom,
    BuiltIn,
}

/// A schema, and the description that goes to the field which has it.
struct Described {
    schema: Arc<Schema>,
    description: Option<Arc<str>>,
}

// === impl Compiler ===

impl Compiler {
    /// A compiler that knows the built-in types `definitions`, by their OpenAPI names.
    pub fn new(definitions: Map<String, Value>) -> Self {
        Self { definitions, ..Self::default() }
    }

    /// The built-in type called `name`, such as `io.k8s.api.core.v1.Pod`; an open object if
    /// there is none.
    pub fn built_in(&mut self, name: &str) -> Arc<Schema> {
        if let Some(schema) = self.named.get(name) {
            return Arc::clone(schema);
        }
        let Some(definition) = self.definitions.remove(name) else {
            // Either unknown, or the type contains itself and is being compiled right now.
            return self.node(Schema::of(Shape::Any));
        };
        let mut schema = self.schema(&definition, Dialect::BuiltIn, name);
        schema.type_name = Some(self.text(name));
        schema.description = self.description(&definition);
        let schema = self.node(schema);
        self.named.insert(name.to_owned(), Arc::clone(&schema));
        schema
    }

    /// A whole custom kind from its structural schema; `name` is its name in the OpenAPI
    /// document, `metadata` the schema of every kind's metadata.
    pub fn custom(&mut self, schema: &Value, name: &str, metadata: &Arc<Schema>) -> Arc<Schema> {
        let mut root = self.schema(schema, Dialect::Custom, "");
        root.type_name = Some(self.text(name));
        root.description = self.description(schema);
        if let Shape::Object(fields) = &mut root.shape {
            let string = self.node(Schema::of(Shape::String { format: None }));
            let own = [
                ("apiVersion", builtin::API_VERSION, &string),
                ("kind", builtin::KIND, &string),
                ("metadata", builtin::METADATA, metadata),
            ];
            let mut known: Vec<Field> = std::mem::take(&mut fields.known).into_vec();
            for (name, description, schema) in own {
                known.retain(|field| &*field.name != name);
                known.push(Field {
                    name: self.text(name),
                    description: Some(self.text(description)),
                    required: false,
                    schema: Arc::clone(schema),
                });
            }
            known.sort_by(|a, b| a.name.cmp(&b.name));
            fields.known = known.into();
        }
        self.node(root)
    }

    fn described(&mut self, schema: &Value, dialect: Dialect) -> Described {
        let description = self.description(schema);
        let reference = schema.get("$ref").and_then(Value::as_str);
        let name = reference.and_then(|name| name.strip_prefix(REFERENCE_PREFIX));
        let schema = if let Some(name) = name {
            self.built_in(name)
        } else {
            let schema = self.schema(schema, dialect, "");
            self.node(schema)
        };
        Described { schema, description }
    }

    fn schema(&mut self, schema: &Value, dialect: Dialect, type_name: &str) -> Schema {
        let shape = match builtin::whole_shape(type_name) {
            Some(shape) => shape,
            None => self.shape(schema, dialect, type_name),
        };
        let nullable = schema.get("nullable").and_then(Value::as_bool);
        Schema {
            type_name: None,
            description: None,
            shape,
            null: match dialect {
                Dialect::BuiltIn => Null::Dropped,
                Dialect::Custom if nullable == Some(true) => Null::Kept,
                Dialect::Custom => Null::Refused,
            },
            default: schema.get("default").cloned().map(Box::new),
            rules: rules(schema),
        }
    }

    fn shape(&mut self, schema: &Value, dialect: Dialect, type_name: &str) -> Shape {
        if flag(schema, "x-kubernetes-int-or-string") {
            return Shape::IntOrString;
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => self.object(schema, dialect, type_name),
            Some("array") => Shape::List {
                items: match schema.get("items") {
                    Some(items) => self.described(items, dialect).schema,
                    None => self.node(Schema::of(Shape::Any)),
                },
                kind: self.list_kind(schema),
            },
            Some("string") => Shape::String { format: self.format(schema) },
            Some("integer") => Shape::Integer { format: self.format(schema) },
            Some("number") => Shape::Number { format: self.format(schema) },
            Some("boolean") => Shape::Boolean,
            _ => Shape::Any,
        }
    }

    fn object(&mut self, schema: &Value, dialect: Dialect, type_name: &str) -> Shape {
        let atomic = text(schema, "x-kubernetes-map-type") == Some("atomic");
        let properties = schema.get("properties").and_then(Value::as_object);
        if properties.is_none()
            && let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object())
        {
            return Shape::Map { values: self.described(values, dialect).schema, atomic };
        }
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let known: Box<[Field]> = properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| {
                let required = required.contains(&name.as_str());
                self.field(name, required, schema, (dialect, type_name))
            })
            .collect();
        // A built-in type without fields, such as RawExtension, stands for any object.
        let free = dialect == Dialect::BuiltIn && known.is_empty();
        Shape::Object(Fields {
            known,
            open: free || flag(schema, "x-kubernetes-preserve-unknown-fields"),
            atomic: atomic || builtin::is_atomic(type_name),
        })
    }

    fn field(
        &mut self,
        name: &str,
        required: bool,
        schema: &Value,
        (dialect, parent): (Dialect, &str),
    ) -> Field {
        let adapted =
            (dialect == Dialect::BuiltIn).then(|| builtin::adapted(parent, name, schema)).flatten();
        let described = self.described(adapted.as_ref().unwrap_or(schema), dialect);
        Field {
            name: self.text(name),
            description: described.description,
            required: required
                && !(dialect == Dialect::BuiltIn && builtin::is_optional(parent, name)),
            schema: described.schema,
        }
    }

    fn list_kind(&mut self, schema: &Value) -> ListKind {
        let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
        match (text(schema, "x-kubernetes-list-type"), keys) {
            (Some("set"), _) => ListKind::Set,
            (Some("map"), Some(keys)) if !keys.is_empty() => {
                let keys = keys.iter().filter_map(Value::as_str);
                ListKind::Map(keys.map(|key| self.text(key)).collect())
            }
            _ => ListKind::Atomic,
        }
    }

    fn format(&mut self, schema: &Value) -> Option<Arc<str>> {
        text(schema, "format").map(|format| self.text(format))
    }

    fn description(&mut self, schema: &Value) -> Option<Arc<str>> {
        text(schema, "description").map(|description| self.text(description))
    }

    fn node(&mut self, schema: Schema) -> Arc<Schema> {
        if let Some(known) = self.nodes.get(&schema) {
            return Arc::clone(known);
        }
        let schema = Arc::new(schema);
        self.nodes.insert(Arc::clone(&schema));
        schema
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }
}

fn rules(schema: &Value) -> Option<Box<Rules>> {
    let number = |name: &str| schema.get(name).and_then(Value::as_number).cloned();
    let count = |name: &str| schema.get(name).and_then(Value::as_u64);
    let allowed = schema.get("enum").and_then(Value::as_array);
    let rules = Rules {
        allowed: allowed.cloned().unwrap_or_default().into(),
        minimum: number("minimum"),
        maximum: number("maximum"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
    };
    (rules != Rules::default()).then(|| Box::new(rules))
}

fn text<'a>(schema: &'a Value, name: &str) -> Option<&'a str> {
    schema.get(name).and_then(Value::as_str)
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool) == Some(true)
}
