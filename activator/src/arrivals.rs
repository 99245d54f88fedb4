//! Requests that are quicker than the watches.
//!
//! A Route becomes Ready for people by the same write by which activators hear of its hosts, and a
//! person may be quicker than the watch of the one activator that gets the request. So what is
//! unknown here waits a moment for news before it is refused.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::budget::Part;

/// How long to wait: a watch is milliseconds behind, and under load some hundred.
const WAIT: Duration = Duration::from_millis(500);
/// Most requests that wait so; more are refused at once. Each wakes at every piece of news, and what
/// they hold is counted before (`proxy/held.rs`).
const WAITING_MAX: usize = 1000;

/// Tells of new hosts and Revisions.
pub(crate) struct Arrivals {
    told: watch::Sender<()>,
    places: Semaphore,
    /// How often there was no place.
    full: Counter,
    /// What requests for hosts and Revisions that are unknown hold while they wait.
    pub(crate) held: Arc<Part>,
}

// === impl Arrivals ===

impl Arrivals {
    /// No news yet; `full` counts the requests that were refused because too many waited.
    pub(crate) fn new(full: Counter) -> Self {
        let places = Semaphore::new(WAITING_MAX);
        Self { told: watch::Sender::default(), places, full, held: Arc::default() }
    }

    /// Something is there that was not before.
    pub(crate) fn tell(&self) {
        self.told.send_replace(());
    }

    /// What `look` finds, now or after news that come within [`WAIT`].
    pub(crate) async fn find<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let Ok(_place) = self.places.try_acquire() else {
            self.full.inc();
            return None;
        };
        let mut told = self.told.subscribe();
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            timeout_at(deadline, told.changed()).await.ok()?.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_told_in_time_is_found_and_what_is_not_is_given_up() {
        let (arrivals, known) =
            (Arc::new(Arrivals::new(Counter::default())), Arc::new(AtomicBool::new(false)));
        let look = || known.load(Ordering::SeqCst).then_some(7);
        let begun = Instant::now();
        assert_eq!(arrivals.find(look).await, None);
        assert_eq!(begun.elapsed(), WAIT);
        let teller = async {
            arrivals.tell();
            tokio::time::sleep(WAIT / 2).await;
            known.store(true, Ordering::SeqCst);
            arrivals.tell();
        };
        let (found, ()) = futures::join!(arrivals.find(look), teller);
        assert_eq!(found, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_wait() {
        let arrivals = Arrivals::new(Counter::default());
        let all = (0..WAITING_MAX).map(|_| arrivals.find(|| None::<()>));
        let one_more = async {
            let begun = Instant::now();
            assert_eq!(arrivals.find(|| None::<()>).await, None);
            assert_eq!(begun.elapsed(), Duration::ZERO);
        };
        futures::join!(futures::future::join_all(all), one_more);
        assert_eq!(arrivals.full.get(), 1);
    }
}
