//! One attempt of a write: the requests themselves.

use std::collections::BTreeSet;
use std::time::Duration;

use ebb_daemon::desired::{Before, Seen, Swap};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::event::{Urgency, Write};
use crate::pods::DELETION_COST;

/// The field manager of all writes from here.
pub const FIELD_MANAGER: &str = "ebb-autoscaler";
/// Longest time that one attempt may take.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most pods of one revision that are marked in one attempt, all at the same time.
const MARKS_AT_ONCE: usize = 16;

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// These pods are marked.
    Marked(BTreeSet<String>),
    /// The scale is written; the status after it.
    Shown(Seen),
}

// === impl Write ===

impl Write {
    /// How urgent the next attempt is.
    pub(super) fn step(&self) -> Urgency {
        if self.is_marking() { Urgency::Mark } else { self.urgency }
    }

    /// How many requests the next attempt makes.
    pub(super) fn requests(&self) -> usize {
        if self.is_marking() { self.marks.len().min(MARKS_AT_ONCE) } else { 1 }
    }

    /// Whether the write lowers the scale and all its pods are marked.
    pub(super) fn is_marked(&self) -> bool {
        self.is_lowering && self.desired.is_some() && self.marks.is_empty()
    }

    /// Whether the next attempt marks pods: before a lower scale, and after a higher one.
    pub(super) fn is_marking(&self) -> bool {
        let is_first = self.is_lowering || self.desired.is_none();
        is_first && !self.marks.is_empty()
    }
}

/// One attempt's worth of the write.
pub(super) async fn attempt(client: Client, write: &Write) -> Result<Step, kube::Error> {
    let step = async {
        match write.desired {
            Some(desired) if !write.is_marking() => {
                let Write { key, uid, known, version, .. } = write;
                let from = known.map_or(Before::Unsaid(*version), Before::Replicas);
                let swap = Swap { key, uid, from, to: desired };
                swap.write(&client, FIELD_MANAGER).await.map(Step::Shown)
            }
            _ => mark(client, write).await.map(Step::Marked),
        }
    };
    tokio::time::timeout(ATTEMPT_TIMEOUT, step)
        .await
        .unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into())))
}

async fn mark(client: Client, write: &Write) -> Result<BTreeSet<String>, kube::Error> {
    let api: Api<v1::Pod> = Api::namespaced(client, &write.key.namespace);
    let marks: Vec<_> = write.marks.clone().into_iter().take(MARKS_AT_ONCE).collect();
    let requests = marks.into_iter().map(|(name, cost)| {
        let api = api.clone();
        let cost = cost.map_or(Value::Null, |cost| cost.to_string().into());
        let patch = Patch::Merge(json!({"metadata": {"annotations": {DELETION_COST: cost}}}));
        async move {
            match api.patch_metadata(&name, &params(), &patch).await {
                // A pod that is gone needs no mark.
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(name),
                other => other.map(|_| name),
            }
        }
    });
    futures::stream::iter(requests).buffer_unordered(MARKS_AT_ONCE).try_collect().await
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}
