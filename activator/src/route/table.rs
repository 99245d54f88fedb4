//! The table itself: a host and a door lead to a revision.

use std::collections::BTreeMap;
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
    /// Where the tags of its Route lead, for a Route's own host if it has tags.
    pub(super) tags: Option<Arc<Tags<T>>>,
}

/// The tags of a Route by name: where each leads, and whether the outer door knows its host.
pub(super) type Tags<T> = BTreeMap<String, (Arc<Split<T>>, bool)>;

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
    /// between several. A host that is not for the door is like one that does not exist. A request that
    /// names a `tag` of the host's Route gets what the tag's own host leads to, and any other tag counts
    /// as none.
    pub fn pick(&self, host: &str, door: Door, tag: Option<&str>, random: u64) -> Option<&T> {
        let entry = self.hosts.get(host)?;
        let is_open = |is_public: bool| door == Door::Inner || is_public;
        let tagged = || entry.tags.as_ref()?.get(tag?).filter(|(_, is_public)| is_open(*is_public));
        let split = || tagged().map_or(&entry.split, |(split, _)| split);
        is_open(entry.is_public).then(|| split().pick(random))
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
        Self { split: Arc::clone(&self.split), is_public: self.is_public, tags: self.tags.clone() }
    }
}
