//! Managers of an object: `metadata.managedFields` read, changed and written back.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fields::FieldSet;

/// Fields without an owner: identity, and those that only the server sets (`stripMeta` of
/// `k8s.io/apimachinery/pkg/util/managedfields`).
pub(super) const UNOWNED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "clusterName"],
    &["metadata", "creationTimestamp"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "resourceVersion"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
];

/// Metadata that an applied object may carry, as read from the server, and that is ignored.
const SERVER_METADATA: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Most managers by update that are kept apart, as in the real server; beyond it the oldest become
/// one. Otherwise an object that is written under ever new names would grow without end.
const UPDATERS_MAX: usize = 10;

/// Name of the manager that the oldest updaters become.
const ANCIENT: &str = "ancient-changes";
/// Name of the manager of all fields that were there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The author of a write, its way and its time.
#[derive(Clone, Copy, Debug)]
pub struct FieldWriter<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// `apiVersion` of the object as it was sent.
    pub api_version: &'a str,
    /// `status` or `scale`; `None` for the object itself.
    pub subresource: Option<&'a str>,
    /// When the write happens.
    pub now: Timestamp,
}

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Path of the field, such as `.spec.replicas`.
    pub field: String,
    /// The message of a cause of reason `FieldManagerConflict`: `conflict with "x" using v1`.
    pub message: String,
}

/// How a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// One manager and its fields.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    manager: String,
    operation: Operation,
    api_version: String,
    subresource: String,
    /// When the set last changed.
    time: Option<Timestamp>,
    fields: FieldSet,
}

/// The managers of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managers {
    entries: Vec<Entry>,
}

// === impl Managers ===

impl Managers {
    /// The managers of `object`.
    pub(super) fn read(object: &Value) -> Self {
        let entries = object
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Entry::read)
            .collect();
        Self { entries }
    }

    /// Writes the managers into `object`, in the order of the real server.
    pub(super) fn write(mut self, object: &mut Value) {
        self.entries.retain(|entry| !entry.fields.is_empty());
        self.join_oldest_updaters();
        self.entries.sort_by(Entry::order);
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        if self.entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            let entries = self.entries.iter().map(Entry::to_value).collect();
            metadata.insert("managedFields".to_owned(), entries);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives `fields` to the manager [`BEFORE_FIRST_APPLY`].
    pub(super) fn adopt(&mut self, fields: FieldSet, writer: &FieldWriter<'_>) {
        self.entries.push(Entry {
            manager: BEFORE_FIRST_APPLY.to_owned(),
            operation: Operation::Update,
            api_version: writer.api_version.to_owned(),
            subresource: String::new(),
            time: Some(writer.now),
            fields,
        });
    }

    /// Makes `fields` the only ones of the writer, and returns those that it owned before.
    pub(super) fn set(
        &mut self,
        writer: &FieldWriter<'_>,
        operation: Operation,
        fields: FieldSet,
    ) -> FieldSet {
        let entry = self.entry(writer, operation);
        if entry.fields != fields {
            entry.time = Some(writer.now);
        }
        writer.api_version.clone_into(&mut entry.api_version);
        std::mem::replace(&mut entry.fields, fields)
    }

    /// Adds `fields` to those of the writer.
    pub(super) fn add(
        &mut self,
        writer: &FieldWriter<'_>,
        operation: Operation,
        fields: &FieldSet,
    ) {
        let entry = self.entry(writer, operation);
        entry.time = Some(writer.now);
        entry.fields.union_with(fields);
    }

    /// All fields that have an owner.
    pub(super) fn union(&self) -> FieldSet {
        let mut union = FieldSet::default();
        for entry in &self.entries {
            union.union_with(&entry.fields);
        }
        union
    }

    /// The conflicts of an apply by the writer: the `changed` fields that other managers own.
    pub(super) fn conflicts(&self, writer: &FieldWriter<'_>, changed: &FieldSet) -> Vec<Conflict> {
        let mut entries: Vec<&Entry> =
            self.entries.iter().filter(|entry| !entry.is_of(writer, Operation::Apply)).collect();
        entries.sort_by(|a, b| a.manager.cmp(&b.manager));
        let mut conflicts = Vec::new();
        for entry in entries {
            for field in entry.fields.intersection(changed).paths() {
                conflicts.push(Conflict {
                    field,
                    message: format!("conflict with {}", entry.description()),
                });
            }
        }
        conflicts
    }

    /// Takes the fields from every manager but the writer.
    pub(super) fn take_from_others(
        &mut self,
        writer: &FieldWriter<'_>,
        operation: Operation,
        fields: &FieldSet,
    ) {
        for entry in &mut self.entries {
            if !entry.is_of(writer, operation) {
                entry.fields.subtract(fields);
            }
        }
    }

    /// Takes the fields from every manager.
    pub(super) fn remove_from_all(&mut self, fields: &FieldSet) {
        for entry in &mut self.entries {
            entry.fields.subtract(fields);
        }
    }

    fn entry(&mut self, writer: &FieldWriter<'_>, operation: Operation) -> &mut Entry {
        let index =
            self.entries.iter().position(|entry| entry.is_of(writer, operation)).unwrap_or_else(
                || {
                    self.entries.push(Entry::new(writer, operation));
                    self.entries.len() - 1
                },
            );
        &mut self.entries[index]
    }

    fn join_oldest_updaters(&mut self) {
        let mut updaters: Vec<Entry> = Vec::new();
        let mut others: Vec<Entry> = Vec::new();
        for entry in self.entries.drain(..) {
            match entry.operation {
                Operation::Update => updaters.push(entry),
                Operation::Apply => others.push(entry),
            }
        }
        if updaters.len() > UPDATERS_MAX {
            updaters.sort_by_key(|entry| entry.time);
            let surplus = updaters.len() - UPDATERS_MAX;
            let mut oldest = updaters.drain(..=surplus);
            if let Some(mut ancient) = oldest.next() {
                ANCIENT.clone_into(&mut ancient.manager);
                ancient.subresource.clear();
                for entry in oldest {
                    ancient.time = ancient.time.max(entry.time);
                    ancient.fields.union_with(&entry.fields);
                }
                others.push(ancient);
            }
        }
        self.entries = others;
        self.entries.append(&mut updaters);
    }
}

