//! The newest known objects of one kind: what a watch showed, and what this process has written
//! and the watch has not shown yet.
//!
//! A watch lags behind a write by a moment. Whoever reconciles in that moment from the store
//! alone would write the same thing again. So each written object is kept until the watch shows
//! that version or a later one. Invariants: `get` never returns an older version than this
//! process has written itself; what the watch said is deleted is not known, however late the
//! answer to a write of it arrives; nothing here looks at more objects than it answers with.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

mod index;
#[cfg(test)]
mod tests;

use self::index::Index;
pub(crate) use self::index::{By, Mark};

/// What every kind that is watched and written here can do.
pub(crate) trait Stored:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// By what others find the object.
    fn marks(&self) -> Vec<Mark> {
        Vec::new()
    }

    /// Drops what nobody here reads: tens of thousands of objects are kept.
    fn trim(&mut self);
}

/// The objects of one kind. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Cache<K: Stored> {
    store: Store<K>,
    shelf: Arc<Mutex<Shelf<K>>>,
    /// Objects that were handed out or looked at, for tests of growth.
    #[cfg(test)]
    pub(crate) looked: Arc<std::sync::atomic::AtomicUsize>,
}

/// What is known beside the store. Its lock is held over every change of the store too.
struct Shelf<K: Stored> {
    /// What this process wrote and the watch has not shown yet. Bounded by the writes in flight:
    /// an entry goes as soon as its event arrives, or at a relist.
    written: HashMap<ObjectRef<K>, Arc<K>>,
    /// Writes that are not answered. Bounded by the reconciles at the same time.
    flights: HashMap<ObjectRef<K>, Flight>,
    /// The marks of the newest version of every object.
    index: Index,
}

/// The writes of one object that are under way, and what the watch told meanwhile.
#[derive(Default)]
struct Flight {
    writers: u32,
    /// UID and version of the last deletion.
    deleted: Option<(Option<String>, u128)>,
    /// Whether everything was listed anew: a deletion may have been missed.
    relisted: bool,
}

/// A write under way. Dropping it without an answer is a write of which nothing is known.
pub(crate) struct Writing<K: Stored> {
    cache: Cache<K>,
    key: ObjectRef<K>,
}

// === impl Cache ===

impl<K: Stored> Cache<K> {
    /// A cache over the store that a watch fills.
    pub(crate) fn new(store: Store<K>) -> Self {
        let shelf =
            Shelf { written: HashMap::new(), flights: HashMap::new(), index: Index::default() };
        Self {
            store,
            shelf: Arc::new(Mutex::new(shelf)),
            #[cfg(test)]
            looked: Arc::default(),
        }
    }

