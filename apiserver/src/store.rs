//! The objects: one revision for all, optimistic concurrency, and a log of changes to watch.
//!
//! Invariants: each change takes the next revision; it is in the journal before it is visible;
//! the log of a collection holds its changes in order, without a gap, from some revision on.
//! Everything is behind one short lock: parsing, patching and admission happen outside of it,
//! and a change then replaces exactly the version that it was computed from, or fails.

mod changes;
mod collection;
mod ownership;
mod state;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use crate::journal::{Compaction, Journal, Record, Recovered, Unsynced};
use crate::object::Object;
use crate::selector::Selector;
pub(crate) use changes::{ChangeKind, ObjectChange};
use collection::Collection;
use ownership::Ownership;
pub(crate) use ownership::Placed;
use state::State;
pub(crate) use watch::{CollectionWatch, Expired, WatchStart};

/// Key of the collection of namespaces.
pub(crate) const NAMESPACES: &str = "namespaces";
/// Key of the collection of events, in whichever group they are asked for.
pub(crate) const EVENTS: &str = "events";

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The name is taken.
    #[error("the object already exists")]
    Exists,
    /// The object is no longer the version that the change was computed from.
    #[error("the object has changed since it was read")]
    Changed,
    /// The namespace of a new object does not exist.
    #[error("the namespace does not exist")]
    NoNamespace,
    /// The namespace of a new object is being deleted.
    #[error("the namespace is being terminated")]
    Terminating,
    /// The change could not be made durable.
    #[error("cannot write the journal")]
    Journal(#[from] io::Error),
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    /// The objects, by namespace and name.
    pub(crate) objects: Vec<Arc<Object>>,
    /// Revision that the list shows.
    pub(crate) revision: u64,
    /// Key of the last object, when there are more behind it.
    pub(crate) next: Option<String>,
    /// How many follow behind this page; not told of a selection.
    pub(crate) remaining: Option<usize>,
}

/// All objects. Shared by every request and watch.
#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
    /// Wakes the garbage collector: something is due.
    pub(crate) garbage: Notify,
}

// === impl Store ===

impl Store {
    /// A store with the recovered state. Changes are appended to `journal`; without one they live
    /// in memory only.
    pub(crate) fn new(recovered: Recovered, journal: Option<Journal>) -> serde_json::Result<Self> {
        let mut state = State {
            revision: recovered.revision,
            recovered_revision: recovered.revision,
            live_bytes: 0,
            collections: BTreeMap::new(),
            ownership: Ownership::default(),
            journal,
            closed: false,
        };
        for (resource, objects) in recovered.objects {
            let mut collection = Collection::new(recovered.revision);
            for (key, json) in objects {
                state.live_bytes += json.len() as u64;
                let object = Arc::new(Object::from_json(json)?);
                collection.objects.insert(key.into(), object);
            }
            state.collections.insert(resource.into(), collection);
        }
        state.recall_ownership();
        Ok(Self { state: Mutex::new(state), garbage: Notify::new() })
    }

