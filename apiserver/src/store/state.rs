//! The state behind the lock, and the one way in which it changes: journal, map, log.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde_json::Value;

use super::changes::{ChangeKind, ObjectChange};
use super::collection::Collection;
use super::ownership::{Ownership, Placed};
use super::{EVENTS, NAMESPACES, StoreError};
use crate::journal::{Journal, Record};
use crate::object::Object;

/// Most events kept; the oldest go first. An hour of a busy laptop makes far fewer.
const EVENTS_MAX: usize = 2_000;
/// How many events go at once when there are more.
const EVENTS_DROPPED: usize = 100;

/// Keys of the collections that may be selected by more than labels, name and namespace.
const SELECTED_BY_CONTENT: [&str; 5] = [EVENTS, NAMESPACES, "pods", "secrets", "services"];

/// The state that the lock of a store protects.
#[derive(Debug)]
pub(super) struct State {
    /// Revision of the last change.
    pub(super) revision: u64,
    /// Revision that was recovered: every change since is in a log, or was dropped by it.
    pub(super) recovered_revision: u64,
    /// Bytes of all objects.
    pub(super) live_bytes: u64,
    /// By the resource's key.
    pub(super) collections: BTreeMap<Arc<str>, Collection>,
    /// Owners and dependents of objects.
    pub(super) ownership: Ownership,
    /// `None` when objects live in memory only.
    pub(super) journal: Option<Journal>,
    /// Set once the store is closed: a later change would be lost.
    pub(super) closed: bool,
}

// === impl State ===

impl State {
    /// The object at `key`.
    pub(super) fn find(&self, resource: &str, key: &str) -> Option<&Arc<Object>> {
        self.collections.get(resource)?.objects.get(key)
    }

    /// The current version, provided that it is still `old`.
    pub(super) fn unchanged(
        &self,
        resource: &str,
        key: &str,
        old: &Object,
    ) -> Result<Arc<Object>, StoreError> {
        match self.find(resource, key) {
            Some(current) if current.revision() == old.revision() => Ok(Arc::clone(current)),
            _ => Err(StoreError::Changed),
        }
    }

    /// Stores a version of an object, at the next revision.
    pub(super) fn write(
        &mut self,
        resource: &str,
        key: String,
        mut value: Value,
        before: Option<Arc<Object>>,
    ) -> Result<Arc<Object>, StoreError> {
        let revision = self.revision + 1;
        value["metadata"]["resourceVersion"] = Value::from(revision.to_string());
        let object = Arc::new(Object::new(&value));
        self.append(&Record::Put {
            revision,
            resource: resource.to_owned(),
            json: object.json().clone(),
        })?;
        let removed_bytes = before.as_ref().map_or(0, |before| before.json().len());
        self.live_bytes += object.json().len() as u64;
        self.live_bytes -= removed_bytes as u64;
        let collection = self.collection(resource);
        collection.objects.insert(key.into(), Arc::clone(&object));
        let kind = if before.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        self.publish(resource, kind, Arc::clone(&object), before);
        Ok(object)
    }

    /// Removes an object; returns its last version, at the next revision.
    pub(super) fn erase(
        &mut self,
        resource: &str,
        key: &str,
        before: Arc<Object>,
    ) -> Result<Arc<Object>, StoreError> {
        let revision = self.revision + 1;
        self.append(&Record::Remove {
            revision,
            resource: resource.to_owned(),
            key: key.to_owned(),
        })?;
        let mut value = before.value();
        value["metadata"]["resourceVersion"] = Value::from(revision.to_string());
        let last = Arc::new(Object::new(&value));
        self.live_bytes -= before.json().len() as u64;
        self.collection(resource).objects.remove(key);
        self.publish(resource, ChangeKind::Deleted, Arc::clone(&last), Some(before));
        Ok(last)
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.closed {
            return Err(io::Error::other("the server is closed"));
        }
        self.journal.as_mut().map_or(Ok(()), |journal| journal.append(record))
    }

    fn publish(
        &mut self,
        resource: &str,
        kind: ChangeKind,
        object: Arc<Object>,
        before: Option<Arc<Object>>,
    ) {
        self.revision = object.revision();
        self.relate(resource, kind, &object, before.as_deref());
        let told_apart = |before: &Arc<Object>| {
            SELECTED_BY_CONTENT.contains(&resource) || !before.has_labels_of(&object)
        };
        let before = before.map(|own| if told_apart(&own) { own } else { Arc::clone(&object) });
        self.collection(resource).log.push(ObjectChange { kind, object, before });
    }

