//! What activators and autoscalers tell each other: load upwards, drain orders downwards.
//!
//! Both are level-triggered: a report describes the interval since the last one, an order names
//! the whole set of pods to drain. Orders are numbered, and a report says which one it was written
//! under: what was said before an order came says nothing about it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub mod wire;

/// Path of a report stream between two processes: the body of a POST are the lines of reports, the
/// response those of answers (see [`wire`]), both for as long as the two live.
///
/// The version in it is that of the lines: a change that an earlier end cannot read, or would read
/// otherwise, gets another. There is only ever one, for ends that do not understand each other do
/// no harm: no scale is lowered meanwhile, and activators wake revisions themselves.
pub const STREAM_PATH: &str = "/v2/report-stream";
/// Media type of both directions: one JSON object a line.
pub const LINES_MEDIA_TYPE: &str = "application/x-ndjson";

/// Namespace and name of a Revision.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevisionKey {
    /// Namespace of the Revision.
    pub namespace: String,
    /// Name of the Revision.
    pub name: String,
}

/// Load of the revisions that one activator serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Which activator this is; one report of an interval a second from each is expected.
    pub activator: String,
    /// What the report says of revisions that it does not name.
    pub scope: Scope,
    /// The revisions with anything to say: load, queue, pods or an order that stands.
    pub revisions: Vec<RevisionReport>,
}

/// What a report says of the revisions that it does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// An interval has passed, and there is nothing to say of them.
    #[default]
    Full,
    /// An interval has passed, and they are as the last report of an interval said.
    Changes,
    /// Nothing: this is news of one moment, a first request or an order obeyed.
    Moment,
}

/// Which order: a later one is greater. The default comes before all orders.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "camelCase")]
pub struct OrderId {
    /// The term of the leader that gave it; a newer leader has a greater one.
    pub epoch: u64,
    /// Counts the orders of that term, over all revisions.
    pub number: u64,
}

/// Load of one revision at one activator, over one interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RevisionReport {
    /// The revision.
    pub revision: RevisionKey,
    /// Time-weighted mean of requests inside (queued and in flight) over the interval.
    pub concurrency_mean: f64,
    /// Requests that arrived in the interval, divided by its length in seconds.
    pub requests_per_second: f64,
    /// Requests that wait for a pod at the end of the interval.
    pub queued: u32,
    /// Length of the interval in seconds; 0 for the immediate report of a first request.
    pub interval_s: f64,
    /// The newest order that is obeyed.
    pub obeyed: OrderId,
    /// Pods that this activator knows, with what it has in flight there. Cheapest on a stream when
    /// they are sorted by UID.
    pub pods: Vec<PodReport>,
    /// Whether it knows more pods than it names.
    pub is_cut: bool,
}

/// What one activator has in flight in one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReport {
    /// UID of the pod.
    pub uid: Arc<str>,
    /// Requests in flight from this activator.
    pub in_flight: u32,
    /// Whether the activator has stopped sending requests there because of a [`DrainOrder`].
    pub draining: bool,
}

/// The whole set of pods of a revision that must get no new requests.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DrainOrder {
    /// The revision.
    pub revision: RevisionKey,
    /// Which order this is. One of an older term than the newest known is not obeyed.
    pub id: OrderId,
    /// UIDs of the pods to drain; a pod that is not named is taken back at once.
    pub pods: Vec<String>,
}

impl RevisionKey {
    /// The key of `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for RevisionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
