//! How long to wait before a container is started again.

use std::time::Duration;

/// Kubelet's first wait (`MaxContainerBackOff` and `backOffPeriod`, `pkg/kubelet/kubelet.go`).
const BASE: Duration = Duration::from_secs(10);
/// Kubelet's longest wait.
const LONGEST: Duration = Duration::from_mins(5);
/// After a run this long earlier ends no longer count: twice the longest wait, as kubelet.
const FORGIVEN_AFTER: Duration = Duration::from_mins(10);

/// Counts the ends of one container.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    ends: u32,
}

// === impl Backoff ===

impl Backoff {
    /// The wait after an end: none the first time, then 10 s doubling to 5 min.
    pub(super) fn after(&mut self, ran_for: Duration) -> Duration {
        if ran_for >= FORGIVEN_AFTER {
            self.ends = 0;
        }
        self.ends = self.ends.saturating_add(1);
        match self.ends {
            1 => Duration::ZERO,
            ends => {
                BASE.saturating_mul(1_u32.checked_shl(ends - 2).unwrap_or(u32::MAX)).min(LONGEST)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_wait_longer_and_longer() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.after(BASE).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_long_run_is_forgiven() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            backoff.after(Duration::ZERO);
        }
        assert_eq!(backoff.after(FORGIVEN_AFTER), Duration::ZERO);
        assert_eq!(backoff.after(Duration::ZERO), BASE);
    }
}
