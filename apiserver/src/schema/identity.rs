//! Which items of two lists are the same item, and in which order a merged list stands.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use serde_json::{Map, Value};

use super::shape::{ListKind, Schema, Shape};

/// Names an item among its siblings, in the form that managed fields use: `k:{"name":"a"}` in a
/// list that is a map, `v:"a"` in a set. A key field that is left out has its default.
///
/// `None` if the item lacks a key field, or the list is atomic: its items have no identity.
pub(crate) fn item_key(items: &Schema, kind: &ListKind, item: &Value) -> Option<String> {
    match kind {
        ListKind::Atomic => None,
        ListKind::Set => Some(format!("v:{item}")),
        ListKind::Map(keys) => {
            let object = item.as_object()?;
            let identity: Option<Map<String, Value>> = keys
                .iter()
                .map(|key| {
                    let value = match object.get(&**key) {
                        Some(value) if !value.is_null() => value,
                        _ => default_of(items, key)?,
                    };
                    Some((key.to_string(), value.clone()))
                })
                .collect();
            Some(format!("k:{}", Value::Object(identity?)))
        }
    }
}

/// The order in which server-side apply merges a list: the one of `applied`, and before its rest
/// what stands in `live` alone, up to the next shared item (`structured-merge-diff/typed/merge.go`).
///
/// Both lists are of distinct items.
pub(crate) fn interleave<K: Eq + Hash + Clone>(applied: &[K], live: &[K]) -> Vec<K> {
    let (is_applied, is_live): (HashSet<&K>, HashSet<&K>) =
        (applied.iter().collect(), live.iter().collect());
    let mut shared = applied.iter().filter(|key| is_live.contains(key));
    let mut next_shared = shared.next();
    let mut order = Vec::with_capacity(applied.len() + live.len());
    let mut merged = HashSet::new();
    let (mut at_live, mut at_applied) = (0, 0);
    while at_live < live.len() || at_applied < applied.len() {
        let (own, new) = (live.get(at_live), applied.get(at_applied));
        if let (Some(own), Some(new)) = (own, new) {
            if own == new {
                merged.insert(own);
                order.push(own.clone());
                (at_live, at_applied) = (at_live + 1, at_applied + 1);
                next_shared = shared.next();
                continue;
            }
            if is_applied.contains(own) && next_shared.is_some_and(|next| next != own) {
                at_live += 1;
                continue;
            }
        }
        if let Some(own) = own {
            if !is_applied.contains(own) {
                order.push(own.clone());
                at_live += 1;
                continue;
            }
            at_live += usize::from(merged.contains(own));
        }
        if let Some(new) = new {
            merged.insert(new);
            order.push(new.clone());
            at_applied += 1;
            if next_shared == Some(new) {
                next_shared = shared.next();
            }
        }
    }
    order
}

/// The order of a list in a strategic merge patch: the items of `leading` in their order. An item
/// that only `other` has stands right before the first shared item that it preceded there, or at the
/// end.
///
/// Both lists are of distinct items.
pub(crate) fn weave<K: Eq + Hash + Clone>(leading: &[K], other: &[K]) -> Vec<K> {
    let leads: HashSet<&K> = leading.iter().collect();
    let positions: HashMap<&K, usize> = other.iter().enumerate().map(|(i, key)| (key, i)).collect();
    let mut order = Vec::with_capacity(leading.len() + other.len());
    let mut passed = 0;
    for key in leading {
        if let Some(&position) = positions.get(key) {
            while passed < position {
                if !leads.contains(&other[passed]) {
                    order.push(other[passed].clone());
                }
                passed += 1;
            }
        }
        order.push(key.clone());
    }
    let rest = other[passed..].iter().filter(|key| !leads.contains(key));
    order.extend(rest.cloned());
    order
}

fn default_of<'a>(items: &'a Schema, key: &str) -> Option<&'a Value> {
    match &items.shape {
        Shape::Object(fields) => fields.get(key)?.schema.default.as_deref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{interleave, weave};

    #[test]
    fn an_applied_list_stands_behind_what_is_there() {
        assert_eq!(interleave(&["b", "c"], &["a"]), ["a", "b", "c"]);
        assert_eq!(interleave(&["a", "x"], &["a", "b"]), ["a", "b", "x"]);
        assert_eq!(interleave(&["x", "b"], &["a", "b", "c"]), ["a", "x", "b", "c"]);
        assert_eq!(interleave(&["b", "a"], &["a", "b", "c"]), ["b", "c", "a"]);
        assert_eq!(interleave::<&str>(&[], &["a"]), ["a"]);
    }

    #[test]
    fn items_of_one_side_keep_their_place_before_what_they_preceded() {
        assert_eq!(weave(&["b", "c"], &["a", "b", "c", "d"]), ["a", "b", "c", "d"]);
        assert_eq!(weave(&["c", "b"], &["a", "b", "c", "d"]), ["a", "c", "b", "d"]);
        assert_eq!(weave(&["x"], &["a"]), ["x", "a"]);
        assert_eq!(weave::<&str>(&[], &["a", "b"]), ["a", "b"]);
    }
}
