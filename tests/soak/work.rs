//! How much is still to be done, and whether a fault is on right now.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;

/// How often a wait looks whether it is over: short enough that nobody waits for the end.
const STEP: Duration = Duration::from_millis(200);

/// How long after the death of an activator requests may still be sent to it: target T2 begins then.
pub(crate) const KNOWN_AFTER: Duration = Duration::from_secs(1);

/// Requests under the fault and strikes that are wanted, and those that were made.
#[derive(Debug)]
pub(crate) struct Work {
    wanted: u64,
    strikes_min: u64,
    /// Numbers the requests, calm ones included.
    begun: AtomicU64,
    under_fault: AtomicU64,
    strikes: AtomicU64,
    /// Whether a strike has effects right now.
    is_striking: AtomicBool,
    /// When an activator was killed the last time.
    killed: Mutex<Option<Instant>>,
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
            under_fault: AtomicU64::new(record.under_fault),
            strikes: AtomicU64::new(record.strikes),
            is_striking: AtomicBool::new(false),
            killed: Mutex::new(None),
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

    /// Whether all requests and strikes were made. Requests between two strikes do not count.
    pub(crate) fn is_done(&self) -> bool {
        self.under_fault.load(Ordering::Relaxed) >= self.wanted
            && self.strikes.load(Ordering::Relaxed) >= self.strikes_min
    }

    /// Takes note of a request that began or ended under the fault.
    pub(crate) fn met(&self) {
        self.under_fault.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of requests under the fault that are wanted.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Ends the work because a part of the soak itself has failed.
    pub(crate) fn give_up(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    /// A strike begins.
    pub(crate) fn strike(&self) {
        self.is_striking.store(true, Ordering::Relaxed);
    }

    /// An activator is killed now.
    pub(crate) fn kill(&self) {
        *self.killed.lock() = Some(Instant::now());
    }

    /// Whether a request that began then may be one of those that a killed activator had, or that
    /// were sent to it before anybody knew.
    pub(crate) fn is_cut_off(&self, began: Instant) -> bool {
        self.killed.lock().is_some_and(|killed| began < killed + KNOWN_AFTER)
    }

    /// The effects of the strike are over; what follows is the wait until all is as before.
    pub(crate) fn ease(&self) {
        self.is_striking.store(false, Ordering::Relaxed);
    }

    /// A strike is over. Says so of its effects, too.
    pub(crate) fn struck(&self) {
        self.ease();
        self.strikes.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a strike has effects right now.
    pub(crate) fn is_striking(&self) -> bool {
        self.is_striking.load(Ordering::Relaxed)
    }

    /// Waits until a strike has effects, or none has, or the work ends.
    pub(crate) async fn until_striking(&self, is_striking: bool) {
        while self.goes_on() && self.is_striking() != is_striking {
            tokio::time::sleep(STEP).await;
        }
    }

    /// Waits so long, or until the work ends.
    pub(crate) async fn rest(&self, time: Duration) {
        let end = Instant::now() + time;
        while self.goes_on() && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(STEP)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn calm_requests_and_a_few_strikes_do_not_end_the_work() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let ledger = Ledger::open(folder.path().join("F1.json"), Fault::F1, 5)?;
        let work = Work::new(&ledger, 2, 1, CancellationToken::new());
        for number in 0..5 {
            assert_eq!(work.next(), Some(number));
        }
        work.strike();
        assert!(work.is_striking());
        work.ease();
        assert!(!work.is_striking(), "its effects are over before it is");
        work.struck();
        work.met();
        assert!(work.goes_on(), "one request under the fault is missing");
        work.met();
        assert_eq!(work.next(), None);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_activator_excuses_what_began_within_a_second() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let ledger = Ledger::open(folder.path().join("F2.json"), Fault::F2, 5)?;
        let work = Work::new(&ledger, 2, 1, CancellationToken::new());
        let before = Instant::now();
        assert!(!work.is_cut_off(before), "nobody was killed");
        tokio::time::advance(Duration::from_secs(3)).await;
        work.kill();
        tokio::time::advance(Duration::from_millis(999)).await;
        assert!(work.is_cut_off(before) && work.is_cut_off(Instant::now()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!work.is_cut_off(Instant::now()));
        Ok(())
    }
}