    /// The store itself, as kube's machinery wants it.
    pub(crate) fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// The newest known version of the object.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.newest(&self.shelf.lock(), &ObjectRef::new(name).within(namespace))
    }

    /// The newest known version of every object in the namespace that bears the mark, by name.
    pub(crate) fn marked(&self, namespace: &str, by: By, value: &str) -> Vec<Arc<K>> {
        let known = self.shelf.lock();
        let names = known.index.names(namespace, by, value).into_iter();
        names
            .filter_map(|name| self.newest(&known, &ObjectRef::new(name).within(namespace)))
            .collect()
    }

    /// Takes an event of the watch into the store, whose writer this is; answers which objects
    /// changed or, if `true`, are gone.
    pub(crate) fn absorb(
        &self,
        writer: &mut Writer<K>,
        mut event: watcher::Event<K>,
    ) -> Vec<(Arc<K>, bool)> {
        if let watcher::Event::Apply(object)
        | watcher::Event::InitApply(object)
        | watcher::Event::Delete(object) = &mut event
        {
            object.trim();
        }
        let mut known = self.shelf.lock();
        match &event {
            watcher::Event::Init | watcher::Event::InitApply(_) => {
                writer.apply_watcher_event(&event);
                Vec::new()
            }
            watcher::Event::InitDone => self.absorb_list(&mut known, writer, &event),
            watcher::Event::Apply(object) => {
                let key = ObjectRef::from_obj(object);
                let (before, version) = (self.newest(&known, &key), version(object.meta()));
                writer.apply_watcher_event(&event);
                known.forget_written(&key, |own| self::version(own.meta()) <= version);
                let after = self.newest(&known, &key);
                known.reindex(before.as_deref(), after.as_deref());
                self.store.get(&key).map(|object| (object, false)).into_iter().collect()
            }
            watcher::Event::Delete(object) => {
                let key = ObjectRef::from_obj(object);
                let (before, gone) = (self.newest(&known, &key), version(object.meta()));
                let uid = &object.meta().uid;
                writer.apply_watcher_event(&event);
                // Another object may have the name by now.
                known.forget_written(&key, |own| {
                    own.meta().uid == *uid || version(own.meta()) <= gone
                });
                if let Some(flight) = known.flights.get_mut(&key) {
                    flight.deleted = Some((uid.clone(), gone));
                }
                let after = self.newest(&known, &key);
                known.reindex(before.as_deref(), after.as_deref());
                let watcher::Event::Delete(object) = event else { return Vec::new() };
                vec![(Arc::new(object), true)]
            }
        }
    }

    /// Everything was listed anew: what is not there any more is gone.
    fn absorb_list(
        &self,
        known: &mut Shelf<K>,
        writer: &mut Writer<K>,
        event: &watcher::Event<K>,
    ) -> Vec<(Arc<K>, bool)> {
        let before = self.store.state();
        writer.apply_watcher_event(event);
        let store = &self.store;
        known.written.retain(|key, own| {
            store.get(key).is_some_and(|listed| {
                listed.meta().uid == own.meta().uid && version(listed.meta()) < version(own.meta())
            })
        });
        for flight in known.flights.values_mut() {
            flight.relisted = true;
        }
        let after = self.store.state();
        known.index = Index::default();
        for object in &after {
            let newest = known.written.get(&ObjectRef::from_obj(object.as_ref())).cloned();
            known.reindex(None, Some(newest.as_ref().unwrap_or(object)));
        }
        let gone = before.into_iter().filter(|object| {
            // One without any name is nobody's.
            self.store.get(&ObjectRef::from_obj(object.as_ref())).is_none()
        });
        let mut changes: Vec<_> = gone.map(|object| (object, true)).collect();
        changes.extend(after.into_iter().map(|object| (object, false)));
        changes
    }

    /// Begins a write of the object of this name. Call before the request leaves, for its answer
    /// may come after the news that the object was deleted.
    pub(crate) fn begin(&self, object: &K) -> Writing<K> {
        let key = ObjectRef::from_obj(object);
        self.shelf.lock().flights.entry(key.clone()).or_default().writers += 1;
        Writing { cache: self.clone(), key }
    }

    fn newest(&self, known: &Shelf<K>, key: &ObjectRef<K>) -> Option<Arc<K>> {
        #[cfg(test)]
        self.looked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match (self.store.get(key), known.written.get(key)) {
            (Some(seen), Some(written)) if version(written.meta()) > version(seen.meta()) => {
                Some(written.clone())
            }
            (None, Some(written)) => Some(written.clone()),
            (seen, _) => seen,
        }
    }
}

// === impl Shelf ===

impl<K: Stored> Shelf<K> {
    fn forget_written(&mut self, key: &ObjectRef<K>, is_over: impl Fn(&K) -> bool) {
        if self.written.get(key).is_some_and(|own| is_over(own)) {
            self.written.remove(key);
        }
    }

    fn reindex(&mut self, before: Option<&K>, after: Option<&K>) {
        if let Some(before) = before {
            self.index.remove(before.meta(), &before.marks());
        }
        if let Some(after) = after {
            self.index.insert(after.meta(), after.marks());
        }
    }
}

// === impl Writing ===

impl<K: Stored> Writing<K> {
    /// Remembers what the API server answered.
    pub(crate) fn answered(self, mut object: K) -> Arc<K> {
        object.trim();
        let object = Arc::new(object);
        let Self { cache, key } = &self;
        let mut known = cache.shelf.lock();
        let seen = cache.store.get(key);
        let is_ghost = known.flights.get(key).is_some_and(|flight| {
            let is_deleted = flight
                .deleted
                .as_ref()
                .is_some_and(|(uid, at)| object.meta().uid == *uid || version(object.meta()) < *at);
            // Whether it was missing from the list or made after it, the watch will tell.
            let is_unlisted = flight.relisted
                && seen.as_ref().is_none_or(|seen| seen.meta().uid != object.meta().uid);
            is_deleted || is_unlisted
        });
        // The event may have been faster than the response.
        let is_news = seen.is_none_or(|seen| version(seen.meta()) < version(object.meta()));
        if is_news && !is_ghost {
            let before = cache.newest(&known, key);
            known.written.insert(key.clone(), object.clone());
            known.reindex(before.as_deref(), Some(&object));
        }
        drop(known);
        object
    }
}

impl<K: Stored> Drop for Writing<K> {
    fn drop(&mut self) {
        let mut known = self.cache.shelf.lock();
        if let Some(flight) = known.flights.get_mut(&self.key) {
            flight.writers -= 1;
            if flight.writers == 0 {
                known.flights.remove(&self.key);
            }
        }
    }
}

/// Resource versions grow and are numbers, as Kubernetes promises since 1.35; one that is no
/// number counts as older than any, so that the watch then wins.
fn version(meta: &ObjectMeta) -> u128 {
    let version = meta.resource_version.as_deref();
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}
