//! The memory of a pod whose model sleeps at times.

/// A pod that sleeps and has taken back this part of what it gave up is being woken: nothing else takes
/// that much. It is seen by that alone, for its mark goes once it is awake.
const WAKING_PART: u64 = 8;

/// What is known of its memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slumber {
    is_asleep: bool,
    /// Bytes that it had last, and the least in this sleep.
    last: u64,
    lowest: u64,
    /// Bytes that it counted with when it last was awake.
    pub(super) awake: u64,
    /// Whether it is being woken, or was not measured since.
    pub(super) is_waking: bool,
}

// === impl Slumber ===

impl Slumber {
    /// The same once it has that many bytes.
    pub(super) fn next(self, now: u64, is_asleep: bool) -> Self {
        let lowest = if self.is_asleep && is_asleep { self.lowest.min(now) } else { now };
        let is_waking = match (self.is_asleep, is_asleep) {
            (_, true) => {
                let given_up = self.awake.max(now).saturating_sub(lowest);
                now.saturating_sub(lowest) > given_up / WAKING_PART
            }
            // It has what was measured while it slept.
            (true, false) => true,
            (false, false) => self.is_waking && now == self.last,
        };
        let awake = if is_asleep || is_waking { self.awake.max(now) } else { now };
        Self { is_asleep, last: now, lowest, awake, is_waking }
    }

    /// Bytes that it counts with: one that is being woken takes back what it had.
    pub(super) fn counted(&self) -> u64 {
        if self.is_waking { self.awake } else { self.last }
    }
}
