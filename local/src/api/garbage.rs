//! Removes what nobody owns any more: the dependents of deleted objects and the contents of
//! deleted namespaces.
//!
//! Level-triggered: each sweep looks at all objects and takes every step that is due, so nothing
//! depends on having seen an event, and a restart goes on where a crash stopped. A sweep touches
//! only the indexed facts of objects (tens of nanoseconds each), and runs only after a change
//! that can make something garbage.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::deletion::{self, FOREGROUND, Manner, ORPHAN, Plan};
use super::handler::Clock;
use super::metadata;
use super::object::Object;
use super::request::Propagation;
use super::store::{NAMESPACES, Store, StoreError};

/// Pause before the next try when the journal refuses a write.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An object and the collection that it is in.
type Placed<'a> = (&'a str, &'a Arc<Object>);

/// One look at all objects.
struct Sweep<'a> {
    store: &'a Store,
    now: Timestamp,
    /// Every object by its UID.
    objects: HashMap<&'a str, Placed<'a>>,
    /// Objects by the UID of an owner.
    dependents: HashMap<&'a str, Vec<Placed<'a>>>,
    /// Set when a step lost a race: the next sweep takes it.
    again: bool,
}

/// Sweeps at start and whenever the store says so, until `shutdown`.
pub(crate) async fn run(store: Arc<Store>, clock: Clock, shutdown: CancellationToken) {
    loop {
        match sweep(&store, clock()) {
            Ok(false) => {}
            Ok(true) => store.garbage.notify_one(),
            Err(error) => {
                tracing::warn!(%error, "Cannot collect garbage, will try again");
                tokio::select! {
                    () = tokio::time::sleep(RETRY_AFTER) => store.garbage.notify_one(),
                    () = shutdown.cancelled() => return,
                }
            }
        }
        tokio::select! {
            () = store.garbage.notified() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Takes every step that is due; returns whether one was lost to a race.
fn sweep(store: &Store, now: Timestamp) -> Result<bool, StoreError> {
    let collections = store.everything();
    let placed = || {
        collections
            .iter()
            .flat_map(|(resource, objects)| objects.iter().map(move |object| (&**resource, object)))
    };
    let mut dependents: HashMap<&str, Vec<Placed<'_>>> = HashMap::new();
    for (resource, object) in placed() {
        for owner in object.owners() {
            dependents.entry(&owner.uid).or_default().push((resource, object));
        }
    }
    let mut sweep = Sweep {
        store,
        now,
        objects: placed().map(|(resource, object)| (object.uid(), (resource, object))).collect(),
        dependents,
        again: false,
    };
    for (resource, object) in placed() {
        sweep.visit((resource, object))?;
    }
    for (resource, object) in placed().filter(|(resource, _)| *resource == NAMESPACES) {
        if object.deleting() {
            let contents = placed().filter(|(_, own)| own.namespace() == object.name());
            sweep.empty_namespace((resource, object), contents)?;
        }
    }
    Ok(sweep.again)
}

// === impl Sweep ===

impl<'a> Sweep<'a> {
    fn visit(&mut self, placed: Placed<'a>) -> Result<(), StoreError> {
        let (_, object) = placed;
        if object.deleting() && object.has_finalizer(ORPHAN) {
            return self.release_dependents(placed);
        }
        if object.deleting() && object.has_finalizer(FOREGROUND) {
            let dependents = self.dependents.get(object.uid());
            let blocked = dependents.into_iter().flatten().any(|(_, dependent)| {
                let owners = dependent.owners().iter();
                owners.filter(|owner| *owner.uid == *object.uid()).any(|owner| owner.blocks)
            });
            if !blocked {
                return self.drop_finalizer(placed, FOREGROUND);
            }
        }
        if object.owners().is_empty() || object.deleting() {
            return Ok(());
        }
        self.visit_dependent(placed)
    }

    /// Deletes an object whose owners are all gone or waiting for it to go; cuts the references
    /// to those that are gone otherwise.
    fn visit_dependent(&mut self, placed: Placed<'a>) -> Result<(), StoreError> {
        let (_, object) = placed;
        let owner_of = |uid: &str| self.objects.get(uid).map(|(_, owner)| *owner);
        let owners: Vec<_> = object.owners().iter().map(|owner| owner_of(&owner.uid)).collect();
        let waits = |owner: &Arc<Object>| owner.deleting() && owner.has_finalizer(FOREGROUND);
        if owners.iter().flatten().any(|owner| !waits(owner)) {
            if owners.iter().any(Option::is_none) {
                let objects = &self.objects;
                let gone: HashSet<Box<str>> = object
                    .owners()
                    .iter()
                    .filter(|owner| !objects.contains_key(&*owner.uid))
                    .map(|owner| owner.uid.clone())
                    .collect();
                return self.cut(placed, &gone);
            }
            return Ok(());
        }
        let foreground = owners.iter().any(Option::is_some);
        self.delete(placed, foreground.then_some(Propagation::Foreground))
    }

    fn delete(
        &mut self,
        (resource, object): Placed<'a>,
        propagation: Option<Propagation>,
    ) -> Result<(), StoreError> {
        let manner = Manner { grace_s: None, propagation };
        match deletion::plan(&object.value(), manner, self.now) {
            Plan::Wait => Ok(()),
            Plan::Remove => self.done(self.store.remove(resource, object)),
            Plan::Mark(value) => self.done(self.store.replace(resource, object, value)),
        }
    }

    /// Cuts every dependent loose from an owner that is deleted as an orphaner, then lets it go.
    fn release_dependents(&mut self, placed: Placed<'a>) -> Result<(), StoreError> {
        let (_, object) = placed;
        let owner = HashSet::from([Box::from(object.uid())]);
        for dependent in self.dependents.get(object.uid()).cloned().unwrap_or_default() {
            self.cut(dependent, &owner)?;
        }
        if self.again {
            return Ok(());
        }
        self.drop_finalizer(placed, ORPHAN)
    }

    fn cut(
        &mut self,
        (resource, object): Placed<'a>,
        owners: &HashSet<Box<str>>,
    ) -> Result<(), StoreError> {
        let mut value = object.value();
        let fields = metadata::of(&mut value);
        if let Some(list) = fields.get_mut("ownerReferences").and_then(Value::as_array_mut) {
            list.retain(|owner| !owners.contains(owner["uid"].as_str().unwrap_or_default()));
            if list.is_empty() {
                fields.remove("ownerReferences");
            }
        }
        self.done(self.store.replace(resource, object, value))
    }

    fn drop_finalizer(
        &mut self,
        (resource, object): Placed<'a>,
        finalizer: &str,
    ) -> Result<(), StoreError> {
        let mut value = object.value();
        deletion::remove_finalizers(&mut value, &[finalizer]);
        let stored = if deletion::is_over(&value) {
            self.store.remove(resource, object)
        } else {
            self.store.replace(resource, object, value)
        };
        self.done(stored)
    }

    /// Deletes what is in a namespace; once nothing is, the namespace goes too.
    fn empty_namespace(
        &mut self,
        (resource, namespace): Placed<'a>,
        contents: impl Iterator<Item = Placed<'a>>,
    ) -> Result<(), StoreError> {
        let mut empty = true;
        for (resource, object) in contents {
            empty = false;
            if !object.deleting() {
                self.delete((resource, object), Some(Propagation::Background))?;
            }
        }
        if !empty {
            return Ok(());
        }
        let mut value = namespace.value();
        value["spec"]["finalizers"] = Value::Array(Vec::new());
        let stored = if deletion::is_over(&value) {
            self.store.remove(resource, namespace)
        } else if value["spec"] == namespace.value()["spec"] {
            return Ok(());
        } else {
            self.store.replace(resource, namespace, value)
        };
        self.done(stored)
    }

    /// A step that lost a race is taken by the next sweep.
    fn done(&mut self, stored: Result<Arc<Object>, StoreError>) -> Result<(), StoreError> {
        match stored {
            Ok(_) => Ok(()),
            Err(StoreError::Changed) => {
                self.again = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
