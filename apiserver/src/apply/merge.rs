//! Merges an applied object over the live one, and removes the fields that were dropped from it.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::fields::FieldSet;
use crate::schema::{ListKind, Schema, interleave, item_key};

/// Refuses an `applied` that cannot be merged: an item of a merged list has no identity, or occurs
/// twice.
pub(super) fn check(schema: &Schema, applied: &Value) -> Result<(), String> {
    check_below(schema, applied, "")
}

/// `applied` over `live`: objects field by field, lists as their kind says, all else replaced.
pub(super) fn merge(schema: &Schema, live: Option<&Value>, applied: &Value) -> Value {
    match (live, applied) {
        (Some(Value::Object(live)), Value::Object(applied)) if schema.merges_fields() => {
            let mut merged = live.clone();
            for (name, value) in applied {
                let value = match schema.child(name) {
                    Some(child) => merge(child, live.get(name), value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Some(Value::Array(live)), Value::Array(applied)) => match schema.merged_list() {
            Some((items, kind)) => Value::Array(merge_lists(items, kind, live, applied)),
            None => Value::Array(applied.clone()),
        },
        (_, applied) => applied.clone(),
    }
}

/// Removes from `value` the fields of `before` (owned by a manager until now) that are not in
/// `kept` (owned by any manager now).
///
/// An item, or a field that the schema names, is removed as a whole if no manager owns anything in
/// it, together with defaults inside that have no owner. The object's own metadata always stays.
pub(super) fn remove_dropped(
    schema: &Schema,
    value: &mut Value,
    before: &FieldSet,
    kept: &FieldSet,
) {
    let Value::Object(object) = value else { return };
    let nothing = FieldSet::default();
    if let (Some(before), Some(schema), Some(metadata)) =
        (before.below.get("f:metadata"), schema.child("metadata"), object.get_mut("metadata"))
    {
        let kept = kept.below.get("f:metadata").unwrap_or(&nothing);
        remove_below(schema, metadata, before, kept);
    }
    let mut rest = before.clone();
    rest.below.remove("f:metadata");
    remove_below(schema, value, &rest, kept);
}

fn remove_below(schema: &Schema, value: &mut Value, before: &FieldSet, kept: &FieldSet) {
    match value {
        Value::Object(object) => {
            for (step, child_before) in &before.below {
                if let Some(name) = step.strip_prefix("f:") {
                    remove_field(schema, object, name, (child_before, kept.below.get(step)));
                }
            }
        }
        Value::Array(list) => {
            let Some((items, kind)) = schema.merged_list() else {
                return;
            };
            list.retain_mut(|item| {
                let Some(key) = item_key(items, kind, item) else {
                    return true;
                };
                match (before.below.get(&*key), kept.below.get(&*key)) {
                    (None, _) => true,
                    (Some(before), Some(kept)) => {
                        remove_below(items, item, before, kept);
                        true
                    }
                    (Some(_), None) => false,
                }
            });
        }
        _ => {}
    }
}

fn remove_field(
    schema: &Schema,
    object: &mut Map<String, Value>,
    name: &str,
    (before, kept): (&FieldSet, Option<&FieldSet>),
) {
    let (Some(child), Some(value)) = (schema.child(name), object.get_mut(name)) else {
        return;
    };
    match kept {
        Some(kept) => remove_below(child, value, before, kept),
        None if before.member || schema.declares(name) => {
            object.remove(name);
        }
        None => {
            remove_below(child, value, before, &FieldSet::default());
            let empty = match value {
                Value::Object(object) => object.is_empty(),
                Value::Array(list) => list.is_empty(),
                _ => false,
            };
            if empty {
                object.remove(name);
            }
        }
    }
}

fn merge_lists(items: &Schema, kind: &ListKind, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let (live_order, live_items) = keyed(items, kind, live);
    let (applied_order, applied_items) = keyed(items, kind, applied);
    interleave(&applied_order, &live_order)
        .into_iter()
        .filter_map(|key| match (live_items.get(&key), applied_items.get(&key)) {
            (live, Some(applied)) => Some(merge(items, live.copied(), applied)),
            (Some(live), None) => Some(Value::clone(live)),
            (None, None) => None,
        })
        .collect()
}

/// The distinct items by key, and their order. Only an update can have written an item twice or
/// without its key; the first of equal items counts, and an item without a key is known by its
/// value.
fn keyed<'a>(
    items: &Schema,
    kind: &ListKind,
    list: &'a [Value],
) -> (Vec<String>, HashMap<String, &'a Value>) {
    let mut order = Vec::with_capacity(list.len());
    let mut by_key = HashMap::with_capacity(list.len());
    for item in list {
        let key = item_key(items, kind, item).unwrap_or_else(|| format!("v:{item}"));
        by_key.entry(key).or_insert_with_key(|key| {
            order.push(key.clone());
            item
        });
    }
    (order, by_key)
}

fn check_below(schema: &Schema, value: &Value, path: &str) -> Result<(), String> {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                if let Some(child) = schema.child(name) {
                    check_below(child, value, &format!("{path}.{name}"))?;
                }
            }
        }
        Value::Array(list) => {
            let Some((items, kind)) = schema.merged_list() else {
                return Ok(());
            };
            let mut seen = HashSet::with_capacity(list.len());
            for (index, item) in list.iter().enumerate() {
                let Some(key) = item_key(items, kind, item) else {
                    return Err(format!(
                        "{path}: element {index}: associative list with keys has an element \
                         that omits a key field that has no default value"
                    ));
                };
                check_below(items, item, &format!("{path}[{index}]"))?;
                if let Some(key) = seen.replace(key) {
                    let key = key.split_once(':').map_or(key.as_str(), |(_, key)| key);
                    return Err(format!("{path}: duplicate entries for key {key}"));
                }
            }
        }
        _ => {}
    }
    Ok(())
}
