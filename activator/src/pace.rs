//! How slow the other side may be.
//!
//! A side that must take or send bytes has a grace, which its delays use up and its bytes earn
//! back. So a pause is allowed and so is a slow line; one byte in each half minute is not.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Delay that is allowed without a byte: longer than a handover between radio cells, shorter than
/// any patience with a slot that one client holds.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// The least rate in the long run: 1 KiB in each 5 s, below any line that is in use.
const RATE: (u32, Duration) = (1024, Duration::from_secs(5));

/// The patience that is left with one side of one transfer.
#[derive(Debug)]
pub(crate) struct Pace {
    left: Duration,
    since: Option<Instant>,
}

/// A deadline that moves. The timer behind it moves only when it fires or must fire earlier.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

// === impl Pace ===

impl Pace {
    /// The whole grace.
    pub(crate) const fn new() -> Self {
        Self { left: GRACE, since: None }
    }

    /// It is the other side's turn from now on, if it was not already. Returns the time by which
    /// that side must have moved bytes.
    pub(crate) fn wait(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now) + self.left
    }

    /// The other side has moved `bytes`, now. The clock is read only if that was waited for, which
    /// is rare.
    pub(crate) fn moved(&mut self, bytes: usize) {
        let Some(since) = self.since.take() else {
            return self.earn(bytes);
        };
        self.left = self.left.saturating_sub(since.elapsed());
        self.earn(bytes);
    }

    fn earn(&mut self, bytes: usize) {
        if self.left == GRACE {
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let earned = RATE.1.saturating_mul(bytes) / RATE.0;
        self.left = self.left.saturating_add(earned).min(GRACE);
    }
}

// === impl Timer ===

impl Timer {
    /// Ready once `deadline` has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// How often a side may move `bytes` after a delay of `seconds` each, up to a thousand times.
    async fn moves(bytes: usize, seconds: u64) -> usize {
        let mut pace = Pace::new();
        for count in 0..1000 {
            let deadline = pace.wait(Instant::now());
            advance(Duration::from_secs(seconds)).await;
            pace.moved(bytes);
            if Instant::now() > deadline {
                return count;
            }
        }
        1000
    }

    /// One byte in 29 s is a stall, however long it goes on.
    #[tokio::test(start_paused = true)]
    async fn a_trickle_uses_the_grace_up_and_a_slow_line_does_not() {
        assert_eq!(moves(1, 29).await, 1);
        assert_eq!(moves(1, 31).await, 0);
        assert_eq!(moves(1024, 5).await, 1000);
        assert_eq!(moves(6 * 1024, 30).await, 1000);
        assert!((10..20).contains(&moves(512, 5).await));
    }
}
