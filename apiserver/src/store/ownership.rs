//! Owners and dependents of objects, and the objects that the garbage collector has still to look
//! at.
//!
//! Kept up to date with every change, so that the cost of a change grows with the objects that it
//! concerns and not with all objects: a look at all of them for each creation and deletion would
//! make the work grow with their square. Invariant: an object about which something can be done is
//! due.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::key;
use crate::object::Object;

/// An object and the key of the collection that it is in.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// Key of the collection.
    pub(crate) resource: Arc<str>,
    /// The object.
    pub(crate) object: Arc<Object>,
}

/// The place of an object: the key of its collection, and its own key there.
pub(super) type Place = (Arc<str>, String);

/// The relations among objects, by UID. Each map is bounded by the objects and their owners.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    objects: HashMap<Arc<str>, Placed>,
    /// Pairs of the UID of an owner, which need not exist, and that of an object that names it.
    dependents: BTreeSet<(Arc<str>, Arc<str>)>,
    /// In order, so that equal runs stay equal.
    due: BTreeSet<Place>,
}

// === impl Placed ===

impl Placed {
    fn place(&self) -> Place {
        (Arc::clone(&self.resource), key(self.object.namespace(), self.object.name()))
    }
}

// === impl Ownership ===

impl Ownership {
    /// The object of that UID.
    pub(super) fn find(&self, uid: &str) -> Option<&Placed> {
        self.objects.get(uid)
    }

    /// The objects that name `owner` as one of their owners.
    pub(super) fn dependents<'a>(
        &'a self,
        owner: &'a Arc<str>,
    ) -> impl Iterator<Item = &'a Placed> {
        let pairs = self.dependents.range((Arc::clone(owner), Arc::from(""))..);
        pairs
            .take_while(move |(own, _)| own == owner)
            .filter_map(move |(_, dependent)| self.objects.get(dependent))
    }

    /// Whether anything is due.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// The next place to look at, which may be empty by now.
    pub(super) fn next_due(&mut self) -> Option<Place> {
        self.due.pop_first()
    }

    /// Makes an object due.
    pub(super) fn look_at(&mut self, placed: &Placed) {
        self.due.insert(placed.place());
    }

    /// Takes in a new object, or a new version of one.
    pub(super) fn wrote(&mut self, placed: &Placed, before: Option<&Object>) {
        let object = &placed.object;
        let uid = Arc::clone(object.shared_uid());
        let known = before.map_or(&[][..], Object::owners);
        if known != object.owners() {
            self.release(&uid, known);
            for owner in object.owners() {
                let owner = self.shared(&owner.uid);
                self.dependents.insert((owner, Arc::clone(&uid)));
            }
            self.look_at(placed);
        }
        self.objects.insert(uid, placed.clone());
        if object.deleting() {
            self.look_at(placed);
            self.look_at_dependents(object.shared_uid());
        }
    }

    /// Takes in the removal of an object.
    pub(super) fn erased(&mut self, before: &Object) {
        self.objects.remove(before.uid());
        self.release(before.shared_uid(), before.owners());
        self.look_at_dependents(before.shared_uid());
    }

    /// Cuts `uid` loose from its owners. One that is being deleted may have waited for that, and
    /// becomes due.
    fn release(&mut self, uid: &Arc<str>, owners: &[crate::object::Owner]) {
        for owner in owners {
            let owner = self.shared(&owner.uid);
            if let Some(placed) = self.objects.get(&owner).filter(|own| own.object.deleting()) {
                self.due.insert(placed.place());
            }
            self.dependents.remove(&(owner, Arc::clone(uid)));
        }
    }

    fn look_at_dependents(&mut self, owner: &Arc<str>) {
        let places: Vec<Place> = self.dependents(owner).map(Placed::place).collect();
        self.due.extend(places);
    }

    /// The UID, shared with its object if that exists.
    fn shared(&self, uid: &str) -> Arc<str> {
        self.objects.get_key_value(uid).map_or_else(|| Arc::from(uid), |(own, _)| Arc::clone(own))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::journal::Recovered;
    use crate::store::{NAMESPACES, Store};

    fn object(name: &str, owners: &[&str]) -> Value {
        let owners: Vec<Value> = owners.iter().map(|uid| json!({ "uid": uid })).collect();
        json!({ "metadata": {
            "namespace": "default", "name": name, "uid": name, "ownerReferences": owners,
        }})
    }

    fn store() -> Store {
        let store = Store::new(Recovered::default(), None).unwrap();
        store.create(NAMESPACES, json!({ "metadata": { "name": "default" } })).unwrap();
        store
    }

    fn due(store: &Store) -> Vec<String> {
        std::iter::from_fn(|| store.next_due())
            .map(|placed| placed.object.name().to_owned())
            .collect()
    }

    /// However many objects there are, a change makes only those due that it concerns.
    #[test]
    fn a_change_makes_only_the_concerned_objects_due() {
        let store = store();
        for number in 0..100 {
            store.create("things", object(&format!("{number}"), &[])).unwrap();
        }
        assert_eq!(due(&store), [""; 0]);
        store.create("things", object("a", &["7"])).unwrap();
        assert_eq!(due(&store), ["a"]);
        store.create("things", object("b", &["7", "8"])).unwrap();
        assert_eq!(due(&store), ["b"]);

        let seven = store.get("things", "default", "7").unwrap();
        let mut marked = seven.value();
        marked["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let seven = store.replace("things", &seven, marked).unwrap();
        assert_eq!(due(&store), ["7", "a", "b"]);
        let b = store.get("things", "default", "b").unwrap();
        store.replace("things", &b, object("b", &["8"])).unwrap();
        assert_eq!(due(&store), ["7", "b"], "it may have waited for b");
        store.remove("things", &seven).unwrap();
        assert_eq!(due(&store), ["a"]);
    }

    #[test]
    fn the_contents_of_a_namespace_are_due_when_it_ends_and_it_with_the_last_of_them() {
        let store = store();
        store.create("things", object("a", &[])).unwrap();
        let namespace = store.get(NAMESPACES, "", "default").unwrap();
        let mut marked = namespace.value();
        marked["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        store.replace(NAMESPACES, &namespace, marked).unwrap();
        assert_eq!(due(&store), ["default", "a"]);
        let a = store.get("things", "default", "a").unwrap();
        store.remove("things", &a).unwrap();
        assert_eq!(due(&store), ["default"]);
    }
}
