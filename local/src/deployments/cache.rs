//! The shell's view of Pods: watch events, and the answers to its own writes.
//!
//! The answer to a write is stored at once, so the next decision counts a pod that was just created
//! although its watch event has not come. Events older than the stored object are skipped by
//! resource version, which this API counts up in one sequence for all objects.

use std::collections::{BTreeSet, HashMap};

use ebb_api::resource_version::ResourceVersion;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

/// Objects by UID.
#[derive(Debug)]
pub(super) struct Cache<K> {
    objects: HashMap<String, K>,
    /// Pairs of UIDs: a controller, and an object that it owns.
    owned: BTreeSet<(String, String)>,
    listed: HashMap<String, K>,
}

/// An object that was stored, by UID, or that is gone; the shell finds its Deployment from it.
#[derive(Debug, PartialEq)]
pub(super) enum Change<K> {
    Stored(String),
    Gone(K),
}

// === impl Cache ===

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), owned: BTreeSet::new(), listed: HashMap::new() }
    }
}

impl<K: Resource> Cache<K> {
    pub(super) fn get(&self, uid: &str) -> Option<&K> {
        self.objects.get(uid)
    }

    /// The objects whose controller has this UID.
    pub(super) fn owned_by<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a K> {
        let pairs = self.owned.range((owner.to_owned(), String::new())..);
        pairs
            .take_while(move |(own, _)| own == owner)
            .filter_map(move |(_, uid)| self.objects.get(uid))
    }

    /// Follows one watch event; returns what changed.
    pub(super) fn follow(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Apply(object) => self.store(object).into_iter().collect(),
            Event::Delete(object) => {
                let uid = object.uid().unwrap_or_default();
                self.remove(&uid).map(Change::Gone).into_iter().collect()
            }
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.insert(object.uid().unwrap_or_default(), object);
                Vec::new()
            }
            Event::InitDone => self.replace(),
        }
    }

    /// Stores an object unless a newer one is stored. Drops its managed fields, which are the
    /// larger part of most objects.
    pub(super) fn store(&mut self, mut object: K) -> Option<Change<K>> {
        object.meta_mut().managed_fields = None;
        let uid = object.uid()?;
        let stored = self.objects.get(&uid);
        if stored.is_some_and(|stored| !version(&object).shows(version(stored))) {
            return None;
        }
        let owner = owner(&object).map(str::to_owned);
        if let Some(before) = self.objects.insert(uid.clone(), object)
            && let Some(before) = controller(&before, &uid)
        {
            self.owned.remove(&before);
        }
        self.owned.extend(owner.map(|owner| (owner, uid.clone())));
        Some(Change::Stored(uid))
    }

    pub(super) fn remove(&mut self, uid: &str) -> Option<K> {
        let object = self.objects.remove(uid)?;
        if let Some(pair) = controller(&object, uid) {
            self.owned.remove(&pair);
        }
        Some(object)
    }

    fn replace(&mut self) -> Vec<Change<K>> {
        let listed = std::mem::take(&mut self.listed);
        let gone: Vec<String> =
            self.objects.keys().filter(|uid| !listed.contains_key(*uid)).cloned().collect();
        let mut changes: Vec<Change<K>> =
            gone.iter().filter_map(|uid| self.remove(uid).map(Change::Gone)).collect();
        changes.extend(listed.into_values().filter_map(|object| self.store(object)));
        changes
    }
}

/// The UID of an object's controller.
pub(super) fn owner(object: &impl Resource) -> Option<&str> {
    let owners = object.meta().owner_references.as_ref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(&owner.uid)
}

fn controller(object: &impl Resource, uid: &str) -> Option<(String, String)> {
    Some((owner(object)?.to_owned(), uid.to_owned()))
}

fn version(object: &impl Resource) -> ResourceVersion {
    ResourceVersion::of(object.meta())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, version: u64) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "uid": uid, "resourceVersion": version.to_string()},
        }))
        .expect("a pod")
    }

    #[test]
    fn an_event_older_than_the_answer_to_a_write_is_passed_over() {
        let mut cache = Cache::default();
        assert_eq!(cache.store(pod("a", 7)), Some(Change::Stored("a".to_owned())));
        assert!(cache.follow(Event::Apply(pod("a", 6))).is_empty());
        assert_eq!(cache.get("a"), Some(&pod("a", 7)));
        assert_eq!(cache.follow(Event::Apply(pod("a", 8))).len(), 1);
    }

    /// The pods of a Deployment are found without a look at all pods.
    #[test]
    fn pods_are_found_by_their_controller() {
        let mut cache = Cache::default();
        for (uid, owner) in [("a", "one"), ("b", "two"), ("c", "one")] {
            let mut pod = pod(uid, 1);
            pod.metadata.owner_references = Some(vec![OwnerReference {
                uid: owner.to_owned(),
                controller: Some(true),
                ..OwnerReference::default()
            }]);
            cache.store(pod);
        }
        let uids = |cache: &Cache<Pod>| -> Vec<String> {
            cache.owned_by("one").filter_map(ResourceExt::uid).collect()
        };
        assert_eq!(uids(&cache), ["a", "c"]);
        cache.remove("a");
        assert_eq!(uids(&cache), ["c"]);
        let mut released = pod("c", 2);
        released.metadata.owner_references = None;
        cache.store(released);
        assert_eq!(uids(&cache), [""; 0]);
        assert_eq!(cache.owned.len(), 1);
    }

    #[test]
    fn a_new_list_takes_the_place_of_the_old_one() {
        let mut cache = Cache::default();
        cache.store(pod("old", 1));
        cache.store(pod("kept", 2));
        cache.follow(Event::Init);
        cache.follow(Event::InitApply(pod("kept", 2)));
        cache.follow(Event::InitApply(pod("new", 3)));
        let changes = cache.follow(Event::InitDone);
        assert!(changes.contains(&Change::Gone(pod("old", 1))));
        assert_eq!(cache.objects.len(), 2);
    }
}
