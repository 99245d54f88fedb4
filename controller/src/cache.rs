//! The newest known objects of one kind: those that a watch showed, and those that this process has
//! written and the watch has not shown yet.
//!
//! A watch lags behind a write by a moment. A reconcile from the store alone would write the same
//! thing again in that moment. So each written object is kept until the watch shows that version or
//! a later one. Invariants: `get` never returns an older version than this process has written
//! itself; an object that the watch reported as deleted is not known, however late the response to
//! a write of it arrives; nothing here looks at more objects than it returns.

use std::collections::HashMap;
use std::sync::Arc;

use ebb_api::resource_version::ResourceVersion;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use parking_lot::Mutex;

mod index;
mod packed;
mod stored;
#[cfg(test)]
mod tests;

use self::index::Index;
pub(crate) use self::index::{Aged, By, Mark};
pub(crate) use self::packed::Packed;
pub(crate) use self::stored::Stored;

/// The objects of one kind. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Cache<K: Stored> {
    store: Store<Packed<K>>,
    shelf: Arc<Mutex<Shelf<K>>>,
    /// Number of objects that were handed out or looked at, for tests of growth.
    #[cfg(test)]
    pub(crate) looked: Arc<std::sync::atomic::AtomicUsize>,
}

/// The state beside the store. Its lock is held over every change of the store too.
struct Shelf<K: Stored> {
    /// Objects that this process wrote and the watch has not shown yet. Bounded by the writes in
    /// flight: an entry goes as soon as its event arrives, or at a relist.
    written: HashMap<ObjectRef<K>, Arc<K>>,
    /// Writes without a response. Bounded by the reconciles at the same time.
    flights: HashMap<ObjectRef<K>, Flight>,
    /// The marks of the newest version of every object.
    index: Index,
}

/// The writes of one object in flight, and what the watch reported meanwhile.
#[derive(Default)]
struct Flight {
    writers: u32,
    /// UID and version of the last deletion.
    deleted: Option<(Option<String>, ResourceVersion)>,
    /// Whether everything was listed anew: a deletion may have been missed.
    relisted: bool,
}

/// An object that changed, or is gone.
pub(crate) struct Change<K: Stored> {
    object: Told<K>,
    /// Whether the object is gone.
    pub(crate) gone: bool,
}

/// The form in which a changed object is held.
enum Told<K> {
    Here(Arc<K>),
    /// From a list of all objects: unpacked one after another, since all of them as structures
    /// would not fit.
    Packed(Arc<Packed<K>>),
}

/// A write in flight. Dropping it without a response means that its outcome is not known.
pub(crate) struct Writing<K: Stored> {
    cache: Cache<K>,
    key: ObjectRef<K>,
}

// === impl Cache ===

