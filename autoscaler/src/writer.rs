//! Writes the decisions: one revision in order, many revisions at once, the urgent first.
//!
//! Each revision has at most one request under way and at most one write waiting. A newer write
//! replaces a waiting one, so that a failure is retried with the newest decision and never with an
//! old one. Pods are marked before the scale is lowered, and the scale that is then written is the
//! newest: demand that came back in between is not lost, and a raise never waits for marks. One
//! decision is not joined: the next lower scale, when the pods of this one are marked. Pods that
//! end one after another would put the lower scale off for as long.
//!
//! Waiting writes are taken by [`Urgency`], within a budget of requests (`budget`) of which wakes
//! have a part to themselves. A revision whose write failed rests, and takes no other's place
//! meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::panic::resume_unwind;
use std::time::Duration;

use ebb_api::backoff;
use ebb_api::report::RevisionKey;
use ebb_daemon::desired::Seen;
use kube::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::budget::Budget;
use self::merge::newest;
use self::request::{Step, attempt};
use self::turns::{Turn, Turns};
use crate::event::{Urgency, Write};

mod budget;
mod ended;
mod merge;
mod request;
mod turns;

use ended::follow_up;

pub use self::request::{ATTEMPT_TIMEOUT, FIELD_MANAGER};

/// First pause after a failure; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest pause. After it a wake that failed takes its turn among those that failed ([`Turn`]).
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Pause between the marks of pods and the lower scale. Kubernetes' controllers watch the two apart
/// and may see the scale first, and then they delete other pods. Their watches lag by milliseconds;
/// fewer replicas can wait for many times that.
pub(crate) const MARKS_SEEN_AFTER: Duration = Duration::from_millis(500);

/// The writes under way and waiting.
pub struct DecisionWriter {
    client: Client,
    budget: Budget,
    slots: HashMap<RevisionKey, Slot>,
    /// Revisions with a write that waits for its turn.
    ready: Turns,
    /// Revisions whose write failed, or whose marks are to be seen first, and when they go on.
    resting: BTreeSet<(Instant, RevisionKey)>,
    tasks: JoinSet<Attempt>,
    next_id: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// The attempt under way.
    attempt: Option<u64>,
    waiting: Option<Write>,
    /// A lower scale that comes after the one that waits, whose pods are marked already.
    later: Option<Write>,
    place: Place,
    failures: u32,
    /// The answer to the last scale that was written.
    seen: Seen,
}

/// Where a write waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// Nowhere: no write waits, or an attempt is under way.
    #[default]
    Nowhere,
    /// For its turn.
    Ready(Turn),
    /// Until that time, after a failure of a write of this urgency.
    Resting(Instant, Urgency),
    /// Until that time, when the marks of its pods have been seen.
    Marked(Instant),
}

/// How a request ended.
#[derive(Debug)]
pub struct Attempt {
    key: RevisionKey,
    id: u64,
    urgency: Urgency,
    write: Write,
    result: Result<Step, kube::Error>,
}

/// The result of a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to write for this revision; its status after the last scale.
    Written(RevisionKey, Seen),
    /// The scale was not the one that the write expected: it has to be decided anew.
    Refused(RevisionKey),
    /// A request failed and will be made again.
    Failed,
    /// There is more to do.
    Pending,
}

// === impl DecisionWriter ===

