//! How far a revision is, in words: for lists, clients and people.

use std::sync::Arc;

use serde::Serialize;
use tokio::time::Instant;

use super::Revision;
use super::standing::Awareness;

/// The phase of a model that sleeps in its process.
const STANDBY: &str = "standby";

/// How far a revision is from serving a request, as JSON.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RevisionSummary {
    /// `asleep`, `waking`, `ready` or `failed`.
    state: &'static str,
    /// Why it failed, or cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Of one that wakes, what its start waits for; of one that sleeps in its process, that.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    /// Of one that wakes, how long a request has waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    waking_for_s: Option<u64>,
    /// Of one that has no pod, the time within which nine of ten starts were done.
    #[serde(skip_serializing_if = "Option::is_none")]
    usual_start_s: Option<u64>,
}

// === impl RevisionSummary ===

impl RevisionSummary {
    /// Of a revision that is known.
    pub(crate) fn of(revision: &Revision, now: Instant) -> Self {
        let awareness = revision.awareness();
        let in_standby = awareness == Awareness::Standby;
        let start = revision.start_view(now);
        let waking = start.filter(|_| awareness == Awareness::Waking);
        let (state, reason) = match awareness {
            Awareness::Asleep | Awareness::Standby => ("asleep", None),
            Awareness::Waking => ("waking", None),
            Awareness::Ready => ("ready", None),
            Awareness::Failed(reason) => ("failed", Some(reason.to_string())),
        };
        // A start says nothing about how long a call takes.
        let usual = start.filter(|_| !in_standby).and_then(|start| start.usual);
        Self {
            state,
            reason,
            phase: if in_standby { Some(STANDBY) } else { waking.map(|start| start.phase.word()) },
            waking_for_s: waking.and_then(|start| start.lasts).map(|lasts| lasts.as_secs()),
            usual_start_s: usual.map(|usual| usual.as_secs()),
        }
    }

    /// Where there is no revision to ask, for this reason if one is known.
    pub(crate) fn without_revision(why: Option<&Arc<str>>) -> Self {
        let (state, reason) = match why {
            Some(why) => ("failed", why.to_string()),
            None => ("waking", "no revision is ready yet".to_owned()),
        };
        let reason = Some(reason);
        Self { state, reason, phase: None, waking_for_s: None, usual_start_s: None }
    }
}
