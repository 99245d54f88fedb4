//! Removes objects that nothing owns any more: the dependents of deleted objects and the contents
//! of deleted namespaces.
//!
//! The store says which objects a change concerns ([`Store::next_due`]). Each of them is judged by
//! its state at the time of the look; the kind of change does not matter. At the start every object
//! that could be garbage is due, so a restart goes on where a crash stopped.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::deletion::{self, DeletionPlan, FOREGROUND, Manner, ORPHAN};
use crate::handler::Clock;
use crate::metadata;
use crate::object::Object;
use crate::request::Propagation;
use crate::store::{NAMESPACES, Placed, Store, StoreError};

/// Pause before the next try when the journal refuses a write.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Objects looked at before other tasks have their turn: each look may cost a write.
const LOOKS_AT_ONCE: usize = 64;

/// How a look at an object ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing is left to do about the object for now.
    Done,
    /// The object was changed at the same time.
    Raced,
}

/// One look at one object.
struct Look<'a> {
    store: &'a Store,
    now: Timestamp,
    placed: &'a Placed,
}

/// Looks at the objects that are due until `shutdown`.
pub(crate) async fn run(store: Arc<Store>, clock: Clock, shutdown: CancellationToken) {
    loop {
        let pause = match collect(&store, &clock) {
            Ok(true) => {
                tokio::task::yield_now().await;
                continue;
            }
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(%error, "Cannot collect garbage, will try again");
                Some(RETRY_AFTER)
            }
        };
        let next = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => store.garbage.notified().await,
            }
        };
        tokio::select! {
            () = next => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Looks at the objects that are due, up to a bound. Returns whether more may be due.
fn collect(store: &Store, clock: &Clock) -> Result<bool, StoreError> {
    for _ in 0..LOOKS_AT_ONCE {
        let Some(placed) = store.next_due() else {
            return Ok(false);
        };
        let look = Look { store, now: clock(), placed: &placed };
        let outcome = look.take();
        if !matches!(outcome, Ok(Outcome::Done)) {
            store.look_again(&placed);
        }
        outcome?;
    }
    Ok(true)
}

// === impl Look ===

impl Look<'_> {
    fn take(&self) -> Result<Outcome, StoreError> {
        let object = &self.placed.object;
        if object.deleting() && object.has_finalizer(ORPHAN) {
            return self.release_dependents();
        }
        if object.deleting() && object.has_finalizer(FOREGROUND) && !self.is_blocked() {
            return self.drop_finalizer(FOREGROUND);
        }
        if object.deleting() {
            return self.empty_namespace();
        }
        if self.store.is_namespace_ending(object) {
            return self.delete(Some(Propagation::Background));
        }
        if object.owners().is_empty() { Ok(Outcome::Done) } else { self.visit_dependent() }
    }

    /// Whether an object that holds up this one's deletion is still there.
    fn is_blocked(&self) -> bool {
        let uid = self.placed.object.uid();
        self.store.dependents_of(&self.placed.object).iter().any(|dependent| {
            let owners = dependent.object.owners().iter();
            owners.filter(|owner| &*owner.uid == uid).any(|owner| owner.blocks)
        })
    }

    /// Deletes an object whose owners are all gone or wait for its deletion. An object with any
    /// other owner only loses its references to the owners that are gone.
    fn visit_dependent(&self) -> Result<Outcome, StoreError> {
        let object = &self.placed.object;
        let owners = self.store.owners_of(object);
        let waits = |owner: &Arc<Object>| owner.deleting() && owner.has_finalizer(FOREGROUND);
        if owners.iter().flatten().any(|owner| !waits(owner)) {
            let pairs = object.owners().iter().zip(&owners);
            let gone: HashSet<Box<str>> = pairs
                .filter(|(_, found)| found.is_none())
                .map(|(owner, _)| owner.uid.clone())
                .collect();
            return if gone.is_empty() { Ok(Outcome::Done) } else { self.cut(self.placed, &gone) };
        }
        let foreground = owners.iter().any(Option::is_some);
        self.delete(foreground.then_some(Propagation::Foreground))
    }

    fn delete(&self, propagation: Option<Propagation>) -> Result<Outcome, StoreError> {
        let Placed { resource, object } = self.placed;
        let manner = Manner { grace_s: None, propagation };
        match deletion::plan(&object.value(), manner, self.now) {
            DeletionPlan::Wait => Ok(Outcome::Done),
            DeletionPlan::Remove | DeletionPlan::RemoveMarked(_) => {
                ended(self.store.remove(resource, object))
            }
            DeletionPlan::Mark(value) => ended(self.store.replace(resource, object, value)),
        }
    }

    /// Cuts every dependent loose from an owner that is deleted with the policy `Orphan`, then
    /// removes the finalizer that held the owner.
    fn release_dependents(&self) -> Result<Outcome, StoreError> {
        let owner = HashSet::from([Box::from(self.placed.object.uid())]);
        for dependent in self.store.dependents_of(&self.placed.object) {
            if self.cut(&dependent, &owner)? == Outcome::Raced {
                return Ok(Outcome::Raced);
            }
        }
        self.drop_finalizer(ORPHAN)
    }

    fn cut(&self, placed: &Placed, owners: &HashSet<Box<str>>) -> Result<Outcome, StoreError> {
        let mut value = placed.object.value();
        let fields = metadata::of(&mut value);
        if let Some(list) = fields.get_mut("ownerReferences").and_then(Value::as_array_mut) {
            list.retain(|owner| !owners.contains(owner["uid"].as_str().unwrap_or_default()));
            if list.is_empty() {
                fields.remove("ownerReferences");
            }
        }
        ended(self.store.replace(&placed.resource, &placed.object, value))
    }

    fn drop_finalizer(&self, finalizer: &str) -> Result<Outcome, StoreError> {
        let Placed { resource, object } = self.placed;
        let mut value = object.value();
        deletion::remove_finalizers(&mut value, &[finalizer]);
        ended(if deletion::is_over(&value) {
            self.store.remove(resource, object)
        } else {
            self.store.replace(resource, object, value)
        })
    }

    /// Once a namespace that is being deleted is empty, clears the finalizers of its spec, and
    /// removes it if nothing else holds it. Its contents became due when it was marked.
    fn empty_namespace(&self) -> Result<Outcome, StoreError> {
        let Placed { resource, object } = self.placed;
        if &**resource != NAMESPACES || !self.store.is_empty(object.name()) {
            return Ok(Outcome::Done);
        }
        let before = object.value();
        let mut value = before.clone();
        value["spec"]["finalizers"] = Value::Array(Vec::new());
        if deletion::is_over(&value) {
            return ended(self.store.remove(resource, object));
        }
        if value["spec"] == before["spec"] {
            return Ok(Outcome::Done);
        }
        ended(self.store.replace(resource, object, value))
    }
}

/// The outcome of a write; one that lost a race is tried again.
fn ended(stored: Result<Arc<Object>, StoreError>) -> Result<Outcome, StoreError> {
    match stored {
        Ok(_) => Ok(Outcome::Done),
        Err(StoreError::Changed) => Ok(Outcome::Raced),
        Err(error) => Err(error),
    }
}
