//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// Doublings after which a pause is not counted up any further: from a millisecond more than a
/// minute, and far from the end of the number.
const DOUBLINGS_MAX: u32 = 16;

/// The pause after so many failures in a row: `first` after one, doubled with each further one, and
/// never above `longest`. The caller spreads it where many may fail together.
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
