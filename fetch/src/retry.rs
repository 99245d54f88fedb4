//! When a failed attempt is followed by another.

use std::time::Duration;

/// Attempts in a row without progress before a file is given up: with the pauses below some three
/// minutes. A kubelet starts the container again, and `ebb local` the process.
const ATTEMPTS_MAX: u32 = 9;
/// The first pause, which doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause of our own.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest pause that a server may ask for: rate limits of Hugging Face count in windows of five
/// minutes.
const ASKED_MAX: Duration = Duration::from_mins(5);

/// Fewest bytes that count as progress: a server that breaks off after some bytes each time would be
/// asked without end. An attempt that brings the rest of a file, however short, has not failed.
const PROGRESS_BYTES_MIN: u64 = 1 << 20;

/// Whether a file that went from `before` bytes to `now` made progress.
pub(crate) fn is_progress(before: u64, now: u64) -> bool {
    now.saturating_sub(before) >= PROGRESS_BYTES_MIN
}

/// Failed attempts since the last progress.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    in_vain: u32,
}

// === impl Retries ===

impl Retries {
    /// How long to wait before the next attempt; `None`: it is given up.
    ///
    /// `progressed`: whether there was progress since the last failure. `asked`: what the server
    /// asked to wait. `random`: from 0 to 1, so that many pods do not come back at once.
    pub(crate) fn after_failure(
        &mut self,
        progressed: bool,
        asked: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        self.in_vain = if progressed { 1 } else { self.in_vain + 1 };
        if self.in_vain >= ATTEMPTS_MAX {
            return None;
        }
        let own = FIRST_PAUSE.saturating_mul(1 << (self.in_vain - 1)).min(PAUSE_MAX);
        let own = own.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        Some(asked.map_or(own, |asked| asked.clamp(own, ASKED_MAX.max(own))))
    }

    /// Failed attempts in a row.
    pub(crate) fn in_vain(&self) -> u32 {
        self.in_vain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_end() {
        let mut retries = Retries::default();
        let pauses: Vec<_> =
            std::iter::from_fn(|| retries.after_failure(false, None, 1.0)).collect();
        let millis: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(retries.in_vain(), ATTEMPTS_MAX);
    }

    #[test]
    fn some_bytes_are_no_progress() {
        assert!(!is_progress(5, 5) && !is_progress(5, 4) && !is_progress(5, 1 << 20));
        assert!(is_progress(5, 5 + (1 << 20)));
    }

    #[test]
    fn bytes_that_came_start_the_count_anew() {
        let mut retries = Retries::default();
        for _ in 0..100 {
            assert_eq!(retries.after_failure(true, None, 0.0), Some(FIRST_PAUSE / 2));
        }
        assert_eq!(retries.after_failure(false, None, 1.0), Some(FIRST_PAUSE * 2));
    }

    #[test]
    fn a_server_may_ask_for_more_within_bounds_and_not_for_less() {
        let mut retries = Retries::default();
        let seconds = Duration::from_secs;
        assert_eq!(retries.after_failure(true, Some(seconds(20)), 1.0), Some(seconds(20)));
        assert_eq!(retries.after_failure(true, Some(seconds(9000)), 1.0), Some(ASKED_MAX));
        assert_eq!(retries.after_failure(true, Some(seconds(0)), 1.0), Some(FIRST_PAUSE));
    }
}
