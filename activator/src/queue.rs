//! The queue of one revision: first in first out, bounded by count and by bytes.
//!
//! Pure. A place is a [`Ticket`], numbered by arrival, so that a request that comes back (its pod
//! refused the connection) stands where it stood before and not behind all others.

use std::collections::BTreeMap;

/// Requests that may wait for one revision. Knative's breaker depth
/// (knative/serving `pkg/activator/net/throttler.go`), which there never fires.
pub const QUEUE_REQUESTS_MAX: usize = 10_000;
/// Bytes of request heads that may wait for one revision: 10 000 heads of 3 KiB. Bodies stay in
/// their sockets and cost nothing here.
pub const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The place of a request in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Requests.
    pub requests: usize,
    /// Bytes of their heads.
    pub bytes: usize,
}

/// The queue is full; `limit` says by what measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue holds {limit}; raise the activator's limit or the revision's max-scale")]
pub struct Overflow {
    /// The measure that is exhausted.
    pub limit: &'static str,
}

/// Waiters in the order of arrival.
#[derive(Debug)]
pub struct Queue<W> {
    waiting: BTreeMap<Ticket, (W, usize)>,
    bytes: usize,
    next: u64,
    limits: QueueLimits,
}

// === impl QueueLimits ===

impl Default for QueueLimits {
    fn default() -> Self {
        Self { requests: QUEUE_REQUESTS_MAX, bytes: QUEUE_BYTES_MAX }
    }
}

// === impl Queue ===

impl<W> Queue<W> {
    /// An empty queue.
    pub const fn new(limits: QueueLimits) -> Self {
        Self { waiting: BTreeMap::new(), bytes: 0, next: 0, limits }
    }

    /// The place of a request that arrives now, whether it will have to wait or not.
    pub const fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// Lets the request with `ticket` wait. It goes before all that arrived later.
    pub fn push(&mut self, ticket: Ticket, waiter: W, bytes: usize) -> Result<(), Overflow> {
        if self.waiting.len() >= self.limits.requests {
            return Err(Overflow { limit: "as many requests as it may" });
        }
        if self.bytes.saturating_add(bytes) > self.limits.bytes {
            return Err(Overflow { limit: "as many bytes as it may" });
        }
        self.bytes += bytes;
        self.waiting.insert(ticket, (waiter, bytes));
        Ok(())
    }

    /// Lets a request that was taken out wait again, before all that arrived later and even beyond
    /// the limits: it has been let in once. The limits are exceeded by no more than the part of its
    /// room that newer requests took meanwhile.
    pub fn push_back(&mut self, ticket: Ticket, waiter: W, bytes: usize) {
        self.bytes += bytes;
        self.waiting.insert(ticket, (waiter, bytes));
    }

    /// The request that has waited longest.
    pub fn pop(&mut self) -> Option<(Ticket, W)> {
        let (ticket, (waiter, bytes)) = self.waiting.pop_first()?;
        self.bytes -= bytes;
        Some((ticket, waiter))
    }

    /// Frees the place of a request that no longer wants it; false when it had none.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        match self.waiting.remove(&ticket) {
            Some((_, bytes)) => {
                self.bytes -= bytes;
                true
            }
            None => false,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also when newer requests have filled the queue meanwhile.
    #[test]
    fn a_request_that_comes_back_goes_before_those_that_arrived_later() {
        let mut queue = Queue::new(QueueLimits { requests: 1, bytes: 1 });
        let first = queue.ticket();
        let second = queue.ticket();
        queue.push(second, "second", 1).unwrap();
        queue.push_back(first, "first", 1);
        assert_eq!(queue.pop(), Some((first, "first")));
        assert_eq!(queue.pop(), Some((second, "second")));
    }

    #[test]
    fn the_queue_is_bounded_by_count_and_by_bytes_and_a_cancelled_place_is_free_again() {
        let mut queue = Queue::new(QueueLimits { requests: 2, bytes: 10 });
        let (a, b, c) = (queue.ticket(), queue.ticket(), queue.ticket());
        queue.push(a, (), 6).unwrap();
        assert!(queue.push(b, (), 6).is_err());
        queue.push(b, (), 4).unwrap();
        assert!(queue.push(c, (), 0).is_err());
        assert!(queue.cancel(a));
        assert!(!queue.cancel(a));
        queue.push(c, (), 6).unwrap();
    }
}
