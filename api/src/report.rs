//! Messages between activators and autoscalers: load upwards, drain orders downwards.
//!
//! Both are level-triggered: a report describes the interval since the last one, an order names the
//! whole set of pods to drain. Orders are numbered, and a report names the order under which it was
//! written: a report from before an order says nothing about that order.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub mod wire;

/// Path of a report stream between two processes. The body of the POST request carries the lines of
/// reports, the body of the response the lines of answers (see [`wire`]); both last as long as the
/// two processes live.
///
/// The version in the path is the version of the lines: a change that an earlier release cannot
/// read, or would misread, gets a new one. A release speaks one version only, because ends that do
/// not understand each other do no harm: no scale is lowered meanwhile, and activators wake
/// revisions themselves.
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
    /// Name of the activator. An interval report is expected from each activator every second.
    pub activator: String,
    /// What the report says of revisions that it does not name.
    pub scope: Scope,
    /// The revisions with anything to report: load, queued requests, pods, or an order in force.
    pub revisions: Vec<RevisionReport>,
}

/// What a report says of the revisions that it does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The report covers an interval, in which the other revisions had nothing to report.
    #[default]
    Full,
    /// The report covers an interval, and the other revisions are as the last interval report said.
    Changes,
    /// Nothing: the report is about one moment, such as a first request or an order obeyed.
    Moment,
}

/// Identifies an order; a later order has a greater id. The default comes before all orders.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "camelCase")]
pub struct OrderId {
    /// The term of the leader that gave the order; a newer leader has a greater term.
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
    /// The newest order that the activator obeys.
    pub obeyed: OrderId,
    /// Pods that the activator may send a request to, or has one inside of, with its requests in
    /// flight in each. Encoding is cheapest when they are sorted by UID.
    pub pods: Vec<PodReport>,
    /// Whether the activator knows more pods than the report names.
    pub is_cut: bool,
}

/// Requests of one activator in one pod.
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
    /// Id of the order. An order of an older term than the newest known is not obeyed.
    pub id: OrderId,
    /// UIDs of the pods to drain; a pod that is not named gets requests again at once.
    pub pods: Vec<String>,
    /// UID of the pod that gets requests although it has the mark of a model that sleeps: it was woken. That
    /// is said on its own, for a new leader may give an order before it sees the mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
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
