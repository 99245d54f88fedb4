//! A store of one kind that also knows what was written and not yet seen again.
//!
//! A watch lags behind a write by a moment. Whoever reconciles in that moment from the store
//! alone would write the same thing again. So each written object is kept until the watch shows
//! that version or a later one. Invariant: `get` never returns an older version than this process
//! has written itself, until a relist.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
}

impl<K> Stored for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static
{
}

/// The objects of one kind. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Cache<K: Stored> {
    store: Store<K>,
    /// What this process wrote and the watch has not shown yet. Bounded by the writes in flight:
    /// an entry goes as soon as its event arrives, and all go at a relist.
    written: Arc<Mutex<HashMap<ObjectRef<K>, Arc<K>>>>,
}

// === impl Cache ===

impl<K: Stored> Cache<K> {
    /// A cache over the store that a watch fills.
    pub(crate) fn new(store: Store<K>) -> Self {
        Self { store, written: Arc::default() }
    }

    /// The store itself, as kube's machinery wants it.
    pub(crate) fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// The newest known version of the object.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::new(name).within(namespace);
        newest(self.store.get(&key), self.written.lock().get(&key).cloned())
    }

    /// The newest known version of every object in the namespace for which `wanted` holds.
    pub(crate) fn select(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let here = |object: &K| object.meta().namespace.as_deref() == Some(namespace);
        let seen = self.store.state_filter(here);
        let mut written: HashMap<ObjectRef<K>, Arc<K>> = self
            .written
            .lock()
            .iter()
            .filter(|(_, object)| here(object))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let mut all: Vec<Arc<K>> = seen
            .into_iter()
            .filter_map(|object| {
                let own = written.remove(&ObjectRef::from_obj(object.as_ref()));
                newest(Some(object), own)
            })
            .collect();
        all.extend(written.into_values());
        all.retain(|object| wanted(object));
        all
    }

    /// Remembers what the API server answered to a write.
    pub(crate) fn wrote(&self, object: K) -> Arc<K> {
        let object = Arc::new(object);
        let key = ObjectRef::from_obj(object.as_ref());
        let seen = self.store.get(&key);
        // The event may have been faster than the response.
        if seen.is_none_or(|seen| version(seen.meta()) < version(object.meta())) {
            self.written.lock().insert(key, object.clone());
        }
        object
    }

    /// Forgets what the watch has caught up with. Call after the store took the event.
    pub(crate) fn saw(&self, event: &watcher::Event<K>) {
        match event {
            watcher::Event::Apply(object) => {
                let key = ObjectRef::from_obj(object);
                let mut written = self.written.lock();
                if written
                    .get(&key)
                    .is_some_and(|own| version(own.meta()) <= version(object.meta()))
                {
                    written.remove(&key);
                }
            }
            watcher::Event::Delete(object) => {
                self.written.lock().remove(&ObjectRef::from_obj(object));
            }
            watcher::Event::InitDone => self.written.lock().clear(),
            watcher::Event::Init | watcher::Event::InitApply(_) => {}
        }
    }
}

/// Resource versions grow and are numbers, as Kubernetes promises since 1.35; one that is no
/// number counts as older than any, so that the watch then wins.
fn version(meta: &ObjectMeta) -> u128 {
    let version = meta.resource_version.as_deref();
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn newest<K: Stored>(seen: Option<Arc<K>>, written: Option<Arc<K>>) -> Option<Arc<K>> {
    match (seen, written) {
        (Some(seen), Some(written)) if version(written.meta()) > version(seen.meta()) => {
            Some(written)
        }
        (None, Some(written)) => Some(written),
        (seen, _) => seen,
    }
}

#[cfg(test)]
mod tests {
    use ebb_api::serving::Route;
    use kube::ResourceExt as _;
    use kube::runtime::reflector;

    use super::*;

    fn route(name: &str, version: u32) -> Route {
        let mut route = Route::default();
        route.metadata.name = Some(name.to_owned());
        route.metadata.namespace = Some("default".to_owned());
        route.metadata.resource_version = Some(version.to_string());
        route
    }

    fn version_of(cache: &Cache<Route>) -> Option<String> {
        cache.get("default", "a").and_then(|route| route.resource_version())
    }

    #[test]
    fn a_write_is_read_back_until_the_watch_has_caught_up() {
        let (store, mut writer) = reflector::store();
        let cache = Cache::new(store);
        writer.apply_watcher_event(&watcher::Event::Apply(route("a", 4)));
        cache.wrote(route("a", 9));
        assert_eq!(version_of(&cache).as_deref(), Some("9"));

        let stale = watcher::Event::Apply(route("a", 7));
        writer.apply_watcher_event(&stale);
        cache.saw(&stale);
        assert_eq!(version_of(&cache).as_deref(), Some("9"));

        let later = watcher::Event::Apply(route("a", 10));
        writer.apply_watcher_event(&later);
        cache.saw(&later);
        assert_eq!(version_of(&cache).as_deref(), Some("10"));
        assert!(cache.written.lock().is_empty());
    }

    #[test]
    fn a_deleted_object_is_gone_although_it_was_written_here() {
        let (store, mut writer) = reflector::store();
        let cache = Cache::new(store);
        cache.wrote(route("a", 9));
        assert_eq!(cache.select("default", |_| true).len(), 1);
        let gone = watcher::Event::Delete(route("a", 11));
        writer.apply_watcher_event(&gone);
        cache.saw(&gone);
        assert_eq!(version_of(&cache), None);
        assert!(cache.select("default", |_| true).is_empty());
    }
}
