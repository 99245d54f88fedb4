//! Activators that are not heard: how many there are, and the log lines about them.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::Fleet;
use crate::activators::{GONE_AFTER, Unheard};

impl Fleet {
    /// How many activators are not heard although they may send requests; 1 if not all activators
    /// are known.
    pub fn unheard(&self, instant: Instant) -> usize {
        match self.activators.unheard(instant) {
            None => 0,
            Some(Unheard::Pods) => 1,
            Some(Unheard::Activators(silent)) => silent.len(),
        }
    }

    /// Logs once for each activator that it is silent, and what that means.
    pub(super) fn tell_silence(&mut self, now: Instant) {
        for name in self.activators.forget_gone(now) {
            tracing::warn!(
                activator.name = name,
                "An activator without a pod has not reported for {} s and is no longer waited for",
                GONE_AFTER.as_secs()
            );
        }
        let Some(Unheard::Activators(silent)) = self.activators.unheard(now) else {
            self.silent.clear();
            return;
        };
        let long = silent.into_iter().filter(|(_, silence)| *silence >= GONE_AFTER);
        let long: BTreeSet<_> = long.map(|(name, _)| name).collect();
        for name in long.difference(&self.silent) {
            tracing::warn!(
                activator.name = name,
                "An activator is not heard although its pod may send requests: no scale is lowered"
            );
        }
        self.silent = long;
    }
}
