//! Backoff: the pause before a failed operation is tried again.

use std::time::Duration;

/// Most doublings of a pause. From 1 ms they lead to more than a minute, and `1 << 16` is far from
/// overflowing.
const DOUBLINGS_MAX: u32 = 16;

/// The pause after this number of failures in a row: `first` after one failure, doubled with each
/// further failure, at most `longest`. The caller adds jitter where many operations may fail
/// together.
#[must_use]
pub fn pause_after(failures: u32, first: Duration, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
    first.saturating_mul(1 << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (first, longest) = (Duration::from_millis(20), Duration::from_secs(30));
        let pause = |failures| pause_after(failures, first, longest);
        assert_eq!((pause(0), pause(1)), (first, first));
        assert_eq!(pause(2), first * 2);
        assert_eq!(pause(11), Duration::from_millis(20 * 1024));
        assert_eq!((pause(12), pause(u32::MAX)), (longest, longest));
    }
}
