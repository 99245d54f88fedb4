//! The scale-down delay: the highest decision of the last while is the one that counts.
//!
//! Source: knative/serving pkg/autoscaler/aggregation/max. Decisions are kept in slots of two
//! seconds, as long as Knative's tick; only those that may still become the highest are held.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Length of a slot; Knative's `tickInterval`.
const SLOT: Duration = Duration::from_secs(2);

/// The decisions of the last while.
#[derive(Debug, Default)]
pub struct DelayWindow {
    /// When each was made and what it was: times rise, values fall.
    decisions: VecDeque<(Instant, u32)>,
}

// === impl DelayWindow ===

impl DelayWindow {
    /// The highest decision within `delay` of now, `desired` included.
    pub fn highest(&mut self, desired: u32, delay: Duration, now: Instant) -> u32 {
        if delay.is_zero() {
            self.decisions.clear();
            return desired;
        }
        while self.decisions.back().is_some_and(|(_, value)| *value <= desired) {
            self.decisions.pop_back();
        }
        // Two falling decisions in one slot: the first, higher one stands for the slot.
        let same_slot = |at: &Instant| now.duration_since(*at) < SLOT;
        if !self.decisions.back().is_some_and(|(at, _)| same_slot(at)) {
            self.decisions.push_back((now, desired));
        }
        while self.decisions.front().is_some_and(|(at, _)| now.duration_since(*at) > delay) {
            self.decisions.pop_front();
        }
        self.decisions.front().map_or(desired, |(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lower_decision_is_followed_only_after_the_delay() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let delay = Duration::from_secs(10);
        let mut window = DelayWindow::default();
        // (second, decision, what counts)
        for (second, decision, counts) in [
            (0, 5, 5),
            (2, 3, 5),
            (4, 4, 5),
            (10, 1, 5),
            (12, 1, 4), // the 5 is 12 s old, the 4 of second 4 only 8 s
            (14, 1, 4),
            (16, 1, 1), // the 4 is 12 s old
            (18, 9, 9), // up at once
        ] {
            assert_eq!(window.highest(decision, delay, at(second)), counts, "second {second}");
        }
        assert_eq!(window.highest(2, Duration::ZERO, at(20)), 2);
    }
}
