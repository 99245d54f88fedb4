//! Requests that are quicker than the watches.
//!
//! One write makes a Route Ready for people and tells activators of its hosts, so a person may be
//! quicker than the watch of the one activator that gets the request. A request for an unknown host
//! or Revision therefore waits a moment for news before it is refused, and longer while a watch may
//! be behind: after an outage of the API server the watches come back one by one, and that of Routes
//! may tell of a Revision that the other has not brought yet.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::budget::Part;

/// How long to wait: a watch is some milliseconds behind, under load some hundred.
const WAIT: Duration = Duration::from_millis(500);
/// How long a watch may be behind after it failed: the longest pause before its next attempt
/// ([`ebb_daemon::pauses`]), the longest wait for an answer to that, and the time of a list.
const BEHIND: Duration = Duration::from_secs(16);
/// Most requests that wait for news; further ones are refused at once. Each of them wakes at every
/// piece of news, and the bytes that it holds are counted before (`proxy/held.rs`).
const WAITING_MAX: usize = 1000;

/// Wakes the requests that wait for a host or a Revision that is not known yet.
pub(crate) struct Arrivals {
    told: watch::Sender<()>,
    /// When a watch last failed.
    failed: Mutex<Option<Instant>>,
    places: Semaphore,
    /// Counts the requests that found no place.
    full: Counter,
    /// The bytes that requests for unknown hosts and Revisions hold while they wait.
    pub(crate) held: Arc<Part>,
}

// === impl Arrivals ===

impl Arrivals {
    /// No news yet; `full` counts the requests that were refused because too many waited.
    pub(crate) fn new(full: Counter) -> Self {
        let places = Semaphore::new(WAITING_MAX);
        let (told, failed) = (watch::Sender::default(), Mutex::default());
        Self { told, failed, places, full, held: Arc::default() }
    }

    /// There is news: the waiting requests look again.
    pub(crate) fn tell(&self) {
        self.told.send_replace(());
    }

    /// A watch of Routes or Revisions has failed.
    pub(crate) fn watch_failed(&self, now: Instant) {
        *self.failed.lock() = Some(now);
    }

    /// Returns what `look` finds, now or after news within [`WAIT`]: for other activators, which
    /// serve by themselves what is not known here.
    pub(crate) async fn find<T>(&self, look: impl FnMut() -> Option<T>) -> Option<T> {
        self.find_until(Instant::now() + WAIT, look).await
    }

    /// The same for clients, which wait for as long as a watch may be behind; half of the places are
    /// for such waits.
    pub(crate) async fn find_patiently<T>(&self, look: impl FnMut() -> Option<T>) -> Option<T> {
        let soon = Instant::now() + WAIT;
        // Hosts that nobody has must not keep the others from waiting at all.
        let has_room = self.places.available_permits() > WAITING_MAX / 2;
        let behind = self.failed.lock().filter(|_| has_room).map(|failed| failed + BEHIND);
        self.find_until(behind.map_or(soon, |until| until.max(soon)), look).await
    }

    async fn find_until<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let Ok(_place) = self.places.try_acquire() else {
            self.full.inc();
            return None;
        };
        let mut told = self.told.subscribe();
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
    async fn a_client_waits_for_as_long_as_a_watch_may_be_behind_and_an_activator_does_not() {
        let arrivals = Arrivals::new(Counter::default());
        let waited = async |is_client: bool| {
            let begun = Instant::now();
            let found = if is_client {
                arrivals.find_patiently(|| None::<()>).await
            } else {
                arrivals.find(|| None::<()>).await
            };
            assert_eq!(found, None);
            begun.elapsed()
        };
        assert_eq!(waited(true).await, WAIT);
        arrivals.watch_failed(Instant::now());
        assert_eq!(waited(false).await, WAIT);
        assert_eq!(waited(true).await + WAIT, BEHIND);
        assert_eq!(waited(true).await, WAIT, "long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_waiting_requests_is_bounded() {
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
