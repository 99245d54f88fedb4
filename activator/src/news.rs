//! Requests that are quicker than the watches.
//!
//! A Route becomes Ready for people by the same write by which activators hear of its hosts, and a
//! person may be quicker than the watch of the one activator that gets the request. So what is
//! unknown here waits a moment for news before it is refused.

use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

/// How long to wait: a watch is milliseconds behind, and under load some hundred.
const WAIT: Duration = Duration::from_millis(500);
/// Most requests that wait so; more are refused at once. They hold no more than their connections,
/// of which others must keep most.
const WAITING_MAX: usize = 1000;

/// Tells of new hosts and Revisions.
pub(crate) struct News {
    told: watch::Sender<()>,
    places: Semaphore,
}

impl Default for News {
    fn default() -> Self {
        Self { told: watch::Sender::default(), places: Semaphore::new(WAITING_MAX) }
    }
}

impl News {
    /// Something is there that was not before.
    pub(crate) fn tell(&self) {
        self.told.send_replace(());
    }

    /// What `look` finds, now or after news that come within [`WAIT`].
    pub(crate) async fn find<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let _place = self.places.try_acquire().ok()?;
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_told_in_time_is_found_and_what_is_not_is_given_up() {
        let (news, known) = (Arc::new(News::default()), Arc::new(AtomicBool::new(false)));
        let look = || known.load(Ordering::SeqCst).then_some(7);
        let begun = Instant::now();
        assert_eq!(news.find(look).await, None);
        assert_eq!(begun.elapsed(), WAIT);
        let teller = async {
            news.tell();
            tokio::time::sleep(WAIT / 2).await;
            known.store(true, Ordering::SeqCst);
            news.tell();
        };
        let (found, ()) = futures::join!(news.find(look), teller);
        assert_eq!(found, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_wait() {
        let news = News::default();
        let all = (0..WAITING_MAX).map(|_| news.find(|| None::<()>));
        let one_more = async {
            let begun = Instant::now();
            assert_eq!(news.find(|| None::<()>).await, None);
            assert_eq!(begun.elapsed(), Duration::ZERO);
        };
        futures::join!(futures::future::join_all(all), one_more);
    }
}
