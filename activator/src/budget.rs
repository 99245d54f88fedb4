//! The bytes that requests may hold in this process, all revisions and connections together.
//!
//! A request holds its head while it waits, and in HTTP/2 also the part of its body that the client
//! may send before the body is read. The queue of one revision bounds neither: a thousand sleeping
//! revisions, or a thousand connections, add up. Bytes are counted here before they are held; a
//! request whose bytes do not fit is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// The share of the budget that waiting requests may take at most, and likewise the requests that a
/// pod reads. Each kind leaves a quarter to the other: requests that wait for one model must not
/// keep the uploads to another out, nor may long uploads keep every model from being woken.
const PURPOSE_SHARE: (i64, i64) = (3, 4);
/// The share of a purpose's bytes that the requests of one revision may take at most. The other
/// half is for the other revisions, whatever the clients of this one do. A revision that is alone
/// still has 96 MiB of the chart's 1 GiB, which is a thousand waiting uploads.
const REVISION_SHARE: (i64, i64) = (1, 2);

/// The bytes that requests may hold.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: i64,
    /// The bytes that are held: one atomic number, which is also the metric.
    held: Gauge,
    /// The bytes that are held for each purpose.
    parts: Part,
}

/// The bytes that the requests of one revision hold.
#[derive(Debug, Default)]
pub(crate) struct Part {
    waiting: AtomicI64,
    passing: AtomicI64,
}

/// Bytes that one request holds, given back when dropped.
#[derive(Debug)]
#[must_use = "bytes are given back when their share is dropped"]
pub(crate) struct Share {
    budget: Arc<Budget>,
    part: Arc<Part>,
    bytes: i64,
    purpose: Purpose,
}

/// What a request holds bytes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It waits for a pod.
    Waiting,
    /// It has a pod, which reads it.
    Passing,
}

/// The bound that a request's bytes would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// That of all requests.
    All,
    /// That of the revision.
    Revision,
}

// === impl Budget ===

impl Budget {
    /// A budget of `limit` bytes; `held` shows how many of them are taken.
    pub(crate) fn new(limit: usize, held: Gauge) -> Arc<Self> {
        Arc::new(Self { limit: number(limit), held, parts: Part::default() })
    }

    /// Takes `bytes` for a request of the revision that has `part`; an error when that is more than
    /// all requests, the purpose or the revision may have.
    pub(crate) fn take(
        self: &Arc<Self>,
        bytes: usize,
        purpose: Purpose,
        part: &Arc<Part>,
    ) -> Result<Share, Excess> {
        let bytes = number(bytes);
        let most = self.limit / PURPOSE_SHARE.1 * PURPOSE_SHARE.0;
        let all = self.held.inc_by(bytes).saturating_add(bytes);
        let alike = self.parts.add(purpose, bytes);
        let own = part.add(purpose, bytes);
        let share = Share { budget: Arc::clone(self), part: Arc::clone(part), bytes, purpose };
        // Two requests that race for the last bytes may both be refused; neither takes too much.
        if own > most / REVISION_SHARE.1 * REVISION_SHARE.0 {
            return Err(Excess::Revision);
        }
        if alike > most || all > self.limit {
            return Err(Excess::All);
        }
        Ok(share)
    }
}

// === impl Part ===

impl Part {
    fn of(&self, purpose: Purpose) -> &AtomicI64 {
        match purpose {
            Purpose::Waiting => &self.waiting,
            Purpose::Passing => &self.passing,
        }
    }

    /// Adds `bytes` and returns the sum.
    fn add(&self, purpose: Purpose, bytes: i64) -> i64 {
        self.of(purpose).fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes)
    }
}

// === impl Share ===

impl Share {
    /// Takes `bytes` more; an error when that is more than all requests, the purpose or the
    /// revision may have.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Excess> {
        let mut more = self.budget.take(bytes, self.purpose, &self.part)?;
        self.bytes = self.bytes.saturating_add(std::mem::take(&mut more.bytes));
        Ok(())
    }

    /// Counts for the revision that has `part` from now on; an error when that is more than the
    /// revision may have.
    pub(crate) fn move_to(&mut self, part: &Arc<Part>) -> Result<(), Excess> {
        let mut moved = self.budget.take(0, self.purpose, part)?;
        let own = part.add(self.purpose, self.bytes);
        std::mem::swap(&mut moved.part, &mut self.part);
        moved.part.add(self.purpose, -self.bytes);
        let most = self.budget.limit / PURPOSE_SHARE.1 * PURPOSE_SHARE.0;
        if own > most / REVISION_SHARE.1 * REVISION_SHARE.0 {
            return Err(Excess::Revision);
        }
        Ok(())
    }

    /// A pod reads the request from now on: its bytes no longer count as waiting. A request that
    /// was let in is never refused for that; later ones may be.
    pub(crate) fn passes(&mut self) {
        if self.purpose == Purpose::Waiting {
            for part in [&self.budget.parts, &*self.part] {
                part.add(Purpose::Waiting, -self.bytes);
                part.add(Purpose::Passing, self.bytes);
            }
            self.purpose = Purpose::Passing;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.dec_by(self.bytes);
        self.budget.parts.add(self.purpose, -self.bytes);
        self.part.add(self.purpose, -self.bytes);
    }
}

/// Sizes are far below 2^63; a limit above that means no limit.
fn number(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_passing_requests_leave_each_other_a_quarter() {
        for (first, second) in
            [(Purpose::Waiting, Purpose::Passing), (Purpose::Passing, Purpose::Waiting)]
        {
            let gauge = Gauge::default();
            let budget = Budget::new(100, gauge.clone());
            let (one, two, three) = (Arc::default(), Arc::default(), Arc::default());
            let most = [budget.take(37, first, &one), budget.take(37, first, &two)];
            assert_eq!(budget.take(2, first, &three).unwrap_err(), Excess::All);
            let rest = budget.take(26, second, &three).unwrap();
            assert_eq!(budget.take(1, second, &three).unwrap_err(), Excess::All);
            assert_eq!(gauge.get(), 100, "a refusal takes nothing");
            drop((most, rest));
            assert_eq!(gauge.get(), 0);
        }
    }

    #[test]
    fn one_revision_leaves_half_to_the_others() {
        let budget = Budget::new(100, Gauge::default());
        let (one, other) = (Arc::default(), Arc::default());
        let held = budget.take(37, Purpose::Waiting, &one).unwrap();
        assert_eq!(budget.take(1, Purpose::Waiting, &one).unwrap_err(), Excess::Revision);
        let beside = budget.take(37, Purpose::Waiting, &other).unwrap();
        drop((held, beside));
        assert!(budget.take(37, Purpose::Waiting, &one).is_ok(), "all was given back");
    }

    #[test]
    fn what_passes_waits_no_longer() {
        let budget = Budget::new(100, Gauge::default());
        let part = Arc::default();
        let mut stream = budget.take(37, Purpose::Waiting, &part).unwrap();
        stream.passes();
        let next = budget.take(37, Purpose::Waiting, &part).unwrap();
        assert_eq!(budget.take(1, Purpose::Passing, &part).unwrap_err(), Excess::Revision);
        drop((stream, next));
        assert!(budget.take(37, Purpose::Passing, &part).is_ok());
    }
}
