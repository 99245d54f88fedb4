//! When a connection that brings something brings too little.

use std::time::Duration;

use tokio::time::Instant;

/// Fewest bytes in a second that are waited for. The slowest lines that models come over have a hundred
/// times as much; a server that sends a byte now and then would hold a fetch up for good.
const BYTES_PER_SECOND_MIN: u64 = 1 << 10;
/// Over how long they are counted: lines stall for some seconds.
const WINDOW: Duration = Duration::from_mins(1);

/// What follows for people.
pub(crate) const TOO_SLOW: &str = "the server sent less than 1Ki a second for a minute";

/// Bytes of one connection, counted since some moment.
#[derive(Debug)]
pub(crate) struct ArrivalPace {
    since: Instant,
    bytes: u64,
}

// === impl ArrivalPace ===

impl ArrivalPace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// Counts bytes that came now; whether too few came in the whole of the window that ends here.
    pub(crate) fn is_too_slow(&mut self, bytes: usize, now: Instant) -> bool {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let lasted = now.saturating_duration_since(self.since);
        if lasted < WINDOW {
            return false;
        }
        let least = BYTES_PER_SECOND_MIN.saturating_mul(lasted.as_secs());
        let is_too_slow = self.bytes < least;
        *self = Self::new(now);
        is_too_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends so many bytes each second, for two minutes; when it was found too slow.
    fn slow_after(bytes: impl Fn(u64) -> usize) -> Option<u64> {
        let began = Instant::now();
        let mut pace = ArrivalPace::new(began);
        (1..=120)
            .find(|second| pace.is_too_slow(bytes(*second), began + Duration::from_secs(*second)))
    }

    #[test]
    fn a_trickle_is_found_after_a_minute_and_a_stall_is_not() {
        assert_eq!(slow_after(|_| 1), Some(60));
        assert_eq!(slow_after(|_| 1023), Some(60));
        assert_eq!(slow_after(|_| 1024), None);
        assert_eq!(slow_after(|second| if second % 60 == 10 { 100 << 10 } else { 0 }), None);
        assert_eq!(slow_after(|second| if second < 60 { 10_000 } else { 10 }), Some(120));
    }
}
