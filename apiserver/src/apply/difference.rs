//! What differs between two objects, field by field.

use serde_json::{Map, Value};

use super::fields::{FieldSet, field_step, whole};
use crate::schema::{ListKind, Schema, item_key};

/// The fields in which a new object differs from an old one.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Added, or with another value.
    pub(super) changed: FieldSet,
    /// No longer there.
    pub(super) removed: FieldSet,
}

// === impl Difference ===

impl Difference {
    fn insert(&mut self, step: impl Into<Box<str>>, below: Self) {
        let step = step.into();
        self.changed.insert(step.clone(), below.changed);
        self.removed.insert(step, below.removed);
    }
}

/// Compares the objects at the granularity at which fields are owned.
pub(super) fn compare(schema: &Schema, old: &Value, new: &Value) -> Difference {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) if schema.merges_fields() => {
            compare_objects(schema, old, new)
        }
        (Value::Array(old), Value::Array(new)) if schema.merged_list().is_some() => {
            match schema.merged_list() {
                Some((items, kind)) => compare_lists(items, kind, old, new),
                None => Difference::default(),
            }
        }
        (old, new) if old == new => Difference::default(),
        (old, new) => {
            let changed = whole(schema, new);
            let mut removed = whole(schema, old);
            removed.subtract(&changed);
            Difference { changed, removed }
        }
    }
}

fn compare_objects(
    schema: &Schema,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Difference {
    let mut difference = Difference::default();
    for (name, new_value) in new {
        let Some(child) = schema.child(name) else {
            continue;
        };
        let below = match old.get(name) {
            Some(old_value) => compare(child, old_value, new_value),
            None => Difference { changed: whole(child, new_value), removed: FieldSet::default() },
        };
        difference.insert(field_step(name), below);
    }
    for (name, old_value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        if let Some(child) = schema.child(name) {
            let removed = whole(child, old_value);
            difference.removed.insert(field_step(name), removed);
        }
    }
    difference
}

fn compare_lists(items: &Schema, kind: &ListKind, old: &[Value], new: &[Value]) -> Difference {
    let mut difference = Difference::default();
    let keyed = |list: &[Value]| -> Vec<(String, usize)> {
        let keys = list.iter().enumerate();
        keys.filter_map(|(index, item)| Some((item_key(items, kind, item)?, index))).collect()
    };
    let old_keys: std::collections::HashMap<String, usize> = keyed(old).into_iter().collect();
    let new_keys: std::collections::HashMap<String, usize> = keyed(new).into_iter().collect();
    for (key, &index) in &new_keys {
        let below = match old_keys.get(key) {
            Some(&old_index) => compare(items, &old[old_index], &new[index]),
            None => Difference { changed: whole(items, &new[index]), removed: FieldSet::default() },
        };
        difference.insert(key.as_str(), below);
    }
    for (key, &index) in old_keys.iter().filter(|(key, _)| !new_keys.contains_key(*key)) {
        let removed = whole(items, &old[index]);
        difference.removed.insert(key.as_str(), removed);
    }
    difference
}
