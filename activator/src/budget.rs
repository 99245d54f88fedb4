//! The bytes that requests may hold in this process, all revisions and connections together.
//!
//! A request holds its head while it waits, and in HTTP/2 what its client may send of the body
//! before anybody reads it. Neither is bounded by the queue of one revision: a thousand sleeping
//! revisions, or a thousand connections, add up. What is held is counted here before it is held;
//! what does not fit is refused.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

/// The part of the budget that waiting requests may take, as a fraction. The rest is for requests
/// that a pod takes at once: those that wait for one model must not keep the uploads of another out.
const WAITING_SHARE: (i64, i64) = (3, 4);

/// The bytes that requests may hold.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: i64,
    /// Also the metric: one atomic number.
    held: Gauge,
}

/// Bytes that one request holds, given back when dropped.
#[derive(Debug)]
#[must_use = "bytes are given back when their share is dropped"]
pub(crate) struct Share {
    held: Gauge,
    bytes: i64,
}

/// What a request holds bytes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It waits for a pod.
    Waiting,
    /// It has a pod, which reads it.
    Passing,
}

// === impl Budget ===

impl Budget {
    /// A budget of `limit` bytes, of which `held` shows how many are taken.
    pub(crate) fn new(limit: usize, held: Gauge) -> Arc<Self> {
        Arc::new(Self { limit: number(limit), held })
    }

    /// Takes `bytes`; `None` when that is more than the purpose may have.
    pub(crate) fn take(&self, bytes: usize, purpose: Purpose) -> Option<Share> {
        let bytes = number(bytes);
        let limit = match purpose {
            Purpose::Waiting => self.limit / WAITING_SHARE.1 * WAITING_SHARE.0,
            Purpose::Passing => self.limit,
        };
        let before = self.held.inc_by(bytes);
        let share = Share { held: self.held.clone(), bytes };
        // Of two that race for the last bytes both may be refused; neither takes too much.
        (before.saturating_add(bytes) <= limit).then_some(share)
    }
}

// === impl Share ===

impl Drop for Share {
    fn drop(&mut self) {
        self.held.dec_by(self.bytes);
    }
}

/// Sizes are far below 2^63; a limit that is not means no limit.
fn number(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_leave_a_quarter_to_those_who_pass() {
        let gauge = Gauge::default();
        let budget = Budget::new(100, gauge.clone());
        let waiting = budget.take(75, Purpose::Waiting).unwrap();
        assert!(budget.take(1, Purpose::Waiting).is_none());
        let passing = budget.take(25, Purpose::Passing).unwrap();
        assert!(budget.take(1, Purpose::Passing).is_none());
        assert_eq!(gauge.get(), 100, "a refusal takes nothing");
        drop((waiting, passing));
        assert_eq!(gauge.get(), 0);
    }
}
