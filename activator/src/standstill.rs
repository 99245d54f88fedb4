//! After the process stood still, no new connection to a pod until the pods were listed anew.
//!
//! A process is stopped by a debugger, a node that swaps, or a machine that is moved, and is not told
//! so. Its first requests go out before it has read what happened meanwhile, and the address of a
//! pod that is gone may be another model's by then. A connection that was there before still ends
//! at the pod that it was made to, so requests go on where there is one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::connect::{BoxedIo, Connect};

/// Longer than this from one beat to the next means a standstill; beats are a second apart. It is
/// shorter than the end of a pod that is deleted (the sleep before SIGTERM, and the grace), after
/// which its address is free, and longer than a beat is late on a busy machine.
const STILL: Duration = Duration::from_secs(5);
/// How long a list of pods is waited for. An API server that is away for so long just when this
/// process stood still leaves the choice between old knowledge and no service.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the beats say.
#[derive(Debug, Default)]
struct Beats {
    /// The last sign of life; none before the first beat and after the last.
    last: Option<Instant>,
    /// Whether somebody has noticed that the next sign is late.
    is_noted: bool,
    /// How often the process stood still.
    stops: u64,
    /// Until when the list after the last standstill is waited for; none once it is there.
    until: Option<Instant>,
}

/// Whether this process stood still, for all who have to know.
#[derive(Debug, Default)]
pub(crate) struct Standstill(watch::Sender<Beats>);

/// Beats are due for as long as this is there.
pub(crate) struct Beating<'a>(&'a Standstill);

/// Makes connections to pods as `inner` does, and is not settled after a standstill until the pods are
/// listed anew.
pub(crate) struct CautiousConnect {
    pub(crate) inner: Arc<dyn Connect>,
    pub(crate) standstill: Arc<Standstill>,
}

// === impl Beats ===

impl Beats {
    /// A sign of life; true if the process has stood still since the last one.
    fn beat(&mut self, now: Instant) -> bool {
        let is_still = self.is_still(now);
        let is_news = self.look(now);
        if is_still {
            // A list can be had from now on.
            self.until = Some(now + PATIENCE);
        }
        (self.last, self.is_noted) = (Some(now), false);
        is_news
    }

    /// Takes note if the process has stood still since its last sign of life, once; true if that is
    /// news. That somebody looks is no sign: the tasks that hear of pods may stand still alone.
    fn look(&mut self, now: Instant) -> bool {
        let is_news = self.is_still(now) && !self.is_noted;
        if is_news {
            self.is_noted = true;
            self.stops += 1;
            self.until = Some(now + PATIENCE);
        }
        is_news
    }

    fn is_still(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) > STILL)
    }

    /// All pods were listed by a watch that began after so many standstills.
    fn listed(&mut self, stops: u64) -> bool {
        stops == self.stops && self.until.take().is_some()
    }

    /// Until when a list is to be waited for.
    fn waits(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }
}

// === impl Standstill ===

impl Standstill {
    /// The process runs, and will say so again within a second.
    pub(crate) fn beat(&self, now: Instant) {
        self.0.send_if_modified(|beats| beats.beat(now));
    }

    /// There are no further beats once this is dropped.
    pub(crate) const fn until_dropped(&self) -> Beating<'_> {
        Beating(self)
    }

    /// How often the process stood still.
    pub(crate) fn stops(&self) -> u64 {
        self.0.borrow().stops
    }

    /// Returns once the process stood still more often than `stops` times.
    pub(crate) async fn stood(&self, stops: u64) {
        // The sender is in `self`: it cannot be gone.
        let mut beats = self.0.subscribe();
        let _stood = beats.wait_for(|beats| beats.stops > stops).await;
    }

    /// All pods were listed by a watch that began after so many standstills.
    pub(crate) fn listed(&self, stops: u64) {
        self.0.send_if_modified(|beats| beats.listed(stops));
    }

    /// Returns once what is known of pods may be believed.
    async fn over(&self) {
        let mut beats = self.0.subscribe();
        // Whoever connects may run before the next beat.
        self.0.send_if_modified(|beats| beats.look(Instant::now()));
        loop {
            let Some(until) = beats.borrow_and_update().waits(Instant::now()) else {
                return;
            };
            tokio::select! {
                _ = beats.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }
}

// === impl Beating ===

impl Drop for Beating<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|beats| beats.last = None);
    }
}

// === impl CautiousConnect ===

impl Connect for CautiousConnect {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>> {
        self.inner.connect(address)
    }

    fn settled(&self) -> BoxFuture<'static, ()> {
        let standstill = Arc::clone(&self.standstill);
        async move { standstill.over().await }.boxed()
    }

    fn lookup(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        self.inner.lookup(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn beats_that_are_late_mean_a_standstill_until_a_later_list() {
        let standstill = Standstill::default();
        let is_over =
            async || tokio::time::timeout(Duration::ZERO, standstill.over()).await.is_ok();
        tokio::time::sleep(STILL * 2).await;
        assert!(is_over().await, "not begun");
        for _ in 0..3 {
            standstill.beat(Instant::now());
            tokio::time::sleep(STILL).await;
            assert!(is_over().await, "late is not still");
        }
        tokio::time::sleep(STILL * 2).await;
        assert!(!is_over().await, "seen before the next beat");
        standstill.beat(Instant::now());
        assert!(!is_over().await && standstill.stops() == 1);
        standstill.listed(0);
        assert!(!is_over().await, "a list from before");
        standstill.listed(1);
        assert!(is_over().await);
    }

    /// Found by the simulation, where probes went on while all else stood still.
    #[tokio::test(start_paused = true)]
    async fn whoever_connects_all_the_time_hides_no_standstill() {
        let standstill = Standstill::default();
        standstill.beat(Instant::now());
        for second in 1..=6 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let over = tokio::time::timeout(Duration::ZERO, standstill.over()).await;
            assert_eq!(over.is_ok(), second <= 5, "after {second} s");
        }
        assert_eq!(standstill.stops(), 1);
        // Patience has an end, whoever looks meanwhile.
        for _ in 0..3 {
            tokio::time::sleep(STILL * 2).await;
            let _over = tokio::time::timeout(Duration::ZERO, standstill.over()).await;
        }
        let over = tokio::time::timeout(Duration::ZERO, standstill.over()).await;
        assert_eq!((over.is_ok(), standstill.stops()), (true, 1));
        standstill.beat(Instant::now());
        let over = tokio::time::timeout(Duration::ZERO, standstill.over()).await;
        assert_eq!((over.is_ok(), standstill.stops()), (false, 1), "now a list can be had");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_does_not_come_is_waited_for_no_longer_than_patience() {
        let standstill = Standstill::default();
        standstill.beat(Instant::now());
        tokio::time::sleep(STILL * 2).await;
        let began = Instant::now();
        standstill.over().await;
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_once_there_are_no_more_beats() {
        let standstill = Standstill::default();
        let beating = standstill.until_dropped();
        standstill.beat(Instant::now());
        drop(beating);
        tokio::time::sleep(STILL * 2).await;
        let began = Instant::now();
        standstill.over().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_watches_hears_of_each_standstill() {
        let standstill = Standstill::default();
        standstill.beat(Instant::now());
        tokio::time::sleep(STILL * 2).await;
        let heard = standstill.stood(0);
        standstill.beat(Instant::now());
        heard.await;
        let again = tokio::time::timeout(STILL, standstill.stood(1)).await;
        assert!(again.is_err(), "once");
    }
}
