//! Marks that could not be written.

use std::time::Duration;

use tokio::time::Instant;

/// First pause after a mark that was not written; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// Longest pause. The pod is drained for each attempt, and an API server that comes back is found soon.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// The attempts of one silence.
#[derive(Debug)]
pub(super) struct Misses {
    /// When the first one failed.
    pub(super) since: Instant,
    /// When the next one may be made.
    pub(super) next: Instant,
    pause: Duration,
}

// === impl Misses ===

impl Misses {
    /// One more than before.
    pub(super) fn after(before: Option<&Self>, now: Instant) -> Self {
        let pause = before.map_or(PAUSE_FIRST, |it| it.pause.saturating_mul(2).min(PAUSE_MAX));
        Self { since: before.map_or(now, |it| it.since), next: now + pause, pause }
    }
}
