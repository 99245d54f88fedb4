//! The log of a collection's last changes, from which watches read.
//!
//! One log serves every watch of the collection, each with its own position: nothing is queued per
//! watch, so a slow watch costs nothing. It is cut off once the log has moved past it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use crate::object::Object;

/// Changes kept of one collection. The real server's caches begin at 100 and grow with load;
/// this covers a list-then-watch of a burst of a thousand writes without a relist.
const CHANGES_MAX: usize = 1_024;
/// Bytes of objects that these changes may keep alive.
const CHANGES_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// The object is new.
    Added,
    /// The object has a new version.
    Modified,
    /// The object is gone.
    Deleted,
}

/// One change of a collection.
#[derive(Debug, Clone)]
pub(crate) struct ObjectChange {
    /// What the change did.
    pub(crate) kind: ChangeKind,
    /// The new version, or the last one at the revision of its removal.
    pub(crate) object: Arc<Object>,
    /// The version before. Where no selector can tell the two apart, it is the new version again,
    /// so that the log does not hold an old one for nothing.
    pub(crate) before: Option<Arc<Object>>,
}

/// The last changes of one collection, oldest first.
#[derive(Debug)]
pub(super) struct ChangeLog {
    changes: VecDeque<ObjectChange>,
    bytes: usize,
    /// Every change after this revision is in the log.
    complete_after: u64,
    /// Tells watches the revision of the last change.
    announce: watch::Sender<u64>,
}

// === impl ChangeLog ===

impl ChangeLog {
    /// A log that knows every change after `revision`.
    pub(super) fn new(revision: u64) -> Self {
        Self {
            changes: VecDeque::new(),
            bytes: 0,
            complete_after: revision,
            announce: watch::Sender::new(revision),
        }
    }

    /// Adds a change and wakes the watches.
    pub(super) fn push(&mut self, change: ObjectChange) {
        let revision = change.object.revision();
        self.bytes += change.object.json().len();
        self.changes.push_back(change);
        while self.changes.len() > CHANGES_MAX
            || (self.bytes > CHANGES_BYTES_MAX && self.changes.len() > 1)
        {
            let Some(oldest) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= oldest.object.json().len();
            self.complete_after = oldest.object.revision();
        }
        self.announce.send_replace(revision);
    }

    /// The revision after which no change is missing.
    pub(super) fn complete_after(&self) -> u64 {
        self.complete_after
    }

    /// The changes after `revision`, which must not be before [`Self::complete_after`].
    pub(super) fn after(&self, revision: u64) -> impl Iterator<Item = &ObjectChange> {
        let first = self.changes.partition_point(|change| change.object.revision() <= revision);
        self.changes.range(first..)
    }

    /// Subscribes to the revision of each change.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.announce.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::journal::Recovered;
    use crate::store::{Store, WatchStart};

    fn object(label: &str, status: u32) -> Value {
        json!({ "metadata": { "name": "a", "labels": { "a": label } }, "status": status })
    }

    fn replaced(resource: &str, first: Value, second: Value) -> ObjectChange {
        let store = Arc::new(Store::new(Recovered::default(), None).unwrap());
        let old = store.create(resource, first).unwrap();
        let mut watch = store.watch(resource, WatchStart::Now).unwrap();
        store.replace(resource, &old, second).unwrap();
        watch.take().unwrap().pop().unwrap()
    }

    /// Of a thousand changes of status the log holds a thousand versions, not two thousand.
    #[test]
    fn the_log_holds_an_old_version_only_where_a_selector_may_ask_for_it() {
        let holds_old = |resource, first, second| {
            let change = replaced(resource, first, second);
            !Arc::ptr_eq(change.before.as_ref().unwrap(), &change.object)
        };
        assert!(!holds_old("things", object("x", 1), object("x", 2)));
        assert!(holds_old("things", object("x", 1), object("y", 1)));
        assert!(holds_old("pods", object("x", 1), object("x", 2)), "by status.phase");
    }
}