// === impl Entry ===

impl Entry {
    fn new(writer: &FieldWriter<'_>, operation: Operation) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.unwrap_or_default().to_owned(),
            time: Some(writer.now),
            fields: FieldSet::default(),
        }
    }

    fn read(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Self {
            manager: text("manager").to_owned(),
            operation,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
            time: text("time").parse().ok(),
            fields: FieldSet::from_value(entry.get("fieldsV1")?),
        })
    }

    fn to_value(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager,
            "operation": match self.operation {
                Operation::Apply => "Apply",
                Operation::Update => "Update",
            },
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_value(),
        });
        if let Some(time) = self.time {
            // Whole seconds, as all times in metadata.
            entry["time"] = json!(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        if !self.subresource.is_empty() {
            entry["subresource"] = json!(self.subresource);
        }
        entry
    }

    /// Whether the entry is that of the writer. An applier is one manager in all API versions;
    /// updates through another version are kept apart, as in the real server.
    fn is_of(&self, writer: &FieldWriter<'_>, operation: Operation) -> bool {
        self.manager == writer.manager
            && self.operation == operation
            && self.subresource == writer.subresource.unwrap_or_default()
            && (operation == Operation::Apply || self.api_version == writer.api_version)
    }

    fn description(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", self.subresource);
        }
        match self.operation {
            Operation::Apply => text,
            Operation::Update => format!("{text} using {}", self.api_version),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        // By whole seconds, which is all that is stored: otherwise the next write, which reads the
        // entries back, would put them into another order, and be a change.
        let key = |entry: &Self| (entry.operation, entry.time.map(Timestamp::as_second));
        key(self)
            .cmp(&key(other))
            .then_with(|| self.manager.cmp(&other.manager))
            .then_with(|| self.api_version.cmp(&other.api_version))
            .then_with(|| self.subresource.cmp(&other.subresource))
    }
}

/// The set without the fields that have no owner.
pub(super) fn without_unowned(mut set: FieldSet) -> FieldSet {
    let mut unowned = FieldSet::default();
    for path in UNOWNED {
        let mut node = &mut unowned;
        for name in *path {
            node = node.below.entry(format!("f:{name}").into()).or_default();
        }
        node.member = true;
    }
    // The fields inside managedFields have no owner either.
    if let Some(metadata) = set.below.get_mut("f:metadata") {
        metadata.below.remove("f:managedFields");
    }
    set.subtract(&unowned);
    set
}

/// Drops the metadata that only the server sets.
pub(super) fn strip_server_metadata(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| !SERVER_METADATA.contains(&name.as_str()));
    }
}

/// Whether a written object asks for all ownership to be dropped: by an explicit empty list, or
/// one empty entry.
pub(super) fn asks_for_reset(object: &Value) -> bool {
    let managed = object.pointer("/metadata/managedFields");
    managed.and_then(Value::as_array).is_some_and(|entries| match entries.as_slice() {
        [] => true,
        [entry] => entry.as_object().is_some_and(Map::is_empty),
        _ => false,
    })
}
