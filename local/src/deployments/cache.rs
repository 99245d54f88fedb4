//! What the shell knows of Deployments and Pods: watch events, and the answers to its own writes.
//!
//! The answer to a write is stored at once, so the next decision counts a pod that was just
//! created although its watch event has not come. Events older than what is stored are passed
//! over by resource version, which this API counts up in one row for all objects.

use std::collections::HashMap;

use kube::{Resource, ResourceExt, runtime::watcher::Event};

/// Objects by UID.
#[derive(Debug)]
pub(super) struct Cache<K> {
    objects: HashMap<String, K>,
    listed: HashMap<String, K>,
}

/// An object before and after an event; the shell finds out from them who is concerned.
#[derive(Debug, PartialEq)]
pub(super) enum Change<K> {
    Stored(String),
    Gone(K),
}

// === impl Cache ===

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), listed: HashMap::new() }
    }
}

impl<K: Resource> Cache<K> {
    pub(super) fn get(&self, uid: &str) -> Option<&K> {
        self.objects.get(uid)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &K> {
        self.objects.values()
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

    /// Stores an object unless a newer one is stored.
    pub(super) fn store(&mut self, object: K) -> Option<Change<K>> {
        let uid = object.uid()?;
        let stored = self.objects.get(&uid);
        if stored.is_some_and(|stored| version(stored) > version(&object)) {
            return None;
        }
        self.objects.insert(uid.clone(), object);
        Some(Change::Stored(uid))
    }

    pub(super) fn remove(&mut self, uid: &str) -> Option<K> {
        self.objects.remove(uid)
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

/// Zero when it is no number, which makes every such object equally new.
fn version<K: Resource>(object: &K) -> u64 {
    let version = object.meta().resource_version.as_ref();
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
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
        assert_eq!(cache.values().count(), 2);
    }
}