    /// Updates [`Ownership`] with a change.
    fn relate(
        &mut self,
        resource: &str,
        kind: ChangeKind,
        object: &Arc<Object>,
        before: Option<&Object>,
    ) {
        if kind == ChangeKind::Deleted {
            self.ownership.erased(object);
            if self.is_namespace_ending(object.namespace()) {
                // The object may have been the last one in its namespace.
                self.look_at_namespace(object.namespace());
            }
            return;
        }
        let Some((resource, _)) = self.collections.get_key_value(resource) else {
            return;
        };
        let placed = Placed { resource: Arc::clone(resource), object: Arc::clone(object) };
        self.ownership.wrote(&placed, before);
        let ends = object.deleting() && before.is_none_or(|before| !before.deleting());
        if ends && &*placed.resource == NAMESPACES {
            self.look_at_contents(object.name());
        }
    }

    /// Builds the [`Ownership`] of all recovered objects.
    pub(super) fn recall_ownership(&mut self) {
        for (resource, collection) in &self.collections {
            for object in collection.objects.values() {
                let placed = Placed { resource: Arc::clone(resource), object: Arc::clone(object) };
                self.ownership.wrote(&placed, None);
            }
        }
        let namespaces = self.collections.get(NAMESPACES);
        let namespaces = namespaces.into_iter().flat_map(|all| all.objects.values());
        let ending: Vec<Arc<Object>> =
            namespaces.filter(|own| own.deleting()).map(Arc::clone).collect();
        for namespace in ending {
            self.look_at_contents(namespace.name());
        }
    }

    /// Whether the namespace is being deleted.
    pub(super) fn is_namespace_ending(&self, namespace: &str) -> bool {
        let found = self.find(NAMESPACES, &super::key("", namespace));
        found.is_some_and(|namespace| namespace.deleting())
    }

    /// Everything in a namespace.
    pub(super) fn contents<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = Placed> + 'a {
        self.collections.iter().flat_map(move |(resource, collection)| {
            collection.range(Some(namespace), None).map(move |object| Placed {
                resource: Arc::clone(resource),
                object: Arc::clone(object),
            })
        })
    }

    fn look_at_contents(&mut self, namespace: &str) {
        let contents: Vec<Placed> = self.contents(namespace).collect();
        for placed in &contents {
            self.ownership.look_at(placed);
        }
    }

    fn look_at_namespace(&mut self, namespace: &str) {
        let found = self.find(NAMESPACES, &super::key("", namespace));
        if let Some(object) = found.map(Arc::clone) {
            self.ownership.look_at(&Placed { resource: NAMESPACES.into(), object });
        }
    }

    /// The collection of `resource`, made if need be.
    pub(super) fn collection(&mut self, resource: &str) -> &mut Collection {
        if !self.collections.contains_key(resource) {
            let collection = Collection::new(self.recovered_revision);
            self.collections.insert(resource.into(), collection);
        }
        self.collections.get_mut(resource).expect("it was inserted above")
    }

    /// Drops the oldest events above [`EVENTS_MAX`]: they are a help to people, not state.
    pub(super) fn cap_events(&mut self, resource: &str) -> Result<(), StoreError> {
        if resource != EVENTS || self.collection(EVENTS).objects.len() <= EVENTS_MAX {
            return Ok(());
        }
        // Several at once: finding the oldest takes a look at all.
        let events = self.collection(EVENTS).objects.iter();
        let mut events: Vec<(String, Arc<Object>)> =
            events.map(|(key, event)| (key.to_string(), Arc::clone(event))).collect();
        events.sort_unstable_by_key(|(_, event)| event.revision());
        events.truncate(EVENTS_DROPPED);
        for (key, event) in events {
            self.erase(EVENTS, &key, event)?;
        }
        Ok(())
    }

    /// All objects, as a snapshot holds them.
    pub(super) fn records(&self) -> Vec<Record> {
        let objects = self.collections.iter().flat_map(|(resource, collection)| {
            collection.objects.values().map(|object| Record::Put {
                revision: object.revision(),
                resource: resource.to_string(),
                json: object.json().clone(),
            })
        });
        let mut records: Vec<Record> = objects.collect();
        records.push(Record::End { revision: self.revision, count: records.len() as u64 });
        records
    }
}
