//! What activators and autoscalers tell each other: load upwards, drain orders downwards.
//!
//! Both are level-triggered: a report describes the interval since the last one, an order names
//! the whole set of pods to drain. A lost message is mended by the next.

use serde::{Deserialize, Serialize};

/// Path of a report stream between two processes: the body of a POST is a [`Report`] a line, the
/// response a [`DrainOrder`] a line, both for as long as the two live.
pub const STREAM_PATH: &str = "/v1/report-stream";
/// Media type of both directions: one JSON object a line.
pub const LINES_MEDIA_TYPE: &str = "application/x-ndjson";
/// Longest line, in bytes. 20,000 revisions with two pods each take some 7 MB.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// Namespace and name of a Revision.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevisionKey {
    /// Namespace of the Revision.
    pub namespace: String,
    /// Name of the Revision.
    pub name: String,
}

/// Load of the revisions that one activator serves, over one interval.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Which activator this is; one report a second from each is expected.
    pub activator: String,
    /// The revisions with anything to say: load, queue or pods.
    pub revisions: Vec<RevisionReport>,
}

/// Load of one revision at one activator, over one interval.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
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
    /// Pods that this activator knows, with what it has in flight there.
    pub pods: Vec<PodReport>,
}

/// What one activator has in flight in one pod.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodReport {
    /// UID of the pod.
    pub uid: String,
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
