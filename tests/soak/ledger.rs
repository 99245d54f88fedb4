//! The count of all outcomes under one fault, kept in a file from which a soak goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::fault::Fault;
use crate::outcome::{CUT_OFF, Outcome, SERVED};

/// How often the file is written: what a killed soak has sent since is sent again.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Shortest time between two writes: a failure is written at once, many failures are not.
const SAVE_PAUSE: Duration = Duration::from_millis(500);
/// Failures that are kept word by word: enough to find a cause. All are counted.
const FAILURES_MAX: usize = 200;
/// Starts from zero whose times are kept, of each kind: more do not change a median.
const WAKES_MAX: usize = 10_000;

/// What is known so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The fault's name and title.
    pub(crate) fault: String,
    pub(crate) title: String,
    pub(crate) seed: u64,
    /// How many requests had each outcome.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Of all requests, those that began or ended while the fault was on: from the begin of a strike
    /// to the end of its effects, without the wait until all is as before. In a race to zero, the
    /// first request of each client.
    pub(crate) under_fault: u64,
    /// Of all requests, those that had to wait for a pod, or for a place in one.
    pub(crate) waited: u64,
    /// How often a connection was closed before a request was written to it: no request was sent,
    /// and a new connection was made.
    pub(crate) redialled: u64,
    /// How often the fault has struck.
    pub(crate) strikes: u64,
    /// The strikes that went wrong themselves, and those that a request failed during, or after the
    /// strike before. Races to zero go on side by side: a failure counts for one of those.
    pub(crate) failed_strikes: BTreeSet<u64>,
    /// What went wrong with strikes, such as a component that did not come back.
    pub(crate) gone_wrong: Vec<String>,
    /// How long requests were sent, all runs together.
    pub(crate) seconds: f64,
    pub(crate) failures: Vec<Failure>,
    /// The share of requests under the fault that may fail.
    #[serde(default)]
    pub(crate) lost_share_max: f64,
    /// How long requests took, in milliseconds, that woke a service while the fault was on.
    #[serde(default)]
    pub(crate) wakes_under_fault: Vec<u64>,
    /// The same of those while it was not.
    #[serde(default)]
    pub(crate) wakes_calm: Vec<u64>,
}

/// A request that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) at: Timestamp,
    pub(crate) took_ms: u64,
    /// The strike that was going on, or the one that comes next.
    pub(crate) strike: u64,
    pub(crate) striking: bool,
    pub(crate) request: String,
    pub(crate) outcome: String,
    pub(crate) detail: String,
}

/// One request, as it is entered.
pub(crate) struct Entry {
    pub(crate) outcome: Outcome,
    pub(crate) request: String,
    pub(crate) took: Duration,
    pub(crate) under_fault: bool,
    pub(crate) redialled: bool,
    /// Whether it was answered, and woke its service.
    pub(crate) woke: bool,
}

/// The record and its file.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    record: Mutex<Record>,
    failed: Notify,
    /// Seconds of earlier runs, and the start of this one.
    before: f64,
    began: Instant,
}

impl Record {
    /// All requests.
    pub(crate) fn requests(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// All requests that were not answered rightly, but for those that a killed activator had.
    pub(crate) fn failed(&self) -> u64 {
        self.count(|label| label != SERVED && !label.starts_with(CUT_OFF))
    }

    fn count(&self, is_meant: impl Fn(&str) -> bool) -> u64 {
        self.outcomes.iter().filter(|(label, _)| is_meant(label)).map(|(_, count)| count).sum()
    }

    /// Whether more failed than may, requests or strikes.
    #[allow(clippy::cast_precision_loss, reason = "counts lie far below 2^52")]
    pub(crate) fn is_failed(&self) -> bool {
        self.failed() as f64 > self.lost_share_max * self.under_fault as f64
            || !self.gone_wrong.is_empty()
    }
}

impl Ledger {
    /// The ledger in a file; a new one if there is no file.
    pub(crate) fn open(path: PathBuf, fault: Fault, seed: u64) -> anyhow::Result<Self> {
        let record: Record = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is not of a soak: remove it", path.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => Record {
                fault: fault.name().to_owned(),
                title: fault.title().to_owned(),
                lost_share_max: fault.lost_share_max(),
                seed,
                ..Record::default()
            },
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let known = record.seed;
        ensure!(known == seed, "{} is of seed {known}, not {seed}", path.display());
        let before = record.seconds;
        let (record, failed) = (Mutex::new(record), Notify::new());
        Ok(Self { path, record, failed, before, began: Instant::now() })
    }

    /// Begins to count the time.
    pub(crate) fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// What is known so far.
    pub(crate) fn record(&self) -> Record {
        self.record.lock().clone()
    }

