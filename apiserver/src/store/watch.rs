//! A position in a collection's log of changes.

use std::sync::Arc;

use tokio::sync::watch;

use super::{ChangeKind, ObjectChange, Store};

/// Changes handed out at once: bounds the time under the lock and the size of a chunk.
const BATCH_MAX: usize = 128;

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchStart {
    /// With every object there is, as if it were created now.
    Everything,
    /// With the next change.
    Now,
    /// With the first change after this revision.
    After(u64),
}

/// The changes asked for are no longer, or not yet, known: the client has to list again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub(crate) struct Expired {
    /// Revision asked for.
    pub(crate) asked: u64,
    /// Oldest revision from which changes are known.
    pub(crate) oldest: u64,
}

/// A watch of one collection. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct CollectionWatch {
    store: Arc<Store>,
    resource: Box<str>,
    revision: u64,
    announced: watch::Receiver<u64>,
}

// === impl CollectionWatch ===

impl CollectionWatch {
    pub(super) fn new(
        store: Arc<Store>,
        resource: &str,
        start: WatchStart,
    ) -> Result<Self, Expired> {
        let mut state = store.state.lock();
        let current = state.revision;
        let log = &state.collection(resource).log;
        let revision = match start {
            WatchStart::Everything | WatchStart::Now => current,
            // A revision from the future is of a state that was lost: listing again heals that.
            WatchStart::After(asked) if asked < log.complete_after() || asked > current => {
                let oldest = log.complete_after();
                return Err(Expired { asked, oldest });
            }
            WatchStart::After(asked) => asked,
        };
        let announced = log.subscribe();
        drop(state);
        Ok(Self { store, resource: resource.into(), revision, announced })
    }

    /// Opens a watch, and returns every object as of its position.
    pub(crate) fn initial(
        store: &Arc<Store>,
        resource: &str,
    ) -> Result<(Vec<ObjectChange>, Self), Expired> {
        // Listing first and watching from there would need a second look for changes between.
        let watch = Self::new(Arc::clone(store), resource, WatchStart::Everything)?;
        let state = store.state.lock();
        let objects = state.collections.get(resource).into_iter().flat_map(|collection| {
            collection.objects.values().map(|object| ObjectChange {
                kind: ChangeKind::Added,
                object: Arc::clone(object),
                before: None,
            })
        });
        let objects: Vec<ObjectChange> = objects.collect();
        let revision = state.revision;
        drop(state);
        Ok((objects, Self { revision, ..watch }))
    }

    /// Revision up to which everything was handed out.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The next changes, of which there is at least one. Cancel-safe: nothing is lost when the
    /// future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Vec<ObjectChange>, Expired> {
        loop {
            self.announced.borrow_and_update();
            let changes = self.take()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            if self.announced.changed().await.is_err() {
                // The sender is in the store, which this watch holds: not reached.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The changes since the last call, without waiting.
    pub(crate) fn take(&mut self) -> Result<Vec<ObjectChange>, Expired> {
        let state = self.store.state.lock();
        let Some(collection) = state.collections.get(&*self.resource) else {
            return Ok(Vec::new());
        };
        let (asked, oldest) = (self.revision, collection.log.complete_after());
        if asked < oldest {
            return Err(Expired { asked, oldest });
        }
        let changes: Vec<ObjectChange> =
            collection.log.after(asked).take(BATCH_MAX).cloned().collect();
        // With nothing left to hand out this watch is up to date with the whole store.
        self.revision = match changes.last() {
            Some(last) if changes.len() == BATCH_MAX => last.object.revision(),
            _ => state.revision,
        };
        Ok(changes)
    }
}
