//! How much is still to be done, and whether a fault is on right now.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;

/// Requests and strikes that are wanted, and those that were begun.
#[derive(Debug)]
pub(crate) struct Work {
    wanted: u64,
    strikes_min: u64,
    begun: AtomicU64,
    strikes: AtomicU64,
    /// Strikes that are going on: those of the race to zero go on side by side.
    striking: AtomicU64,
    /// Somebody ends the work before its time, to go on later.
    stop: CancellationToken,
    is_broken: AtomicBool,
}

impl Work {
    /// The rest of the work of which a ledger has the beginning.
    pub(crate) fn new(
        ledger: &Ledger,
        wanted: u64,
        strikes_min: u64,
        stop: CancellationToken,
    ) -> Self {
        let record = ledger.record();
        Self {
            wanted,
            strikes_min,
            begun: AtomicU64::new(record.requests()),
            strikes: AtomicU64::new(record.strikes),
            striking: AtomicU64::new(0),
            stop,
            is_broken: AtomicBool::new(false),
        }
    }

    /// The number of the next request; `None` when no more are to be sent.
    pub(crate) fn next(&self) -> Option<u64> {
        self.goes_on().then(|| self.begun.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether more requests are to be sent.
    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.is_cancelled() && !self.is_broken.load(Ordering::Relaxed) && !self.is_done()
    }

    /// Whether all requests and strikes were begun.
    pub(crate) fn is_done(&self) -> bool {
        self.begun.load(Ordering::Relaxed) >= self.wanted
            && self.strikes.load(Ordering::Relaxed) >= self.strikes_min
    }

    /// The number of requests that are wanted.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Ends the work because a part of the soak itself has failed.
    pub(crate) fn give_up(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    /// Begins a strike.
    pub(crate) fn strike(&self) {
        self.striking.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a strike.
    pub(crate) fn struck(&self) {
        self.striking.fetch_sub(1, Ordering::Relaxed);
        self.strikes.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a strike is going on.
    pub(crate) fn is_striking(&self) -> bool {
        self.striking.load(Ordering::Relaxed) > 0
    }

    /// Waits so long, or until the work ends.
    pub(crate) async fn rest(&self, time: Duration) {
        // Short enough that nobody waits for the end.
        let step = Duration::from_millis(200);
        let end = Instant::now() + time;
        while self.goes_on() && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(step)).await;
        }
    }
}