impl DecisionWriter {
    /// A writer with nothing to do.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            budget: Budget::new(Instant::now()),
            slots: HashMap::new(),
            ready: Turns::default(),
            resting: BTreeSet::new(),
            tasks: JoinSet::new(),
            next_id: 0,
        }
    }

    /// Begins the write, or puts it in the place of the one that waits.
    pub fn submit(&mut self, write: Write) {
        let key = write.key.clone();
        let slot = self.slots.entry(key.clone()).or_default();
        slot.put(write);
        self.queue(&key);
        self.pump();
    }

    /// Drops the waiting write of a revision that is gone.
    pub fn forget(&mut self, key: &RevisionKey) {
        if let Some(slot) = self.slots.remove(key) {
            self.displace(key, slot.place);
        }
    }

    /// Drops everything that waits, and gives up what is under way: another replica decides now. A
    /// request that is on the wire already may still arrive. One that sets a scale changes nothing
    /// if the scale is another one by then or, where it would set the first scale, if the Revision
    /// has changed in any way. One that marks a pod still takes effect.
    pub fn drop_all(&mut self) {
        self.slots.clear();
        self.ready.clear();
        self.resting.clear();
        self.tasks = JoinSet::new();
        self.budget.clear();
    }

    /// How many revisions have a write under way, waiting or resting.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many revisions wait for their turn, and how many rest after a failure.
    pub fn waiting(&self) -> (usize, usize) {
        (self.ready.len(), self.resting.len())
    }

    /// The next request that ends; `None` while there is nothing to write. Loses none when
    /// cancelled.
    pub async fn next(&mut self) -> Option<Attempt> {
        loop {
            let due = self.due();
            if self.tasks.is_empty() && due.is_none() {
                return None;
            }
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(attempt) => return Some(attempt),
                    // Otherwise its revision would count as being written for ever. A restart is
                    // better.
                    Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                    Err(error) => tracing::error!(%error, "A write ended unexpectedly"),
                },
                () = sleep_until(due) => self.wake(Instant::now()),
            }
        }
    }

    /// Goes on after a request that ended.
    pub fn settle(&mut self, attempt: Attempt) -> Outcome {
        let Attempt { key, id, urgency, write, result } = attempt;
        self.budget.end(urgency);
        let outcome = match self.slots.get_mut(&key) {
            Some(slot) if slot.attempt == Some(id) => {
                slot.attempt = None;
                follow_up(slot, &key, write, result)
            }
            // The revision was forgotten while the request was under way.
            _ => Outcome::Pending,
        };
        match outcome {
            Outcome::Written(..) => {
                self.slots.remove(&key);
            }
            Outcome::Failed | Outcome::Refused(_) => {
                let failures = self.slots.get(&key).map_or(0, |slot| slot.failures);
                let until = Instant::now() + backoff(failures);
                self.rest(&key, until, Place::Resting(until, urgency));
            }
            Outcome::Pending if self.has_just_marked(&key, urgency) => {
                let until = Instant::now() + MARKS_SEEN_AFTER;
                self.rest(&key, until, Place::Marked(until));
            }
            Outcome::Pending => self.queue(&key),
        }
        self.pump();
        outcome
    }

    /// Whether the last attempt marked the last of the pods, and a lower scale comes next.
    fn has_just_marked(&self, key: &RevisionKey, attempted: Urgency) -> bool {
        let waiting = self.slots.get(key).and_then(|slot| slot.waiting.as_ref());
        attempted == Urgency::Mark
            && waiting.is_some_and(|write| write.is_lowering && write.step() == Urgency::Lower)
    }

    /// When the writer has to act although no request ends.
    fn due(&self) -> Option<Instant> {
        let rested = self.resting.first().map(|(until, _)| *until);
        let next = self.ready.urgency().and_then(|urgency| self.budget.due(urgency));
        rested.into_iter().chain(next).min()
    }

    fn wake(&mut self, now: Instant) {
        while let Some((until, _)) = self.resting.first()
            && *until <= now
        {
            let Some((_, key)) = self.resting.pop_first() else {
                break;
            };
            match self.slots.get_mut(&key) {
                Some(slot) => slot.place = Place::Nowhere,
                None => continue,
            }
            // A revision that was refused and not decided anew has nothing to write.
            let is_idle = self.slots.get(&key).is_some_and(|slot| slot.waiting.is_none());
            if is_idle {
                self.slots.remove(&key);
            } else {
                self.queue(&key);
            }
        }
        self.pump();
    }

    /// Gives a waiting write its place among those whose turn may come.
    fn queue(&mut self, key: &RevisionKey) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        let Some(write) = slot.waiting.as_ref().filter(|_| slot.attempt.is_none()) else {
            return;
        };
        let urgency = write.step();
        let new = Turn { urgency, has_failed: slot.failures > 0, number: self.next_id };
        let turn = match slot.place {
            // A wake rests only after a failed wake: another failure may have had other causes.
            Place::Resting(_, failed) if urgency > Urgency::Wake || failed == Urgency::Wake => {
                return;
            }
            Place::Marked(_) if urgency >= Urgency::Lower => return,
            Place::Ready(turn) if turn.urgency == urgency => turn,
            Place::Ready(_) | Place::Resting(..) | Place::Marked(_) | Place::Nowhere => new,
        };
        self.next_id += 1;
        let before = std::mem::replace(&mut slot.place, Place::Ready(turn));
        self.displace(key, before);
        self.ready.insert(turn, key.clone());
    }

    fn rest(&mut self, key: &RevisionKey, until: Instant, place: Place) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut slot.place, place);
        self.displace(key, before);
        self.resting.insert((until, key.clone()));
    }

    fn displace(&mut self, key: &RevisionKey, place: Place) {
        match place {
            Place::Nowhere => {}
            Place::Ready(turn) => {
                self.ready.remove(turn, key);
            }
            Place::Resting(until, _) | Place::Marked(until) => {
                self.resting.remove(&(until, key.clone()));
            }
        }
    }

    /// Begins as much as the budget allows. When a write has to wait, the less urgent ones wait
    /// too.
    fn pump(&mut self) {
        while let Some((turn, key)) = self.ready.take() {
            let urgency = turn.urgency;
            let slot = self.slots.get_mut(&key);
            let Some((slot, write)) =
                slot.and_then(|slot| slot.waiting.take().map(|write| (slot, write)))
            else {
                continue;
            };
            if !self.budget.begin(urgency, write.requests(), Instant::now()) {
                slot.waiting = Some(write);
                self.ready.insert(turn, key);
                return;
            }
            self.ready.began();
            let id = self.next_id;
            self.next_id += 1;
            slot.attempt = Some(id);
            slot.waiting = slot.later.take();
            slot.place = Place::Nowhere;
            let client = self.client.clone();
            self.tasks.spawn(async move {
                let result = attempt(client, &write).await;
                Attempt { key, id, urgency, write, result }
            });
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Lets a write wait: joined with those that wait, or after them.
    fn put(&mut self, write: Write) {
        let comes_next = |waiting: &Write| waiting.is_marked() && write.is_lowering;
        let joined = |older: Option<Write>, newer: Write| match older {
            Some(older) => newest(older, newer),
            None => newer,
        };
        if write.is_marking() && self.waiting.as_ref().is_some_and(comes_next) {
            self.later = Some(joined(self.later.take(), write));
            return;
        }
        let newer = joined(self.later.take(), write);
        self.waiting = Some(joined(self.waiting.take(), newer));
    }
}

impl std::fmt::Debug for DecisionWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("slots", &self.slots).finish_non_exhaustive()
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The pause before an attempt after that many failures: full jitter over a doubling range, so
/// that revisions that failed together do not come back together.
fn backoff(failures: u32) -> Duration {
    let range = backoff::pause_after(failures, BACKOFF_FIRST, BACKOFF_MAX);
    range.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests;
