//! Writes what was decided: one revision in order, many revisions at once.
//!
//! Each revision has at most one request under way and at most one write waiting; a newer write
//! takes the place of a waiting one, so that a failure is retried with the newest decision and
//! never with an old one. Pods are marked before the scale is lowered, and the scale that is then
//! written is the newest: demand that came back in between is not lost, and never waits for marks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use ebb_api::report::RevisionKey;
use ebb_api::serving::Revision;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::event::Write;
use crate::pods::DELETION_COST;

/// Name under which the API server records what we write.
pub const FIELD_MANAGER: &str = "ebb-autoscaler";
/// Longest time that one request may take.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most requests under way. An API server takes 200 mutating ones at once by default
/// (`--max-mutating-requests-inflight`); a burst of cold starts must leave some for others.
const REQUESTS_MAX: usize = 128;
/// Pods of one revision that are marked at the same time.
const MARKS_AT_ONCE: usize = 16;
/// First pause after a failure; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest pause: also the longest that a wake-up can be held up by an earlier failure.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The writes under way and waiting.
pub struct Writer {
    client: Client,
    slots: HashMap<RevisionKey, Slot>,
    /// Revisions whose write waits for one of [`REQUESTS_MAX`].
    blocked: VecDeque<RevisionKey>,
    tasks: JoinSet<Attempt>,
    next_id: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// The attempt under way.
    attempt: Option<u64>,
    waiting: Option<Write>,
    is_blocked: bool,
    failures: u32,
}

/// How a request ended.
#[derive(Debug)]
pub struct Attempt {
    key: RevisionKey,
    id: u64,
    write: Write,
    result: Result<Step, kube::Error>,
}

/// What a request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Marked,
    Shown,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to write for this revision.
    Written(RevisionKey),
    /// A request failed and will be made again.
    Failed,
    /// There is more to do.
    Pending,
}

// === impl Writer ===

impl Writer {
    /// A writer with nothing to do.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            slots: HashMap::new(),
            blocked: VecDeque::new(),
            tasks: JoinSet::new(),
            next_id: 0,
        }
    }

    /// Begins the write, or puts it in the place of the one that waits.
    pub fn submit(&mut self, write: Write) {
        let key = write.key.clone();
        let slot = self.slots.entry(key.clone()).or_default();
        slot.waiting = Some(match slot.waiting.take() {
            Some(older) => newest(older, write),
            None => write,
        });
        self.pump(&key);
    }

    /// Drops what waits for a revision that is gone.
    pub fn forget(&mut self, key: &RevisionKey) {
        self.slots.remove(key);
    }

    /// Drops everything that waits, and gives up what is under way: another replica decides now.
    /// A request that is on the wire already may still arrive; a lease leaves time for that.
    pub fn drop_all(&mut self) {
        self.slots.clear();
        self.blocked.clear();
        self.tasks = JoinSet::new();
    }

    /// The next request that ends; nothing while none is under way. Loses none when cancelled.
    pub async fn next(&mut self) -> Option<Attempt> {
        loop {
            match self.tasks.join_next().await? {
                Ok(attempt) => return Some(attempt),
                Err(error) => tracing::error!(%error, "A write ended unexpectedly"),
            }
        }
    }

    /// Goes on after a request that ended.
    pub fn settle(&mut self, attempt: Attempt) -> Outcome {
        let Attempt { key, id, write, result } = attempt;
        let outcome = match self.slots.get_mut(&key) {
            Some(slot) if slot.attempt == Some(id) => {
                slot.attempt = None;
                follow_up(slot, &key, write, result)
            }
            // The revision was forgotten while the request was under way.
            _ => Outcome::Pending,
        };
        if matches!(outcome, Outcome::Written(_)) {
            self.slots.remove(&key);
        }
        self.pump(&key);
        while self.tasks.len() < REQUESTS_MAX
            && let Some(blocked) = self.blocked.pop_front()
        {
            if let Some(slot) = self.slots.get_mut(&blocked) {
                slot.is_blocked = false;
            }
            self.pump(&blocked);
        }
        outcome
    }

    fn pump(&mut self, key: &RevisionKey) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        if slot.attempt.is_some() || slot.waiting.is_none() {
            return;
        }
        if self.tasks.len() >= REQUESTS_MAX {
            if !slot.is_blocked {
                slot.is_blocked = true;
                self.blocked.push_back(key.clone());
            }
            return;
        }
        slot.is_blocked = false;
        let Some(write) = slot.waiting.take() else {
            return;
        };
        let id = self.next_id;
        self.next_id += 1;
        slot.attempt = Some(id);
        let pause = backoff(slot.failures);
        let client = self.client.clone();
        let key = key.clone();
        self.tasks.spawn(async move {
            // Not even a sleep of zero: it would last until the timer's next millisecond.
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let result = attempt(client, &write).await;
            Attempt { key, id, write, result }
        });
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// What a slot does after its request ended.
fn follow_up(
    slot: &mut Slot,
    key: &RevisionKey,
    mut write: Write,
    result: Result<Step, kube::Error>,
) -> Outcome {
    match result {
        Ok(step) => {
            slot.failures = 0;
            match step {
                Step::Marked => write.marks.clear(),
                Step::Shown => write.desired = None,
            }
            if !write.marks.is_empty() || write.desired.is_some() {
                restore(slot, write);
            }
            written(slot, key)
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            // Deleted: the watch will say so, or name the new one of the same name.
            tracing::debug!(revision.name = %key, "There is no Revision to write to any more");
            written(slot, key)
        }
        Err(error) => {
            slot.failures = slot.failures.saturating_add(1);
            tracing::warn!(
                revision.name = %key,
                %error,
                failures = slot.failures,
                "A scale was not written and will be tried again"
            );
            restore(slot, write);
            Outcome::Failed
        }
    }
}

