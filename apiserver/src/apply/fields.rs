//! Sets of fields, and their form in `managedFields` (FieldsV1).
//!
//! A set is a trie whose steps are FieldsV1's own: `f:name` for a field, `k:{"name":"a"}` for an
//! item of a list that is a map, `v:"a"` for an item of a set. A node can be in the set itself
//! (`.`) and have nodes below it that are in the set.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::schema::{Schema, item_key};

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// Whether the node itself is in the set.
    pub(super) member: bool,
    /// Never holds an empty set.
    pub(super) below: BTreeMap<Box<str>, Self>,
}

/// Which of the nodes that hold others are members of the set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holders {
    /// Items of lists, empty objects, and objects under keys that the schema does not declare: the
    /// nodes that an applier owns.
    Applied,
    /// All: the nodes that an update changes by adding them.
    All,
}

// === impl FieldSet ===

impl FieldSet {
    /// The set that holds this node alone.
    pub(super) fn leaf() -> Self {
        Self { member: true, below: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    /// Adds `child` below `step`, if it is not empty.
    pub(super) fn insert(&mut self, step: impl Into<Box<str>>, child: Self) {
        if !child.is_empty() {
            self.below.insert(step.into(), child);
        }
    }

    pub(super) fn union_with(&mut self, other: &Self) {
        self.member |= other.member;
        for (step, child) in &other.below {
            match self.below.get_mut(step) {
                Some(own) => own.union_with(child),
                None => {
                    self.below.insert(step.clone(), child.clone());
                }
            }
        }
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        for (step, child) in &other.below {
            if let Some(own) = self.below.get_mut(step) {
                own.subtract(child);
                if own.is_empty() {
                    self.below.remove(step);
                }
            }
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { member: self.member && other.member, below: BTreeMap::new() };
        for (step, child) in &self.below {
            if let Some(theirs) = other.below.get(step) {
                both.insert(step.clone(), child.intersection(theirs));
            }
        }
        both
    }

    /// Paths of all members, such as `.spec.containers[name="a"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        if self.member {
            paths.push(String::new());
        }
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, path: &str, paths: &mut Vec<String>) {
        // As the real server does: a level's own fields, and then what is below them.
        let own = self.below.iter().filter(|(_, child)| child.member);
        paths.extend(own.map(|(step, _)| format!("{path}{}", step_text(step))));
        for (step, child) in &self.below {
            child.collect_paths(&format!("{path}{}", step_text(step)), paths);
        }
    }

    /// As FieldsV1.
    pub(super) fn to_value(&self) -> Value {
        let mut object = Map::new();
        if self.member && !self.below.is_empty() {
            object.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, child) in &self.below {
            object.insert(step.to_string(), child.to_value());
        }
        Value::Object(object)
    }

    /// From FieldsV1; steps of unknown kinds are kept, so that nothing is lost.
    pub(super) fn from_value(value: &Value) -> Self {
        let mut set = Self::default();
        for (step, child) in value.as_object().into_iter().flatten() {
            if step == "." {
                set.member = true;
                continue;
            }
            let mut child_set = Self::from_value(child);
            child_set.member |= child_set.below.is_empty();
            set.below.insert(step.as_str().into(), child_set);
        }
        set
    }
}

/// The fields that applying `value` owns.
pub(super) fn applied_fields(schema: &Schema, value: &Value) -> FieldSet {
    collect(schema, value, Holders::Applied)
}

/// Every field of `value`, and every node that holds some.
pub(super) fn all_fields(schema: &Schema, value: &Value) -> FieldSet {
    let mut set = collect(schema, value, Holders::All);
    // The object itself has no owner.
    set.member = false;
    set
}

/// Every node of `value`, itself included.
pub(super) fn whole(schema: &Schema, value: &Value) -> FieldSet {
    let mut set = collect(schema, value, Holders::All);
    set.member = true;
    set
}

/// The step to a field.
pub(super) fn field_step(name: &str) -> Box<str> {
    format!("f:{name}").into()
}

fn collect(schema: &Schema, value: &Value, holders: Holders) -> FieldSet {
    match value {
        Value::Object(object) if schema.merges_fields() => {
            let mut set = FieldSet::default();
            for (name, value) in object {
                let Some(child) = schema.child(name) else {
                    continue;
                };
                let mut below = collect(child, value, holders);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                below.member |= empty || holders == Holders::All || !schema.declares(name);
                set.insert(field_step(name), below);
            }
            set
        }
        Value::Array(list) => {
            let Some((items, kind)) = schema.merged_list() else {
                return FieldSet::leaf();
            };
            let mut set = FieldSet::default();
            for item in list {
                if let Some(key) = item_key(items, kind, item) {
                    let mut below = collect(items, item, holders);
                    below.member = true;
                    set.insert(key, below);
                }
            }
            set
        }
        _ => FieldSet::leaf(),
    }
}

/// `.name` for a field, `[name="a"]` for an item of a map, `[="a"]` for one of a set.
fn step_text(step: &str) -> String {
    if let Some(name) = step.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(value) = step.strip_prefix("v:") {
        return format!("[={value}]");
    }
    let keys = step.strip_prefix("k:").and_then(|keys| serde_json::from_str(keys).ok());
    match keys {
        Some(Value::Object(keys)) => {
            let keys: Vec<String> =
                keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        _ => format!("[{step}]"),
    }
}
