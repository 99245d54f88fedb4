//! The pauses of a watch that fails.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;

/// The longest pause. An API server that is back is heard within it, and no sooner than it can
/// bear: a process has a dozen watches at the most.
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses between the attempts of one watch: kube's, from 0.8 s on and with its jitter, but none
/// that lasts longer than 5 s. kube by itself waits for up to a minute: a host that was made just
/// after an outage was unknown to an activator for that long.
#[derive(Default)]
pub struct WatchPauses(DefaultBackoff);

impl Iterator for WatchPauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let mut pause = self.0.next()?;
        // Halved and not cut off, so that the jitter stays: many watches do not return at one
        // moment.
        while pause > LONGEST {
            pause /= 2;
        }
        Some(pause)
    }
}

impl Backoff for WatchPauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_tries_again_within_5_s_however_long_it_has_failed() {
        let pauses: Vec<_> = WatchPauses::default().take(1000).collect();
        assert_eq!(pauses.len(), 1000, "it never gives up");
        let allowed = Duration::from_millis(800)..=Duration::from_secs(5);
        let wrong: Vec<_> = pauses.iter().filter(|pause| !allowed.contains(pause)).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_ne!(pauses[500], pauses[501], "many watches do not return at one moment");
    }
}
