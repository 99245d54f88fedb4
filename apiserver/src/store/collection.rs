//! The objects of one resource, and the log of their changes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::changes::ChangeLog;
use super::key;
use crate::object::Object;

/// One resource's objects.
#[derive(Debug)]
pub(super) struct Collection {
    /// By `namespace/name`, so that a namespace is a range.
    pub(super) objects: BTreeMap<Box<str>, Arc<Object>>,
    /// Their last changes.
    pub(super) log: ChangeLog,
}

// === impl Collection ===

impl Collection {
    /// An empty collection of which every change after `revision` is known.
    pub(super) fn new(revision: u64) -> Self {
        Self { objects: BTreeMap::new(), log: ChangeLog::new(revision) }
    }

    /// The objects of `namespace` (all when `None`) behind the key `after`.
    pub(super) fn range<'a>(
        &'a self,
        namespace: Option<&'a str>,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let first = namespace.map(|namespace| key(namespace, "")).unwrap_or_default();
        let from = match after {
            Some(after) if after >= first.as_str() => Bound::Excluded(after),
            _ => Bound::Included(first.as_str()),
        };
        let range = self.objects.range::<str, _>((from, Bound::Unbounded));
        range
            .map(|(_, object)| object)
            .take_while(move |object| namespace.is_none_or(|own| object.namespace() == own))
    }
}
