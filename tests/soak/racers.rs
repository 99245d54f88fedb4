//! Bursts of requests around the moment at which their service goes to sleep: the race between a
//! decision, the drain, the lower scale, the end of the pods, and a new request.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ebb_api::serving::Revision;
use ebb_daemon::pauses::WatchPauses;
use futures::StreamExt as _;
use futures::future::join_all;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::caller::Caller;
use crate::ledger::Ledger;
use crate::site::Site;
use crate::steady::{Client, until};
use crate::work::Work;

/// Clients of one service. Each races once in a burst, with its first request.
const CLIENTS: u64 = 12;
/// Requests of each client in one burst: the later ones meet a service that is awake, or starts.
const BURST: std::ops::RangeInclusive<u64> = 1..=40;
/// Longest wait for a service to go to sleep: a burst comes anyhow.
const SLEEP_WITHIN: Duration = Duration::from_secs(30);
/// After the decision to sleep, the pods are there for this long at the most: marks, half a second,
/// the lower scale, their end.
const AFTER_MAX_MS: u64 = 2_500;
/// How long before the moment of the last decision a burst may come, counted from the last answer.
const BEFORE_MAX_MS: u64 = 1_500;
/// From an answer to the decision, before one was seen: the window, the grace and two ticks.
const UNTIL_ZERO: Duration = Duration::from_secs(12);
/// The window of the test cluster: no decision to sleep is earlier after an answer.
const UNTIL_ZERO_MIN: Duration = Duration::from_secs(6);

/// How many replicas each revision shall have.
type Desired = watch::Receiver<HashMap<String, i32>>;

/// Races until the work is done.
pub(crate) async fn race(
    site: &Site,
    ledger: &Arc<Ledger>,
    work: &Arc<Work>,
    seed: u64,
) -> anyhow::Result<()> {
    let (publish, desired) = watch::channel(HashMap::new());
    let config = site.ebb.api().await?;
    let namespace = config.default_namespace.clone();
    let api = Api::namespaced(kube::Client::try_from(config)?, &namespace);
    let mut racers = JoinSet::new();
    for (lane, name) in (0..).zip(&site.services) {
        let client = |number: u64| Client {
            caller: Caller::new(site.ebb.gateway),
            hosts: vec![(name.clone(), site.ebb.host(name))],
            chance: SmallRng::seed_from_u64(seed ^ ((lane * CLIENTS + number) << 48)),
            ledger: Arc::clone(ledger),
            work: Arc::clone(work),
            wakes: false,
        };
        let racer = Racer {
            revision: format!("{name}-00001"),
            clients: (0..CLIENTS).map(client).collect(),
            chance: SmallRng::seed_from_u64(seed ^ (lane << 32) ^ ledger.record().strikes),
            desired: desired.clone(),
            until_zero: UNTIL_ZERO,
        };
        racers.spawn(racer.run());
    }
    let raced = async {
        while let Some(racer) = racers.join_next().await {
            racer.context("a client of the soak panicked")?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        raced = raced => raced,
        () = follow(api, publish) => anyhow::bail!("the watch of revisions has ended"),
    }
}

/// Tells how many replicas each revision shall have, as soon as it is written.
async fn follow(api: Api<Revision>, publish: watch::Sender<HashMap<String, i32>>) {
    let mut seen = pin!(
        watcher(api, watcher::Config::default()).backoff(WatchPauses::default()).touched_objects()
    );
    while let Some(seen) = seen.next().await {
        let Ok(revision) = seen else { continue };
        let status = revision.status.as_ref();
        if let Some(replicas) = status.and_then(|status| status.desired_replicas) {
            publish.send_modify(|desired| {
                desired.insert(revision.name_any(), replicas);
            });
        }
    }
}

/// The clients of one service, which pause together.
struct Racer {
    revision: String,
    clients: Vec<Client>,
    chance: SmallRng,
    desired: Desired,
    /// From the last answer to the decision to sleep, as it was the last time.
    until_zero: Duration,
}

impl Racer {
    async fn run(mut self) {
        loop {
            let (work, ledger) =
                (Arc::clone(&self.clients[0].work), Arc::clone(&self.clients[0].ledger));
            if !work.goes_on() {
                return;
            }
            self.pause(&work).await;
            self.burst().await;
            work.struck();
            ledger.struck();
        }
    }

    /// Waits for the decision and a moment more, or until shortly before it is likely.
    async fn pause(&mut self, work: &Work) {
        let answered = Instant::now();
        if self.chance.random_range(0..2) == 0 {
            let asleep = |desired: &HashMap<String, i32>| desired.get(&self.revision) == Some(&0);
            if timeout(SLEEP_WITHIN, self.desired.wait_for(asleep)).await.is_ok_and(|it| it.is_ok())
            {
                self.until_zero = answered.elapsed().max(UNTIL_ZERO_MIN);
            }
            let after = Duration::from_millis(self.chance.random_range(0..=AFTER_MAX_MS));
            until(work, Instant::now() + after).await;
        } else {
            let before = Duration::from_millis(self.chance.random_range(0..=BEFORE_MAX_MS));
            until(work, answered + self.until_zero.saturating_sub(before)).await;
        }
    }

    async fn burst(&mut self) {
        let requests = self.chance.random_range(BURST);
        let all = self.clients.iter_mut().zip(0..).map(async |(client, number)| {
            // One client in three begins on a connection of before.
            if number % 3 > 0 {
                client.caller.hang_up();
            }
            for request in 0..requests {
                if client.ask_while(|| request == 0).await.is_none() {
                    return;
                }
            }
        });
        join_all(all).await;
    }
}
