//! The table itself: a host and a door lead to a revision.

use std::sync::Arc;

use rpds::HashTrieMapSync;

use super::models::ModelTable;

/// The listener that a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The one that the world reaches. It knows the external hosts of Routes that are not private.
    Outer,
    /// The one that pods of the cluster reach, and nobody else. It knows every host.
    Inner,
}

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

/// How the requests of one host are divided.
#[derive(Debug)]
pub(super) struct Split<T> {
    /// Each revision with the sum of the shares up to and including its own.
    shares: Vec<(u32, T)>,
    total: u32,
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

// === impl Split ===

impl<T> Split<T> {
    /// `None` when no share is above zero.
    pub(super) fn of(targets: impl IntoIterator<Item = (u32, T)>) -> Option<Self> {
        let mut total = 0_u32;
        let shares: Vec<_> = targets
            .into_iter()
            .filter(|(percent, _)| *percent > 0)
            .map(|(percent, target)| {
                total = total.saturating_add(percent);
                (total, target)
            })
            .collect();
        (total > 0).then_some(Self { shares, total })
    }

    /// The target with the largest share, the first of several.
    pub(super) fn largest(&self) -> &T {
        let mut before = 0;
        let mut largest = (0, 0);
        for (at, (upto, _)) in self.shares.iter().enumerate() {
            if upto - before > largest.0 {
                largest = (upto - before, at);
            }
            before = *upto;
        }
        &self.shares[largest.1].1
    }

    pub(super) fn pick(&self, random: u64) -> &T {
        let point = random % u64::from(self.total);
        let at = self.shares.partition_point(|(upto, _)| u64::from(*upto) <= point);
        // `point` is below the last sum, so `at` is a valid index; the clamp says so to the reader.
        &self.shares[at.min(self.shares.len() - 1)].1
    }
}
