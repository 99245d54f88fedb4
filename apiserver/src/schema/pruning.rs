//! Fields that a schema does not know: naming them and dropping them.

use serde_json::Value;

use super::path::{Path, Step};
use super::shape::{Null, Schema, Shape};

// === impl Schema ===

impl Schema {
    /// Paths of fields that the schema does not know, such as `spec.template.spec.foo`.
    ///
    /// A value of a wrong type has none: [`Schema::validate`] reports it.
    pub fn unknown_fields(&self, object: &Value) -> Vec<String> {
        let mut found = Vec::new();
        collect(self, object, &mut Path::default(), &mut found);
        found
    }

    /// Drops the fields that the schema does not know, and, of built-in kinds, those that are
    /// `null`: the real server decodes these into structs, where null is the same as nothing.
    pub fn prune(&self, object: &mut Value) {
        match (&self.shape, object) {
            (Shape::Object(fields), Value::Object(object)) => {
                object.retain(|name, value| match fields.get(name) {
                    Some(field) if value.is_null() => field.schema.null != Null::Dropped,
                    Some(field) => {
                        field.schema.prune(value);
                        true
                    }
                    None => fields.open,
                });
            }
            (Shape::Map { values, .. }, Value::Object(object)) => {
                for value in object.values_mut() {
                    // Go has no null in a map of texts.
                    if value.is_null() && values.is_text() && values.null == Null::Dropped {
                        *value = Value::from("");
                    }
                    values.prune(value);
                }
            }
            (Shape::List { items, .. }, Value::Array(list)) => {
                for item in list {
                    items.prune(item);
                }
            }
            _ => {}
        }
    }

    /// Drops the lists and maps of built-in kinds that have nothing in them: the real server leaves
    /// them out when it encodes an object. An empty list of managers is a wish, and stays.
    pub(crate) fn drop_empty(&self, object: &mut Value) {
        match (&self.shape, object) {
            (Shape::Object(fields), Value::Object(object)) => object.retain(|name, value| {
                let Some(field) = fields.get(name) else { return true };
                field.schema.drop_empty(value);
                field.required || name == "managedFields" || !field.schema.says_nothing(value)
            }),
            (Shape::Map { values, .. }, Value::Object(object)) => {
                object.values_mut().for_each(|value| values.drop_empty(value));
            }
            (Shape::List { items, .. }, Value::Array(list)) => {
                for item in list {
                    items.drop_empty(item);
                }
            }
            _ => {}
        }
    }

    fn is_text(&self) -> bool {
        matches!(self.shape, Shape::String { .. })
    }

    /// Whether a value of a built-in kind is an empty list or map.
    fn says_nothing(&self, value: &Value) -> bool {
        let is_empty = match (&self.shape, value) {
            (Shape::Map { .. }, Value::Object(map)) => map.is_empty(),
            (Shape::List { .. }, Value::Array(list)) => list.is_empty(),
            _ => false,
        };
        is_empty && self.null == Null::Dropped
    }
}

fn collect<'a>(schema: &Schema, value: &'a Value, path: &mut Path<'a>, found: &mut Vec<String>) {
    match (&schema.shape, value) {
        (Shape::Object(fields), Value::Object(object)) => {
            for (name, value) in object {
                match fields.get(name) {
                    Some(field) => {
                        path.enter(Step::Field(name));
                        collect(&field.schema, value, path, found);
                        path.leave();
                    }
                    None if fields.open => {}
                    None => found.push(path.with_field(name)),
                }
            }
        }
        (Shape::Map { values, .. }, Value::Object(object)) => {
            for (name, value) in object {
                path.enter(Step::Field(name));
                collect(values, value, path, found);
                path.leave();
            }
        }
        (Shape::List { items, .. }, Value::Array(list)) => {
            for (index, item) in list.iter().enumerate() {
                path.enter(Step::Index(index));
                collect(items, item, path, found);
                path.leave();
            }
        }
        _ => {}
    }
}
