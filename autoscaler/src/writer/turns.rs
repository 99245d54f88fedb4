//! The order in which waiting writes are made.

use std::collections::BTreeSet;

use ebb_api::report::RevisionKey;

use crate::event::Urgency;

/// One attempt in so many is for a write that failed before, if a failed one of the highest urgency
/// waits. A write that fails again and again must not keep a new wake waiting; but a failure may
/// also have been an accident, and then its write must be made however many new ones come. All
/// writes that failed share this part: ten a second at the rate that is kept.
const FAILED_EVERY: u64 = 10;

/// The order of writes: the most urgent first; of those, the ones that have not failed; of those,
/// the first that came. One attempt in [`FAILED_EVERY`] is for those that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) urgency: Urgency,
    pub(super) has_failed: bool,
    pub(super) number: u64,
}

/// Revisions with a write that waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    ready: BTreeSet<(Turn, RevisionKey)>,
    /// Attempts that were begun.
    begun: u64,
}

// === impl Turns ===

impl Turns {
    pub(super) fn insert(&mut self, turn: Turn, key: RevisionKey) {
        self.ready.insert((turn, key));
    }

    pub(super) fn remove(&mut self, turn: Turn, key: &RevisionKey) {
        self.ready.remove(&(turn, key.clone()));
    }

    pub(super) fn clear(&mut self) {
        self.ready.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    /// How urgent the most urgent write is.
    pub(super) fn urgency(&self) -> Option<Urgency> {
        self.ready.first().map(|(turn, _)| turn.urgency)
    }

    /// A request was begun.
    pub(super) fn began(&mut self) {
        self.begun += 1;
    }

    /// Takes the write whose turn it is.
    pub(super) fn take(&mut self) -> Option<(Turn, RevisionKey)> {
        let urgency = self.urgency()?;
        if self.begun % FAILED_EVERY == FAILED_EVERY - 1 {
            let first = Turn { urgency, has_failed: true, number: 0 };
            let failed = self.ready.range((first, RevisionKey::new("", ""))..).next();
            if let Some(failed) = failed.filter(|(turn, _)| turn.urgency == urgency).cloned() {
                self.ready.remove(&failed);
                return Some(failed);
            }
        }
        self.ready.pop_first()
    }
}
