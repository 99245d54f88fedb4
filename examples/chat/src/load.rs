//! How much goes on at once: admission, places for generations, and the numbers of `/stats`.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::Refusal;

/// Requests that may wait for a place, whatever the number of places. A real engine's queue is of
/// this order; the proxy in front should have held requests beyond it.
pub const WAITING_MAX: usize = 1024;

/// The numbers of `/stats`, since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests inside now, computing or waiting; `/health` and `/stats` do not count.
    pub in_flight: usize,
    /// The most there ever were.
    pub in_flight_max: usize,
    /// Generations that have a place now.
    pub running: usize,
    /// The most there ever were.
    pub running_max: usize,
    /// Requests answered to their end.
    pub finished: u64,
    /// Requests whose client left before the end.
    pub abandoned: u64,
    /// Requests refused because too many were inside.
    pub refused: u64,
}

/// Counts requests and gives generations their places.
#[derive(Clone, Debug)]
pub struct ServerLoad {
    stats: Arc<Mutex<Stats>>,
    places: Arc<Semaphore>,
    concurrency: usize,
}

/// A request that is inside; leaves when dropped.
#[derive(Debug)]
pub struct ServerVisit {
    stats: Arc<Mutex<Stats>>,
    finished: bool,
}

/// A generation that runs; gives its place back when dropped.
#[derive(Debug)]
pub struct GenerationPlace {
    stats: Arc<Mutex<Stats>>,
    _permit: Option<OwnedSemaphorePermit>,
}

// === impl ServerLoad ===

impl ServerLoad {
    /// Places for `concurrency` generations at a time.
    pub fn new(concurrency: usize) -> Self {
        let concurrency = concurrency.min(Semaphore::MAX_PERMITS);
        Self { stats: Arc::default(), places: Arc::new(Semaphore::new(concurrency)), concurrency }
    }

    /// The numbers now.
    pub fn stats(&self) -> Stats {
        *self.stats.lock()
    }

    /// Lets a request in, or refuses it when too many are inside.
    pub fn enter(&self) -> Result<ServerVisit, Refusal> {
        let mut stats = self.stats.lock();
        let limit = self.concurrency.saturating_add(WAITING_MAX);
        if stats.in_flight >= limit {
            stats.refused += 1;
            return Err(Refusal::Busy { limit });
        }
        stats.in_flight += 1;
        stats.in_flight_max = stats.in_flight_max.max(stats.in_flight);
        Ok(ServerVisit { stats: Arc::clone(&self.stats), finished: false })
    }

    /// Waits for a place to generate in, first come first served. Dropping the future leaves the
    /// queue.
    pub async fn place(&self) -> GenerationPlace {
        // The semaphore is never closed, so there is always a permit to come.
        let permit = Arc::clone(&self.places).acquire_owned().await.ok();
        let mut stats = self.stats.lock();
        stats.running += 1;
        stats.running_max = stats.running_max.max(stats.running);
        GenerationPlace { stats: Arc::clone(&self.stats), _permit: permit }
    }
}

// === impl ServerVisit ===

impl ServerVisit {
    /// Marks the request as answered to its end.
    pub fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for ServerVisit {
    fn drop(&mut self) {
        let mut stats = self.stats.lock();
        stats.in_flight -= 1;
        if self.finished {
            stats.finished += 1;
        } else {
            stats.abandoned += 1;
        }
    }
}

// === impl GenerationPlace ===

impl Drop for GenerationPlace {
    fn drop(&mut self) {
        self.stats.lock().running -= 1;
    }
}
