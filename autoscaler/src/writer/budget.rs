//! How many requests the API server gets from the writer, and for what.
//!
//! An API server and its etcd take some 10 ms of processor time for a write. Requests wait for
//! wakes, so all other writes leave wakes room in both measures: requests under way, and requests
//! in a second.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::Urgency;

/// Most attempts under way. An API server takes 200 mutating requests at once by default
/// (`--max-mutating-requests-inflight`); a burst of cold starts must leave some for others.
pub(super) const UNDER_WAY_MAX: usize = 128;
/// Most attempts under way that mark pods, each with as many requests as it marks pods.
const MARKING_MAX: usize = 4;
/// Requests in a second on the average: as many as keep one core of an API server busy.
const RATE_S: f64 = 100.0;
/// Requests at once after a pause.
const BURST: f64 = 200.0;

/// A bucket of tokens, one for each request, and the attempts under way.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: f64,
    filled: Instant,
    under_way: usize,
    marking: usize,
}

// === impl Budget ===

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now, under_way: 0, marking: 0 }
    }

    /// Begins an attempt of so many requests, if there is room and budget for one of this urgency.
    pub(super) fn begin(&mut self, urgency: Urgency, requests: usize, now: Instant) -> bool {
        self.fill(now);
        if !self.has_room(urgency) || self.tokens < least(urgency) {
            return false;
        }
        // Into debt, if need be: the size of an attempt is bounded.
        self.tokens -= f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
        self.under_way += 1;
        self.marking += usize::from(urgency == Urgency::Mark);
        true
    }

    /// An attempt has ended.
    pub(super) fn end(&mut self, urgency: Urgency) {
        self.under_way = self.under_way.saturating_sub(1);
        self.marking = self.marking.saturating_sub(usize::from(urgency == Urgency::Mark));
    }

    /// Nothing is under way any more.
    pub(super) fn clear(&mut self) {
        (self.under_way, self.marking) = (0, 0);
    }

    /// When there will be budget for a write of this urgency; `None` if it waits for an attempt to
    /// end.
    pub(super) fn due(&self, urgency: Urgency) -> Option<Instant> {
        let lacking = (least(urgency) - self.tokens).max(0.0);
        // Rounded up to the next millisecond, the resolution of timers.
        let millis = (lacking / RATE_S * 1000.0).ceil();
        self.has_room(urgency).then(|| self.filled + Duration::from_secs_f64(millis / 1000.0))
    }

    fn has_room(&self, urgency: Urgency) -> bool {
        let places = match urgency {
            Urgency::Wake => UNDER_WAY_MAX,
            Urgency::Raise => UNDER_WAY_MAX * 3 / 4,
            Urgency::Lower | Urgency::Mark => UNDER_WAY_MAX / 2,
        };
        self.under_way < places && (urgency < Urgency::Mark || self.marking < MARKING_MAX)
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = passed.mul_add(RATE_S, self.tokens).min(BURST);
        self.filled = now;
    }
}

/// Tokens that must be there: below that they are kept for more urgent writes.
fn least(urgency: Urgency) -> f64 {
    match urgency {
        Urgency::Wake => 1.0,
        Urgency::Raise => BURST / 4.0,
        Urgency::Lower | Urgency::Mark => BURST / 2.0,
    }
}
