//! Clients that ask without a pause worth the name, on connections that they keep or make anew, and
//! one that wakes a service now and then.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::caller::{Caller, Question};
use crate::ledger::{Entry, Ledger};
use crate::site::Site;
use crate::work::Work;

/// Clients that keep their connections.
const KEEPING: u64 = 24;
/// Clients that make a connection for each request.
const FRESH: u64 = 4;
/// Longest pause of a client between two requests; the machine has to run the cluster as well.
const PAUSE_MAX_MS: u64 = 8;
/// Pause of a client that makes connections. A closed connection keeps its port for a minute, and
/// there are 28,000: four clients with this pause leave it at 18,000.
const FRESH_PAUSE: Duration = Duration::from_millis(13);
/// Requests after which a kept connection is made anew, at the most: connections stay with the
/// activator that took them, and a new one would get none.
const KEPT_MAX: u64 = 1000;
/// Largest body of a POST.
const BODY_BYTES_MAX: usize = 2048;
/// One request in so many takes the model a while, so that a fault meets requests in flight.
const SLOW_ONE_IN: u32 = 20;
/// How long after the begin of a strike, or after its end, a service is woken that is to meet it.
const MEET_MS: std::ops::Range<u64> = 0..3_000;
/// Pauses between two requests to the service that sleeps: it falls asleep within 14 s.
const SLEEP_MS: std::ops::Range<u64> = 15_000..25_000;

/// Asks until the work is done.
pub(crate) async fn ask(
    site: &Site,
    ledger: &Arc<Ledger>,
    work: &Arc<Work>,
    seed: u64,
) -> anyhow::Result<()> {
    let mut clients = JoinSet::new();
    for number in 0..KEEPING + FRESH {
        let hosts = site.services.iter().map(|name| (name.clone(), site.ebb.host(name)));
        let client = Client {
            caller: Caller::new(site.ebb.gateway),
            hosts: hosts.collect(),
            // Another sequence than that of the strikes, for every client and every run.
            chance: SmallRng::seed_from_u64(seed ^ (number << 48) ^ work_so_far(ledger)),
            ledger: Arc::clone(ledger),
            work: Arc::clone(work),
            wakes: false,
        };
        clients.spawn(client.run(number < KEEPING));
    }
    for (number, name) in (0..).zip(&site.sleepers) {
        let client = Client {
            caller: Caller::new(site.ebb.gateway),
            hosts: vec![(name.clone(), site.ebb.host(name))],
            chance: SmallRng::seed_from_u64(seed ^ (number << 32)),
            ledger: Arc::clone(ledger),
            work: Arc::clone(work),
            wakes: true,
        };
        clients.spawn(client.wake(site.fault.meets_sleepers()));
    }
    all_ended(clients, work).await
}

/// Waits for all clients. Without one that panicked the work would have no end: then it ends at once.
async fn all_ended(mut clients: JoinSet<()>, work: &Work) -> anyhow::Result<()> {
    while let Some(client) = clients.join_next().await {
        client.context("a client of the soak panicked").inspect_err(|_| work.give_up())?;
    }
    Ok(())
}

/// How many requests earlier runs have sent: a run that goes on does not repeat their beginning.
fn work_so_far(ledger: &Ledger) -> u64 {
    ledger.record().requests()
}

/// One client.
pub(crate) struct Client {
    pub(crate) caller: Caller,
    /// The services that it asks, and their hosts.
    pub(crate) hosts: Vec<(String, String)>,
    pub(crate) chance: SmallRng,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) work: Arc<Work>,
    /// Whether the service sleeps before each request.
    pub(crate) wakes: bool,
}

impl Client {
    async fn run(mut self, is_keeping: bool) {
        let mut kept_max = 0;
        while self.ask_next().await.is_some() {
            if !is_keeping {
                self.caller.hang_up();
                sleep(FRESH_PAUSE).await;
                continue;
            }
            if self.caller.answered() >= kept_max {
                self.caller.hang_up();
                kept_max = self.chance.random_range(1..=KEPT_MAX);
            }
            sleep(Duration::from_millis(self.chance.random_range(0..=PAUSE_MAX_MS))).await;
        }
    }

    /// Wakes the service now and then; if `meets_strikes`, as often during a strike as between two.
    async fn wake(mut self, meets_strikes: bool) {
        loop {
            let pause = Duration::from_millis(self.chance.random_range(SLEEP_MS));
            self.work.rest(pause).await;
            if meets_strikes {
                let under_fault = self.chance.random_range(0..2) == 0;
                self.work.until_striking(under_fault).await;
                let pause = Duration::from_millis(self.chance.random_range(MEET_MS));
                self.work.rest(pause).await;
            }
            self.caller.hang_up();
            if self.ask_next().await.is_none() {
                return;
            }
        }
    }

    /// Sends the next request and enters its outcome; `None` when there is no next one.
    async fn ask_next(&mut self) -> Option<()> {
        let work = Arc::clone(&self.work);
        self.ask_while(|| work.is_striking()).await
    }

    /// As [`Self::ask_next`]: the request is under the fault if that is so at its begin or its end.
    pub(crate) async fn ask_while(&mut self, is_under_fault: impl Fn() -> bool) -> Option<()> {
        let number = self.work.next()?;
        let question = self.question(number);
        let (at_first, began) = (is_under_fault(), Instant::now());
        let mut told = self.caller.ask(&question).await;
        let is_cut_off = self.work.is_cut_off(began);
        if is_cut_off {
            told.outcome = told.outcome.cut_off();
        }
        let under_fault = (at_first || is_under_fault()) && !is_cut_off;
        if under_fault {
            self.work.met();
        }
        self.ledger.enter(Entry {
            request: question.words(&told.connection),
            took: told.took,
            under_fault,
            redialled: told.redialled,
            woke: self.wakes && told.outcome.waited,
            outcome: told.outcome,
        });
        Some(())
    }

    fn question(&mut self, number: u64) -> Question {
        let (service, host) = self.hosts[self.chance.random_range(0..self.hosts.len())].clone();
        let is_slow = self.chance.random_range(0..SLOW_ONE_IN) == 0;
        let wait_ms = if is_slow { self.chance.random_range(20..=200) } else { 0 };
        let body = self.chance.random_range(0..2) == 0;
        let body = body.then(|| {
            let bytes = self.chance.random_range(1..=BODY_BYTES_MAX);
            let letters = (0..bytes).map(|_| char::from(self.chance.random_range(b'a'..=b'z')));
            letters.collect()
        });
        Question { service, host, number, wait_ms, body }
    }
}

/// Waits between two moments of a work that may end.
pub(crate) async fn until(work: &Work, moment: Instant) {
    work.rest(moment.saturating_duration_since(Instant::now())).await;
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::fault::Fault;

    #[tokio::test]
    async fn a_client_that_panics_ends_the_work() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let ledger = Ledger::open(folder.path().join("F1.json"), Fault::F1, 5)?;
        let work = Work::new(&ledger, 2, 1, CancellationToken::new());
        let mut clients = JoinSet::new();
        clients.spawn(std::future::pending());
        clients.spawn(async { panic!("as a client would") });
        assert!(all_ended(clients, &work).await.is_err());
        assert!(!work.goes_on());
        Ok(())
    }
}
