//! Strategic merge patch.
//!
//! The rules are those of `k8s.io/apimachinery/pkg/util/strategicpatch`. Lists merge by their
//! patch merge key, which is the first of the fields that tell their items apart in server-side
//! apply (`containerPort` alone for ports).

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{ListKind, Schema, weave};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList/";

type Fields = Map<String, Value>;

/// Merges `patch` into `target`, which is of the form `schema`.
pub(super) fn merge_object(
    schema: &Schema,
    target: &mut Fields,
    patch: &Fields,
) -> Result<(), PatchError> {
    match directive(patch)? {
        Some(Directive::Replace) => {
            target.clone_from(patch);
            target.remove(PATCH);
            return Ok(());
        }
        Some(Directive::Delete) => {
            target.clear();
            return Ok(());
        }
        Some(Directive::Merge) | None => {}
    }
    if let Some(keys) = patch.get(RETAIN_KEYS) {
        let keys = list(keys, RETAIN_KEYS)?;
        target.retain(|name, _| keys.iter().any(|key| key.as_str() == Some(name)));
    }
    for (name, values) in directives(patch, DELETE_FROM_PRIMITIVE_LIST) {
        let values = list(values, DELETE_FROM_PRIMITIVE_LIST)?;
        if let Some(Value::Array(items)) = target.get_mut(name) {
            items.retain(|item| !values.contains(item));
        }
    }
    for (name, order) in directives(patch, SET_ELEMENT_ORDER) {
        check_order(schema, name, patch.get(name), list(order, SET_ELEMENT_ORDER)?)?;
    }
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        merge_field(schema, target, name, value)?;
    }
    for (name, order) in directives(patch, SET_ELEMENT_ORDER) {
        let order = list(order, SET_ELEMENT_ORDER)?;
        if let Some(Value::Array(items)) = target.get_mut(name)
            && let Some((_, kind)) = schema.child(name).and_then(Schema::merged_list)
        {
            reorder(kind, items, order, None);
        }
    }
    Ok(())
}

fn merge_field(
    schema: &Schema,
    target: &mut Fields,
    name: &str,
    value: &Value,
) -> Result<(), PatchError> {
    let child = schema.child(name);
    match value {
        Value::Null => {
            target.remove(name);
        }
        Value::Object(patch) => {
            if matches!(directive(patch)?, Some(Directive::Delete)) {
                target.remove(name);
                return Ok(());
            }
            let current = target.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if !current.is_object() {
                *current = Value::Object(Map::new());
            }
            match (child, current) {
                (Some(child), Value::Object(current)) => merge_object(child, current, patch)?,
                (_, current) => json_patch::merge(current, value),
            }
        }
        Value::Array(patch) => {
            let current = match target.get_mut(name) {
                Some(Value::Array(items)) => std::mem::take(items),
                _ => Vec::new(),
            };
            let identities = |kind: &ListKind| -> Vec<Value> {
                current.iter().filter_map(|item| identity(kind, item)).collect()
            };
            let merged = match child.and_then(Schema::merged_list) {
                Some((items, kind @ ListKind::Map(keys))) => {
                    let before = identities(kind);
                    let mut merged = merge_items(items, &keys[0], current, patch)?;
                    reorder(kind, &mut merged, patch, Some(&before));
                    merged
                }
                Some((_, kind @ ListKind::Set)) => {
                    let before = identities(kind);
                    let mut merged = union(current, patch);
                    reorder(kind, &mut merged, patch, Some(&before));
                    merged
                }
                _ => patch.clone(),
            };
            target.insert(name.to_owned(), Value::Array(merged));
        }
        value => {
            target.insert(name.to_owned(), value.clone());
        }
    }
    Ok(())
}

