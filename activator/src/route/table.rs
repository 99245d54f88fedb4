//! The table itself: a host and a door lead to a revision.

use std::sync::Arc;

use rpds::HashTrieMapSync;

use super::door::Door;
use super::models::ModelTable;
use super::split::Split;

/// Host to revisions, and model to revisions; `T` stands for a revision. A clone costs nothing.
#[derive(Debug)]
pub struct RouteTable<T> {
    pub(super) hosts: HashTrieMapSync<Arc<str>, Entry<T>>,
    pub(super) models: ModelTable<T>,
}

/// What a host leads to.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) split: Arc<Split<T>>,
    /// Whether the outer door knows it.
    pub(super) is_public: bool,
}

// === impl RouteTable ===

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { hosts: HashTrieMapSync::new_sync(), models: ModelTable::default() }
    }
}

impl<T> Clone for RouteTable<T> {
    fn clone(&self) -> Self {
        Self { hosts: self.hosts.clone(), models: self.models.clone() }
    }
}

impl<T> RouteTable<T> {
    /// The revision for a request to `host` (normalised) that came through `door`; `random` decides
    /// between several. A host that is not for the door is like one that does not exist.
    pub fn pick(&self, host: &str, door: Door, random: u64) -> Option<&T> {
        let entry = self.hosts.get(host)?;
        (door == Door::Inner || entry.is_public).then(|| entry.split.pick(random))
    }

    /// The models.
    pub const fn models(&self) -> &ModelTable<T> {
        &self.models
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.hosts.size()
    }

    /// Whether there is no host at all.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

// === impl Entry ===

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { split: Arc::clone(&self.split), is_public: self.is_public }
    }
}
