//! Which leader's orders are obeyed: those of the newest leader heard of.
//!
//! A deposed leader may not know it yet, and its orders may be on their way for long. Its successor
//! has a greater epoch, which tells the two apart here.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// How long an epoch stands without a word from its leader. Epochs count up in one object of the
/// API server; should that object be lost, epochs begin anew, and orders must be obeyed again some
/// day.
const KEPT: Duration = Duration::from_mins(1);

/// The newest epoch, with the time of its last order, and counters of the orders that were not
/// obeyed.
#[derive(Debug)]
pub(crate) struct Epochs {
    newest: Mutex<Option<(u64, Instant)>>,
    refused: Family<Reason, Counter>,
}

/// Why an order was not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

// === impl Epochs ===

impl Epochs {
    /// No epoch heard of yet.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let refused = Family::<Reason, Counter>::default();
        registry.sub_registry_with_prefix("ebb_activator").register(
            "orders_refused",
            "Drain orders refused: from a deposed leader, or for too many revisions",
            refused.clone(),
        );
        Self { newest: Mutex::default(), refused }
    }

    /// Counts an order for a revision that there was no room for.
    pub(crate) fn no_room(&self) {
        self.refused.get_or_create(&Reason { reason: "revisions" }).inc();
    }

    /// Whether an order of that epoch is to be obeyed.
    pub(crate) fn admit(&self, epoch: u64, now: Instant) -> bool {
        let mut newest = self.newest.lock();
        let is_old = newest
            .is_some_and(|(other, at)| epoch < other && now.saturating_duration_since(at) <= KEPT);
        if is_old {
            self.refused.get_or_create(&Reason { reason: "epoch" }).inc();
        } else {
            *newest = Some((epoch, now));
        }
        !is_old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deposed leader acts on its backlog before it notices.
    #[test]
    fn an_older_epoch_is_refused_while_a_newer_one_stands() {
        let (epochs, now) = (Epochs::new(&mut Registry::default()), Instant::now());
        assert!(epochs.admit(4, now));
        assert!(epochs.admit(5, now));
        assert!(!epochs.admit(4, now + KEPT));
        assert!(epochs.admit(5, now + KEPT));
        assert!(!epochs.admit(4, now + 2 * KEPT));
        assert!(epochs.admit(1, now + 2 * KEPT + Duration::from_millis(1)), "the count began anew");
    }
}