impl<K: Stored> Cache<K> {
    /// A cache over the store that a watch fills.
    pub(crate) fn new(store: Store<Packed<K>>) -> Self {
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
    pub(crate) fn store(&self) -> Store<Packed<K>> {
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

    /// The objects of all namespaces that bear a mark of that kind, the oldest first. Reads no object.
    pub(crate) fn marked_anywhere(&self, by: By, value: &str) -> Vec<Aged> {
        self.shelf.lock().index.anywhere(by, value)
    }

    /// References to all objects, as a reconciler takes them.
    pub(crate) fn names(&self) -> Vec<ObjectRef<K>> {
        self.store.state().iter().map(|object| reference(object.meta())).collect()
    }

    /// Applies a watch event to the store, through its `writer`; returns what changed.
    pub(crate) fn absorb(
        &self,
        writer: &mut Writer<Packed<K>>,
        event: watcher::Event<K>,
    ) -> Vec<Change<K>> {
        let mut known = self.shelf.lock();
        match event {
            watcher::Event::Init => {
                writer.apply_watcher_event(&watcher::Event::Init);
                Vec::new()
            }
            watcher::Event::InitApply(mut object) => {
                object.trim();
                writer.apply_watcher_event(&watcher::Event::InitApply(Packed::of(&object)));
                Vec::new()
            }
            watcher::Event::InitDone => self.absorb_list(&mut known, writer),
            watcher::Event::Apply(mut object) => {
                object.trim();
                let key = ObjectRef::from_obj(&object);
                let (before, version) = (self.marked_before(&known, &key), version(&object));
                writer.apply_watcher_event(&watcher::Event::Apply(Packed::of(&object)));
                known.forget_written(&key, |own| version.shows(self::version(own)));
                let object = Arc::new(object);
                let after = known.written.get(&key).unwrap_or(&object).clone();
                known.reindex(before.as_deref(), Some(&after));
                vec![Change { object: Told::Here(object), gone: false }]
            }
            watcher::Event::Delete(mut object) => {
                object.trim();
                let key = ObjectRef::from_obj(&object);
                let (before, gone) = (self.marked_before(&known, &key), version(&object));
                let uid = &object.meta().uid;
                writer.apply_watcher_event(&watcher::Event::Delete(Packed::of(&object)));
                // Another object may have the name by now.
                known
                    .forget_written(&key, |own| own.meta().uid == *uid || gone.shows(version(own)));
                if let Some(flight) = known.flights.get_mut(&key) {
                    flight.deleted = Some((uid.clone(), gone));
                }
                let after = known.written.get(&key).cloned();
                known.reindex(before.as_deref(), after.as_deref());
                vec![Change { object: Told::Here(Arc::new(object)), gone: true }]
            }
        }
    }

    /// Applies a new list of all objects: an object that it lacks is gone.
    fn absorb_list(&self, known: &mut Shelf<K>, writer: &mut Writer<Packed<K>>) -> Vec<Change<K>> {
        let before = self.store.state();
        writer.apply_watcher_event(&watcher::Event::InitDone);
        let listed = |meta: &ObjectMeta| self.store.get(&reference(meta));
        known.written.retain(|_, own| {
            listed(own.meta()).is_some_and(|listed| {
                listed.meta().uid == own.meta().uid && !version(&*listed).shows(version(&**own))
            })
        });
        for flight in known.flights.values_mut() {
            flight.relisted = true;
        }
        let after = self.store.state();
        known.index = Index::default();
        for object in after.iter().filter(|_| K::HAS_MARKS) {
            let own = known.written.get(&reference(object.meta())).cloned();
            known.reindex(None, Some(&own.unwrap_or_else(|| object.unpack())));
        }
        let gone = before.into_iter().filter(|object| listed(object.meta()).is_none());
        let mut changes: Vec<_> = gone.map(|object| (object, true)).collect();
        changes.extend(after.into_iter().map(|object| (object, false)));
        let change = |(object, gone)| Change { object: Told::Packed(object), gone };
        changes.into_iter().map(change).collect()
    }

    /// Begins a write of the object of this name. Call before the request leaves, for its response
    /// may come after the event that the object was deleted.
    pub(crate) fn begin(&self, object: &K) -> Writing<K> {
        let key = ObjectRef::from_obj(object);
        self.shelf.lock().flights.entry(key.clone()).or_default().writers += 1;
        Writing { cache: self.clone(), key }
    }

    fn newest(&self, known: &Shelf<K>, key: &ObjectRef<K>) -> Option<Arc<K>> {
        #[cfg(test)]
        self.looked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match (self.seen(key), known.written.get(key)) {
            (Some(seen), Some(written)) if !version(&*seen).shows(version(&**written)) => {
                Some(written.clone())
            }
            (None, Some(written)) => Some(written.clone()),
            (seen, _) => seen.map(|seen| seen.unpack()),
        }
    }

    /// The newest version, if objects of the kind bear marks.
    fn marked_before(&self, known: &Shelf<K>, key: &ObjectRef<K>) -> Option<Arc<K>> {
        if K::HAS_MARKS { self.newest(known, key) } else { None }
    }

    /// The version of an object that the watch has shown.
    fn seen(&self, key: &ObjectRef<K>) -> Option<Arc<Packed<K>>> {
        let mut packed = ObjectRef::<Packed<K>>::new(&key.name);
        packed.namespace.clone_from(&key.namespace);
        self.store.get(&packed)
    }
}

// === impl Change ===

impl<K: Stored> Change<K> {
    /// The object as it is, or was.
    pub(crate) fn object(&self) -> Arc<K> {
        match &self.object {
            Told::Here(object) => object.clone(),
            Told::Packed(object) => object.unpack(),
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
        let seen = cache.seen(key);
        let is_ghost = known.flights.get(key).is_some_and(|flight| {
            let is_deleted = flight
                .deleted
                .as_ref()
                .is_some_and(|(uid, at)| object.meta().uid == *uid || at.shows(version(&*object)));
            // The watch will tell whether the object was missing from the list or made after it.
            let is_unlisted = flight.relisted
                && seen.as_ref().is_none_or(|seen| seen.meta().uid != object.meta().uid);
            is_deleted || is_unlisted
        });
        // The event may have been faster than the response.
        let is_news = seen.is_none_or(|seen| !version(&*seen).shows(version(&*object)));
        if is_news && !is_ghost {
            let before = cache.marked_before(&known, key);
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

/// The reference by which the object with these metadata is found.
fn reference<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> ObjectRef<K> {
    let mut reference = ObjectRef::new(meta.name.as_deref().unwrap_or_default());
    reference.namespace.clone_from(&meta.namespace);
    reference
}

fn version(object: &impl Resource) -> ResourceVersion {
    ResourceVersion::of(object.meta())
}
