//! Defaults: values that the server fills in where a manifest leaves a field out.

use serde_json::Value;

use super::shape::{Null, Schema, Shape};

// === impl Schema ===

impl Schema {
    /// Fills in defaults in the objects that are there; no object is made only to hold a default.
    ///
    /// A `null` that the schema does not allow counts as a field that is left out.
    pub fn apply_defaults(&self, object: &mut Value) {
        match (&self.shape, object) {
            (Shape::Object(fields), Value::Object(object)) => {
                for field in &fields.known {
                    let value = object.get_mut(&*field.name);
                    match (value, &field.schema.default) {
                        (None, Some(default)) => {
                            let mut value = Value::clone(default);
                            field.schema.apply_defaults(&mut value);
                            object.insert(field.name.to_string(), value);
                        }
                        (Some(value), Some(default))
                            if value.is_null() && field.schema.null != Null::Kept =>
                        {
                            *value = Value::clone(default);
                            field.schema.apply_defaults(value);
                        }
                        (Some(value), _) => field.schema.apply_defaults(value),
                        (None, None) => {}
                    }
                }
            }
            (Shape::Map { values, .. }, Value::Object(object)) => {
                for value in object.values_mut() {
                    values.apply_defaults(value);
                }
            }
            (Shape::List { items, .. }, Value::Array(list)) => {
                for item in list {
                    items.apply_defaults(item);
                }
            }
            _ => {}
        }
    }
}
