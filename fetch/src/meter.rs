//! How far a fetch is: counted by those who fetch, read by those who tell.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::FetchError;

/// What a fetch does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FetchPhase {
    /// Asks which files there are.
    #[default]
    Listing,
    Downloading,
    /// Reads what an earlier process left.
    Checking,
    Unpacking,
    Done,
    Failed,
}

/// The counters of one fetch.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Bytes of the files that are there.
    done: AtomicU64,
    /// Bytes of all files.
    total: Mutex<Option<u64>>,
    /// Bytes that came over the network.
    came: AtomicU64,
    phase: Mutex<FetchPhase>,
    /// Why it failed.
    error: Mutex<Option<String>>,
    stopped: AtomicBool,
    /// Held by the one who writes the counters to a file: the last to write has the last state.
    pub(crate) writes: Mutex<()>,
}

// === impl Meter ===

impl Meter {
    pub(crate) fn enter(&self, phase: FetchPhase) {
        *self.phase.lock() = phase;
    }

    /// The last phase of a fetch without its model.
    pub(crate) fn fail(&self, error: &FetchError) {
        *self.error.lock() = Some(error.to_string());
        self.enter(FetchPhase::Failed);
    }

    pub(crate) fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    pub(crate) fn phase(&self) -> FetchPhase {
        *self.phase.lock()
    }

    pub(crate) fn set_total(&self, total: Option<u64>) {
        *self.total.lock() = total;
    }

    pub(crate) fn total(&self) -> Option<u64> {
        *self.total.lock()
    }

    /// Bytes that came and are on the disk.
    pub(crate) fn came(&self, bytes: u64) {
        self.came.fetch_add(bytes, Ordering::Relaxed);
        self.has(bytes);
    }

    /// Bytes that were there, or were unpacked.
    pub(crate) fn has(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that are thrown away: they come again.
    pub(crate) fn lost(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Starts to count from the beginning, of another total.
    pub(crate) fn restart(&self, total: Option<u64>) {
        self.done.store(0, Ordering::Relaxed);
        self.set_total(total);
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub(crate) fn over_the_network(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }

    /// Ends loops that no future's drop ends.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
