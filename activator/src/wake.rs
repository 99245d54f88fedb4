//! Waking a revision without an autoscaler, for when none answers.
//!
//! The autoscaler answers every report. When none has answered for [`SILENCE`], and a request waits
//! for a revision without a pod that may yet serve it, this activator asks for the first pods
//! itself: from zero to what a Deployment of the revision begins with, and never more. The API
//! server makes the change only if the desired scale is still zero, so that only one of several
//! activators does it, and an autoscaler that is back decides alone.
//!
//! Pods that an autoscaler drained before it fell silent are taken back when a request waits and
//! there are no others: nobody else would call the order off, or carry it out. A scale of zero is
//! raised before that, and the API server is asked which of the pods still stand. While it does not
//! answer either, such requests wait.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::backoff;
use ebb_api::config::Config;
use ebb_api::first_scale::first_scale;
use ebb_api::report::RevisionKey;
use ebb_daemon::desired::{self, Before, Swap};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kube::Client;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::directory::Directory;
use crate::observer::ReportSink;
use crate::revision::{Live, Revision};

mod undeleted;

/// Silence of all autoscalers after which an activator acts. One that is there answers within
/// milliseconds, and two reports in a row were sent meanwhile.
const SILENCE: Duration = Duration::from_secs(2);
/// Each activator waits a random time longer, up to this: most often one of them is first by more
/// than a request takes.
const JITTER: Duration = Duration::from_millis(500);
/// Time from one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Most wakes at once, and on the average in a second: requests may come for a few thousand
/// revisions while no autoscaler knows which of them matter.
const BURST: u32 = 20;
const RATE_S: f64 = 10.0;
/// Longest time for one request to the API server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause from a wake until drained pods are looked for. A lower scale that was written before has
/// come to the pods by then: it passes through three watches, of the controller and of two of
/// Kubernetes' controllers, each of which lags by milliseconds, and by some 100 ms at the worst.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Pause until a revision that was woken, by this activator or otherwise, may be woken again.
const REST: Duration = Duration::from_secs(30);
/// Pauses after failures: the first, doubled each time up to the last.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Name under which the API server records what an activator writes.
const FIELD_MANAGER: &str = "ebb-activator";

/// Wakes revisions while no autoscaler answers.
pub(crate) struct Waker {
    client: Client,
    config: watch::Receiver<Arc<Config>>,
    outcomes: Family<Label, Counter>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeOutcome {
    /// It is woken.
    Woken,
    /// It has drained pods that stand, and they serve again.
    TakenBack,
    /// Another process was quicker, the revision is gone, or Ebb does not scale it.
    NotNeeded,
    /// The API server gave no answer, or another error.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    outcome: &'static str,
}

/// Which revisions are to be woken when. Pure.
#[derive(Debug)]
struct Plan {
    jitter: Duration,
    tokens: f64,
    filled: Instant,
    /// The revisions that were tried, and when they may be tried again. Forgotten once an
    /// autoscaler answers.
    tried: HashMap<RevisionKey, Tried>,
}

#[derive(Debug)]
struct Tried {
    again: Instant,
    failures: u32,
}

// === impl Waker ===

impl Waker {
    /// Writes through this client; metrics go to the registry.
    pub(crate) fn new(
        client: Client,
        config: watch::Receiver<Arc<Config>>,
        registry: &mut Registry,
    ) -> Self {
        let outcomes = Family::<Label, Counter>::default();
        registry.sub_registry_with_prefix("ebb_activator").register(
            "wakes",
            "Attempts to wake a revision because no autoscaler answered, by outcome",
            outcomes.clone(),
        );
        Self { client, config, outcomes }
    }

    /// Wakes the revisions that no autoscaler wakes, for ever; ends at once if `reports` cannot be
    /// silent.
    pub(crate) async fn run(&self, directory: &Directory, reports: &dyn ReportSink) {
        if reports.silence(Instant::now()).is_none() {
            return;
        }
        let mut plan = Plan::new(Instant::now(), JITTER.mul_f64(rand::random()));
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Each takes some seconds at the most, and RATE_S begin in a second.
        let (mut attempts, mut under_way) = (FuturesUnordered::new(), HashSet::new());
        loop {
            let now = tokio::select! {
                biased;
                Some(ended) = attempts.next() => {
                    let (key, outcome, rest): (RevisionKey, WakeOutcome, Duration) = ended;
                    self.outcomes.get_or_create(&Label { outcome: outcome.label() }).inc();
                    under_way.remove(&key);
                    plan.tried(key, outcome, rest, Instant::now());
                    continue;
                }
                now = looks.tick() => now,
            };
            let silence = reports.silence(now).unwrap_or_default();
            if !plan.is_alone(silence) {
                continue;
            }
            let stranded: HashMap<_, _> = directory
                .revisions()
                .into_iter()
                .filter(|revision| !under_way.contains(&revision.key))
                .filter_map(|revision| {
                    let of_held = || revision.held_back().map(|live| (live, RETRY_MIN));
                    let (live, rest) =
                        revision.stranded().map(|live| (live, REST)).or_else(of_held)?;
                    Some((revision.key.clone(), (revision, live, rest)))
                })
                .collect();
            for key in plan.choose(stranded.keys(), now) {
                let (revision, live, rest) = stranded[&key].clone();
                under_way.insert(key.clone());
                attempts.push(async move {
                    let outcome = self.serve(&revision, &live, silence).await;
                    (key, outcome, rest)
                });
            }
        }
    }