    /// Enters one request.
    pub(crate) fn enter(&self, entry: Entry) {
        let Entry { outcome, request, took, under_fault, redialled, woke } = entry;
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut record = self.record.lock();
        record.under_fault += u64::from(under_fault);
        record.waited += u64::from(outcome.waited);
        record.redialled += u64::from(redialled);
        let wakes =
            if under_fault { &mut record.wakes_under_fault } else { &mut record.wakes_calm };
        if woke && outcome.label == SERVED && wakes.len() < WAKES_MAX {
            wakes.push(took_ms);
        }
        if outcome.label != SERVED && !outcome.label.starts_with(CUT_OFF) {
            let strike = record.strikes;
            record.failed_strikes.insert(strike);
            if record.failures.len() < FAILURES_MAX {
                let failure = Failure {
                    at: Timestamp::now(),
                    took_ms,
                    strike: record.strikes,
                    striking: under_fault,
                    request,
                    outcome: outcome.label.clone(),
                    detail: outcome.detail,
                };
                record.failures.push(failure);
            }
            self.failed.notify_one();
        }
        *record.outcomes.entry(outcome.label).or_default() += 1;
    }

    /// Enters a strike.
    pub(crate) fn struck(&self) {
        self.record.lock().strikes += 1;
    }

    /// Enters a strike that went wrong. It stays in the count, and the next run goes on after it.
    pub(crate) fn went_wrong(&self, what: String) {
        let mut record = self.record.lock();
        let strike = record.strikes;
        record.failed_strikes.insert(strike);
        record.gone_wrong.push(what);
        record.strikes += 1;
        self.failed.notify_one();
    }

    /// Writes the file again and again, as long as it is polled.
    pub(crate) async fn keep(self: Arc<Self>) {
        loop {
            drop(timeout(SAVE_EVERY, self.failed.notified()).await);
            if let Err(error) = self.save() {
                crate::note(&format!("{}: {error}", self.path.display()));
            }
            sleep(SAVE_PAUSE).await;
        }
    }

    /// Writes the file, so that it is never seen half written.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let record = {
            let mut record = self.record.lock();
            record.seconds = self.before + self.began.elapsed().as_secs_f64();
            record.clone()
        };
        let half = self.path.with_extension("half");
        fs::write(&half, serde_json::to_string_pretty(&record)?)?;
        fs::rename(&half, &self.path).context("cannot rename")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(outcome: Outcome) -> Entry {
        let (request, took) = ("GET plain".to_owned(), Duration::from_millis(7));
        Entry { outcome, request, took, under_fault: true, redialled: true, woke: true }
    }

    #[test]
    fn a_soak_goes_on_from_its_file() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("F1.json");
        let ledger = Ledger::open(path.clone(), Fault::F1, 5)?;
        ledger.enter(entry(Outcome::served(true)));
        for _ in 0..=FAILURES_MAX {
            ledger.enter(entry(Outcome::failed("503 overloaded", "full")));
        }
        ledger.struck();
        ledger.went_wrong("strike 1: the activator is not back".to_owned());
        ledger.save()?;
        let record = Ledger::open(path.clone(), Fault::F1, 5)?.record();
        let all = u64::try_from(FAILURES_MAX)? + 2;
        assert_eq!((record.requests(), record.failed()), (all, all - 1));
        assert_eq!((record.waited, record.redialled, record.strikes), (1, all, 2));
        assert!(record.failed_strikes.iter().eq(&[0, 1]) && record.is_failed());
        assert_eq!(record.gone_wrong, ["strike 1: the activator is not back"]);
        assert_eq!(record.failures.len(), FAILURES_MAX);
        assert_eq!((&record.wakes_under_fault[..], record.wakes_calm.len()), (&[7][..], 0));
        let other = Ledger::open(path, Fault::F1, 6).map(drop).unwrap_err().to_string();
        assert!(other.ends_with("is of seed 5, not 6"), "{other}");
        Ok(())
    }

    #[test]
    fn of_a_killed_activator_one_request_in_a_thousand_may_be_lost() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let ledger = Ledger::open(folder.path().join("F2.json"), Fault::F2, 5)?;
        let broken = || Outcome::failed("no answer: closed", "");
        ledger.enter(Entry { under_fault: false, ..entry(broken().cut_off()) });
        for _ in 0..999 {
            ledger.enter(entry(Outcome::served(false).cut_off()));
        }
        ledger.enter(entry(broken()));
        let record = ledger.record();
        assert_eq!((record.requests(), record.under_fault, record.failed()), (1001, 1000, 1));
        assert!(!record.is_failed());
        ledger.enter(entry(broken()));
        assert!(ledger.record().is_failed());
        Ok(())
    }
}