/// Merges a list of objects by the field `key`.
fn merge_items(
    schema: &Schema,
    key: &str,
    mut current: Vec<Value>,
    patch: &[Value],
) -> Result<Vec<Value>, PatchError> {
    let mut replaced = false;
    for item in patch {
        if matches!(
            item.as_object().map(directive).transpose()?.flatten(),
            Some(Directive::Replace)
        ) {
            replaced = true;
        }
    }
    if replaced {
        current.clear();
    }
    for item in patch {
        let Value::Object(fields) = item else {
            return Err(PatchError::Malformed(format!(
                "an item of a list that merges by {key} is not an object"
            )));
        };
        let asked = directive(fields)?;
        if matches!(asked, Some(Directive::Replace)) {
            continue;
        }
        // Only a scalar tells items apart: with any other value, each patch would add its item anew.
        let scalar = |value: &&Value| value.is_string() || value.is_number() || value.is_boolean();
        let identity = fields.get(key).filter(scalar).ok_or_else(|| {
            PatchError::Malformed(format!("map: {item} does not contain declared merge key: {key}"))
        })?;
        let same = |other: &Value| other.get(key) == Some(identity);
        if matches!(asked, Some(Directive::Delete)) {
            current.retain(|other| !same(other));
            continue;
        }
        if let Some(Value::Object(found)) = current.iter_mut().find(|other| same(other)) {
            merge_object(schema, found, fields)?;
        } else {
            let mut added = Map::new();
            merge_object(schema, &mut added, fields)?;
            current.push(Value::Object(added));
        }
    }
    Ok(current)
}

/// Refuses a patch whose items stand in another order than the one that it asks for, as the real
/// server does: one of the two is not what the client means.
fn check_order(
    schema: &Schema,
    name: &str,
    patch: Option<&Value>,
    order: &[Value],
) -> Result<(), PatchError> {
    let Some((_, kind)) = schema.child(name).and_then(Schema::merged_list) else { return Ok(()) };
    let Some(items) = patch.and_then(Value::as_array).filter(|_| !order.is_empty()) else {
        return Ok(());
    };
    let mut rest = order.iter();
    let mut asked = items.iter().filter(|item| item.get(PATCH).is_none());
    if asked.all(|item| rest.any(|other| identity(kind, other) == identity(kind, item))) {
        return Ok(());
    }
    Err(PatchError::Malformed(format!(
        "the items of {name} are not in the order of {SET_ELEMENT_ORDER}{name}"
    )))
}

fn union(mut current: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    for item in patch {
        if !current.contains(item) {
            current.push(item.clone());
        }
    }
    current
}

/// What tells an item from the others.
fn identity(kind: &ListKind, item: &Value) -> Option<Value> {
    match kind {
        ListKind::Map(keys) => item.get(&*keys[0]).cloned(),
        ListKind::Set | ListKind::Atomic => Some(item.clone()),
    }
}

/// Puts the items into the order that the client saw; items that it did not know of keep their
/// place before the items that they preceded: in the list as it was `before` a patch, or as it is.
fn reorder(kind: &ListKind, items: &mut Vec<Value>, order: &[Value], before: Option<&[Value]>) {
    let identity = |item: &Value| identity(kind, item);
    let present: Vec<Value> = items.iter().filter_map(identity).collect();
    let distinct: HashSet<&Value> = present.iter().collect();
    if present.len() != items.len() || distinct.len() != items.len() {
        // Without distinct identities there is no order to speak of.
        return;
    }
    let mut seen = HashSet::new();
    let wanted: Vec<Value> = order
        .iter()
        .filter_map(identity)
        .filter(|key| distinct.contains(key) && seen.insert(key.clone()))
        .collect();
    let before = before.unwrap_or(&present).iter().filter(|key| distinct.contains(key));
    let before: Vec<Value> = before.cloned().collect();
    let ordered = weave(&wanted, &before);
    let taken = std::mem::take(items);
    let mut by_key: std::collections::HashMap<Value, Value> =
        present.iter().cloned().zip(taken).collect();
    items.extend(ordered.iter().filter_map(|key| by_key.remove(key)));
}

/// The action that `$patch` asks for.
#[derive(Clone, Copy)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Fields) -> Result<Option<Directive>, PatchError> {
    match patch.get(PATCH).map(Value::as_str) {
        None => Ok(None),
        Some(Some("merge")) => Ok(Some(Directive::Merge)),
        Some(Some("replace")) => Ok(Some(Directive::Replace)),
        Some(Some("delete")) => Ok(Some(Directive::Delete)),
        Some(other) => Err(PatchError::Malformed(format!(
            "unknown patch type found: {}",
            other.unwrap_or("not a string")
        ))),
    }
}

fn directives<'a>(
    patch: &'a Fields,
    prefix: &'static str,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    patch.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value)))
}

fn list<'a>(value: &'a Value, directive: &str) -> Result<&'a [Value], PatchError> {
    let items = value.as_array();
    items
        .map(Vec::as_slice)
        .ok_or_else(|| PatchError::Malformed(format!("the value of {directive} is not a list")))
}