    /// Wakes the revision, and takes drained pods back if it has any that still stand then: as long as
    /// a scale of zero is in force, they may be deleted at any moment.
    pub(crate) async fn serve(
        &self,
        revision: &Revision,
        live: &Live,
        silence: Duration,
    ) -> WakeOutcome {
        let key = &revision.key;
        let woken = self.wake(key, live, silence).await;
        let Some(uid) = live.settings.uid.as_deref().filter(|_| revision.held_back().is_some())
        else {
            return woken;
        };
        if woken == WakeOutcome::Failed {
            return woken;
        }
        // What was decided before goes on meanwhile, and takes pods with it.
        sleep(SETTLED_AFTER).await;
        let standing = match timeout(REQUEST_TIMEOUT, undeleted::pods(&self.client, key, uid)).await
        {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => return unseen(key, &error),
            Err(elapsed) => return unseen(key, &elapsed),
        };
        if !revision.take_back(&standing, Instant::now()) {
            return woken;
        }
        tracing::warn!(
            revision.name = %key,
            "No autoscaler answers: a request is served by pods that one had drained"
        );
        WakeOutcome::TakenBack
    }

    async fn wake(&self, key: &RevisionKey, live: &Live, silence: Duration) -> WakeOutcome {
        let (Some(uid), Some(annotations)) = (&live.settings.uid, &live.settings.scaling) else {
            return WakeOutcome::NotNeeded;
        };
        let scale = first_scale(Some(annotations), &self.config.borrow()).max(1);
        let swap = Swap { key, uid, from: Before::Replicas(0), to: scale };
        match timeout(REQUEST_TIMEOUT, swap.write(&self.client, FIELD_MANAGER)).await {
            Ok(Ok(_)) => {
                tracing::warn!(
                    revision.name = %key,
                    scale,
                    "No autoscaler has answered for {:.1} s: this activator woke the revision \
                     that a request waits for",
                    silence.as_secs_f64()
                );
                WakeOutcome::Woken
            }
            Ok(Err(error)) if desired::is_refused(&error) || is_gone(&error) => {
                WakeOutcome::NotNeeded
            }
            Ok(Err(error)) => failed(key, &error),
            Err(elapsed) => failed(key, &elapsed),
        }
    }
}

fn failed(key: &RevisionKey, error: &dyn std::fmt::Display) -> WakeOutcome {
    tracing::warn!(
        revision.name = %key,
        %error,
        "No autoscaler answers, and this activator cannot wake the revision; it tries again"
    );
    WakeOutcome::Failed
}

fn unseen(key: &RevisionKey, error: &dyn std::fmt::Display) -> WakeOutcome {
    tracing::warn!(
        revision.name = %key,
        %error,
        "No autoscaler answers, and this activator cannot see which drained pods of the revision \
         still stand; it tries again"
    );
    WakeOutcome::Failed
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

// === impl WakeOutcome ===

impl WakeOutcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Woken => "woken",
            Self::TakenBack => "taken-back",
            Self::NotNeeded => "not-needed",
            Self::Failed => "failed",
        }
    }
}

// === impl Plan ===

impl Plan {
    fn new(now: Instant, jitter: Duration) -> Self {
        Self { jitter, tokens: f64::from(BURST), filled: now, tried: HashMap::new() }
    }

    /// Whether no autoscaler is there to wake anything.
    fn is_alone(&mut self, silence: Duration) -> bool {
        let is_alone = silence >= SILENCE + self.jitter;
        if !is_alone {
            self.tried.clear();
        }
        is_alone
    }

    /// The revisions of `called` to wake now.
    fn choose<'a>(
        &mut self,
        called: impl Iterator<Item = &'a RevisionKey>,
        now: Instant,
    ) -> Vec<RevisionKey> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = passed.mul_add(RATE_S, self.tokens).min(f64::from(BURST));
        self.filled = now;
        let mut chosen = Vec::new();
        for key in called {
            if self.tokens < 1.0 {
                break;
            }
            if self.tried.get(key).is_some_and(|tried| now < tried.again) {
                continue;
            }
            self.tokens -= 1.0;
            chosen.push(key.clone());
        }
        chosen
    }

    /// Notes how an attempt ended; after `rest` the next may come, unless this one failed.
    fn tried(&mut self, key: RevisionKey, outcome: WakeOutcome, rest: Duration, now: Instant) {
        let failures = self.tried.get(&key).map_or(0, |tried| tried.failures);
        let tried = match outcome {
            WakeOutcome::Woken | WakeOutcome::TakenBack | WakeOutcome::NotNeeded => {
                Tried { again: now + rest, failures: 0 }
            }
            WakeOutcome::Failed => {
                let failures = failures.saturating_add(1);
                let pause = backoff::pause_after(failures, RETRY_MIN, RETRY_MAX);
                Tried { again: now + pause, failures }
            }
        };
        self.tried.insert(key, tried);
    }
}

#[cfg(test)]
mod tests;
