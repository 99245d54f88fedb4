//! Wire format of reports and orders: one JSON object a line, short because a stream has a memory.
//!
//! A revision is named once in a stream and has a number from then on, and so has each of its pods
//! within the revision. The first interval report is a full statement. Later ones name only the
//! revisions that have load or have changed, so an idle revision costs nothing. Lines are numbered
//! and say how many revisions have a number: an end whose count differs ends the stream, and the
//! next stream begins with a full statement again. Each complete report is answered with the number
//! of its last line.
//!
//! [`Encoder`] and [`Decoder`] are pure, one of each for each stream. Every value of a line is
//! bounded here, before it is kept.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{DrainOrder, OrderId, Scope};

mod decode;
mod encode;

pub use decode::Decoder;
pub use encode::Encoder;

/// Longest line, in bytes: enough for the most pods of one revision, or for an order that names
/// them all.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// A line that has reached this length ends, and the report goes on in another line.
const LINE_BYTES_AIM: usize = 128 << 10;
/// Most revisions with a number in one stream: as many as the autoscaler scales.
pub const REVISIONS_MAX: usize = 20_000;
/// Most pods of one revision that are named; of the rest the report only says that there are more.
pub const PODS_MAX: usize = 10_000;
/// Most pods with a number in one stream: ten for each revision, and some 20 MB.
pub const STREAM_PODS_MAX: usize = 200_000;
/// Longest UID; Kubernetes' have 36 characters.
const UID_CHARS_MAX: usize = 63;
/// Longest namespace (a DNS label), and longest name of a Revision or of an activator's pod (a DNS
/// subdomain).
const NAMESPACE_CHARS_MAX: usize = 63;
const NAME_CHARS_MAX: usize = 253;
/// Longest interval that a report may cover, in seconds.
const INTERVAL_S_MAX: f64 = 3600.0;

/// Why a line is refused; the stream ends with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not the JSON that is expected.
    #[error("a line cannot be read: {0}")]
    Unreadable(String),
    /// A value that has no meaning, or is beyond its bound.
    #[error("invalid value of `{field}` in line {line}")]
    Senseless {
        /// Which line of the stream.
        line: u64,
        /// The wrong field, named as in [`Report`](super::Report).
        field: &'static str,
    },
    /// Both ends have counted differently.
    #[error("line {line} does not follow from the lines before it: {what} differ")]
    Diverged {
        /// Which line of the stream.
        line: u64,
        /// What was counted.
        what: &'static str,
    },
}

/// What an autoscaler sends: an answer to a report, an order, or both.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Number of the last line of a report that was taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<u64>,
    /// An order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<DrainOrder>,
}

/// One line of a report. Field names are short, for there may be thousands of lines a second.
#[derive(Serialize, Deserialize, Debug, Default)]
#[serde(default)]
struct Line<'a> {
    /// Counts the lines of the stream, from 1.
    n: u64,
    /// Name of the activator, in the first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    activator: Option<Cow<'a, str>>,
    scope: Kind,
    /// The report goes on in the next line.
    #[serde(skip_serializing_if = "is_false")]
    more: bool,
    /// Length of the interval in seconds.
    #[serde(skip_serializing_if = "is_zero")]
    interval: f64,
    /// Numbers of revisions with nothing more to report; the numbers are free from here on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<u32>,
    /// How many revisions have a number after this line.
    known: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    revisions: Vec<Entry<'a>>,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Full,
    Changes,
    Moment,
}

/// Entry of one revision in a line. A field that is left out means zero, none or no change: see
/// each.
#[derive(Serialize, Deserialize, Debug, Default)]
#[serde(default)]
struct Entry<'a> {
    /// Number of the revision.
    i: u32,
    /// Namespace and name, at the first mention.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<(Cow<'a, str>, Cow<'a, str>)>,
    /// Mean of requests inside.
    #[serde(skip_serializing_if = "is_zero")]
    c: f64,
    /// Requests a second.
    #[serde(skip_serializing_if = "is_zero")]
    r: f64,
    /// Requests that wait.
    #[serde(skip_serializing_if = "is_none")]
    q: u32,
    /// Epoch and number of the order that is obeyed, if it is another one than in the last entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    o: Option<(u64, u64)>,
    /// UIDs of new pods, which get the next numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    add: Vec<Cow<'a, str>>,
    /// Numbers of pods that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cut: Vec<u32>,
    /// Numbers of pods with requests in flight, and how many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    busy: Vec<(u32, u32)>,
    /// Numbers of pods that drain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drain: Vec<u32>,
    /// Whether there are pods that have no number.
    #[serde(skip_serializing_if = "is_false")]
    rest: bool,
}

// === impl Answer ===

impl Answer {
    /// The answer as a line, with its newline.
    pub fn encode(&self) -> Vec<u8> {
        // Serializing would fail only for a map with other keys than text, and there are none.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// Reads a line.
    ///
    /// # Errors
    ///
    /// An error for a line that is unreadable, or has a value without a meaning or beyond its
    /// bound.
    pub fn decode(line: &str) -> Result<Self, WireError> {
        let answer: Self = serde_json::from_str(line).map_err(|e| unreadable(&e))?;
        if let Some(order) = &answer.order {
            let senseless = |field| Err(WireError::Senseless { line: 0, field });
            if !is_key(&order.revision.namespace, &order.revision.name) {
                return senseless("revision");
            }
            if order.pods.len() > PODS_MAX || !order.pods.iter().all(|uid| is_uid(uid)) {
                return senseless("pods");
            }
            if !order.called.iter().all(|uid| is_uid(uid)) {
                return senseless("called");
            }
        }
        Ok(answer)
    }
}

// === impl Kind ===

impl From<Scope> for Kind {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Full => Self::Full,
            Scope::Changes => Self::Changes,
            Scope::Moment => Self::Moment,
        }
    }
}

impl From<Kind> for Scope {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Full => Self::Full,
            Kind::Changes => Self::Changes,
            Kind::Moment => Self::Moment,
        }
    }
}

fn unreadable(error: &serde_json::Error) -> WireError {
    WireError::Unreadable(error.to_string())
}

fn is_key(namespace: &str, name: &str) -> bool {
    (1..=NAMESPACE_CHARS_MAX).contains(&namespace.len())
        && (1..=NAME_CHARS_MAX).contains(&name.len())
}

fn is_uid(uid: &str) -> bool {
    (1..=UID_CHARS_MAX).contains(&uid.len())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_none(value: &u32) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// UIDs of pods with their numbers; sorted by either.
type Pods = Vec<(u32, Arc<str>)>;

#[cfg(test)]
mod tests;