    /// The object at `namespace` (empty for a cluster-wide one) and `name`.
    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let state = self.state.lock();
        let collection = state.collections.get(resource)?;
        collection.objects.get(key(namespace, name).as_str()).cloned()
    }

    /// The objects of `namespace` (all when `None`) that `selector` selects and that come after
    /// the key `after`, at most `limit` of them.
    pub(crate) fn list(
        &self,
        resource: &str,
        namespace: Option<&str>,
        selector: &Selector,
        (after, limit): (Option<&str>, usize),
    ) -> Page {
        let (all, revision) = self.snapshot(resource, namespace, after);
        // Field selectors may parse objects: not under the lock.
        let mut selected = all.into_iter().filter(|object| selector.matches(object));
        let objects: Vec<_> = selected.by_ref().take(limit).collect();
        let remaining = selected.count();
        let last = objects.last().filter(|_| remaining > 0);
        let next = last.map(|object| key(object.namespace(), object.name()));
        // The real server does not know it of a selection.
        let remaining = selector.is_everything().then_some(remaining);
        Page { objects, revision, next, remaining }
    }

    fn snapshot(
        &self,
        resource: &str,
        namespace: Option<&str>,
        after: Option<&str>,
    ) -> (Vec<Arc<Object>>, u64) {
        let state = self.state.lock();
        let objects = state.collections.get(resource).map_or_else(Vec::new, |collection| {
            collection.range(namespace, after).cloned().collect()
        });
        (objects, state.revision)
    }

    /// The next object that the garbage collector has to look at.
    pub(crate) fn next_due(&self) -> Option<Placed> {
        let mut state = self.state.lock();
        while let Some((resource, key)) = state.ownership.next_due() {
            if let Some(object) = state.find(&resource, &key).map(Arc::clone) {
                return Some(Placed { resource, object });
            }
        }
        None
    }

    /// Makes an object due again.
    pub(crate) fn look_again(&self, placed: &Placed) {
        self.state.lock().ownership.look_at(placed);
        self.garbage.notify_one();
    }

    /// The owners of an object; `None` for each that is gone.
    pub(crate) fn owners_of(&self, object: &Object) -> Vec<Option<Arc<Object>>> {
        let state = self.state.lock();
        let find = |uid| state.ownership.find(uid).map(|own| Arc::clone(&own.object));
        object.owners().iter().map(|owner| find(&owner.uid)).collect()
    }

    /// The objects that name this one as an owner.
    pub(crate) fn dependents_of(&self, object: &Object) -> Vec<Placed> {
        self.state.lock().ownership.dependents(object.shared_uid()).cloned().collect()
    }

    /// Whether the object's namespace is being deleted.
    pub(crate) fn is_namespace_ending(&self, object: &Object) -> bool {
        self.state.lock().is_namespace_ending(object.namespace())
    }

    /// Whether the namespace is empty.
    pub(crate) fn is_empty(&self, namespace: &str) -> bool {
        self.state.lock().contents(namespace).next().is_none()
    }

    /// Creates an object; all its metadata except the revision are set by the caller.
    pub(crate) fn create(&self, resource: &str, value: Value) -> Result<Arc<Object>, StoreError> {
        let mut state = self.state.lock();
        let (namespace, key) = placed(&value);
        if !namespace.is_empty() {
            let parents = state.collections.get(NAMESPACES);
            let parent = parents.and_then(|all| all.objects.get(self::key("", namespace).as_str()));
            match parent {
                None => return Err(StoreError::NoNamespace),
                Some(parent) if parent.deleting() => return Err(StoreError::Terminating),
                Some(_) => {}
            }
        }
        if state.find(resource, &key).is_some() {
            return Err(StoreError::Exists);
        }
        let object = state.write(resource, key, value, None)?;
        state.cap_events(resource)?;
        self.tell_collector(&state);
        Ok(object)
    }

    /// Replaces the version `old` of an object.
    pub(crate) fn replace(
        &self,
        resource: &str,
        old: &Object,
        value: Value,
    ) -> Result<Arc<Object>, StoreError> {
        let mut state = self.state.lock();
        let (_, key) = placed(&value);
        let before = state.unchanged(resource, &key, old)?;
        let object = state.write(resource, key, value, Some(before))?;
        self.tell_collector(&state);
        Ok(object)
    }

    /// Removes the version `old` of an object; returns its last version, at the revision of the
    /// removal.
    pub(crate) fn remove(&self, resource: &str, old: &Object) -> Result<Arc<Object>, StoreError> {
        let mut state = self.state.lock();
        let key = key(old.namespace(), old.name());
        let before = state.unchanged(resource, &key, old)?;
        let removed = state.erase(resource, &key, before)?;
        self.tell_collector(&state);
        Ok(removed)
    }

    fn tell_collector(&self, state: &State) {
        if state.ownership.is_due() {
            self.garbage.notify_one();
        }
    }

    /// Watches a collection from `start` on.
    pub(crate) fn watch(
        self: &Arc<Self>,
        resource: &str,
        start: WatchStart,
    ) -> Result<CollectionWatch, Expired> {
        CollectionWatch::new(Arc::clone(self), resource, start)
    }

    /// Releases the journal's folder; changes are refused from now on.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.journal = None;
    }

    /// Revision of the last change.
    #[cfg(test)]
    pub(crate) fn revision(&self) -> u64 {
        self.state.lock().revision
    }

    /// Whether the journal has something to be synced or has outgrown the objects.
    pub(crate) fn is_untidy(&self) -> bool {
        let state = self.state.lock();
        let live_bytes = state.live_bytes;
        let journal = state.journal.as_ref();
        journal.is_some_and(|own| own.is_unsynced() || own.outgrown(live_bytes))
    }

    /// The bytes of the journal that the disk has not confirmed yet.
    pub(crate) fn unsynced(&self) -> io::Result<Option<Unsynced>> {
        self.state.lock().journal.as_ref().map_or(Ok(None), Journal::unsynced)
    }

    /// Notes the outcome of a sync of `what`. After a failed sync every write is refused.
    pub(crate) fn synced(&self, what: &Unsynced, outcome: &io::Result<()>) -> io::Result<()> {
        match (self.state.lock().journal.as_mut(), outcome) {
            (None, _) => Ok(()),
            (Some(journal), Ok(())) => journal.settle(what),
            (Some(journal), Err(_)) => {
                journal.give_up();
                Ok(())
            }
        }
    }

    /// Begins a compaction if the journal has outgrown the objects. Returns the snapshot to write,
    /// and its records.
    pub(crate) fn begin_compaction(&self) -> io::Result<Option<(Compaction, Vec<Record>)>> {
        let mut state = self.state.lock();
        let live_bytes = state.live_bytes;
        let Some(journal) = state.journal.as_mut().filter(|own| own.outgrown(live_bytes)) else {
            return Ok(None);
        };
        let compaction = journal.rotate()?;
        Ok(Some((compaction, state.records())))
    }

    /// Notes that the snapshot of a compaction is on disk.
    pub(crate) fn compacted(&self, replaced_bytes: u64) {
        if let Some(journal) = self.state.lock().journal.as_mut() {
            journal.compacted(replaced_bytes);
        }
    }
}

/// Key of an object in its collection.
fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Namespace and key of a new version of an object.
fn placed(value: &Value) -> (&str, String) {
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default();
    (text("namespace"), key(text("namespace"), text("name")))
}