fn written(slot: &Slot, key: &RevisionKey) -> Outcome {
    if slot.waiting.is_some() { Outcome::Pending } else { Outcome::Written(key.clone()) }
}

/// Puts a write back that is not done, unless a newer one waits already.
fn restore(slot: &mut Slot, write: Write) {
    slot.waiting = Some(match slot.waiting.take() {
        Some(newer) => newest(write, newer),
        None => write,
    });
}

/// One write in the place of two: the newer scale, and the marks of both.
fn newest(older: Write, newer: Write) -> Write {
    let Write { key, uid, is_lowering, marks, desired } = newer;
    // Marks that were to come before the older scale must also come before one as low.
    let still_lower = desired.is_none() || desired <= older.desired;
    let mut all_marks = older.marks;
    all_marks.extend(marks);
    Write {
        key,
        uid,
        is_lowering: is_lowering || (older.is_lowering && still_lower),
        marks: all_marks,
        desired: desired.or(older.desired),
    }
}

/// One request's worth of the write.
async fn attempt(client: Client, write: &Write) -> Result<Step, kube::Error> {
    let step = async {
        let is_marking = !write.marks.is_empty();
        match write.desired {
            Some(desired) if !(write.is_lowering && is_marking) => {
                show(client, write, desired).await?;
                Ok(Step::Shown)
            }
            _ => {
                mark(client, &write.key.namespace, &write.marks).await?;
                Ok(Step::Marked)
            }
        }
    };
    tokio::time::timeout(ATTEMPT_TIMEOUT, step)
        .await
        .unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into())))
}

async fn show(client: Client, write: &Write, desired: u32) -> Result<(), kube::Error> {
    let api: Api<Revision> = Api::namespaced(client, &write.key.namespace);
    // The UID is a precondition: a new object of the same name refuses the patch.
    let status = json!({"desiredReplicas": i32::try_from(desired).unwrap_or(i32::MAX)});
    let patch = json!({"metadata": {"uid": write.uid}, "status": status});
    api.patch_status(&write.key.name, &params(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn mark(
    client: Client,
    namespace: &str,
    marks: &BTreeMap<String, Option<i32>>,
) -> Result<(), kube::Error> {
    let api: Api<v1::Pod> = Api::namespaced(client, namespace);
    let requests = marks.clone().into_iter().map(|(name, cost)| {
        let api = api.clone();
        let cost = cost.map_or(Value::Null, |cost| cost.to_string().into());
        let patch = Patch::Merge(json!({"metadata": {"annotations": {DELETION_COST: cost}}}));
        async move {
            match api.patch_metadata(&name, &params(), &patch).await {
                // A pod that is gone needs no mark.
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(drop),
            }
        }
    });
    futures::stream::iter(requests).buffer_unordered(MARKS_AT_ONCE).try_collect().await
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// The pause before an attempt after that many failures: full jitter over a doubling range, so
/// that revisions that failed together do not come back together.
fn backoff(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let doublings = failures.saturating_sub(1).min(16);
    let range = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    range.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests;
