//! What pods are told, and what they answer.

use std::net::SocketAddr;
use std::sync::Arc;

use ebb_api::report::RevisionKey;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbyOrder {
    /// To be marked, and told to sleep.
    Sleep,
    /// To be told to sleep once more: it has the mark, and nobody knows whether the call arrived.
    SleepAgain,
    /// To be told nothing, if it was not told to sleep yet. It is that call that is answered.
    Stay,
    /// To be told to wake.
    Wake,
    /// To lose its mark.
    Unmark,
}

/// A call to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyCall {
    /// The revision.
    pub key: Arc<RevisionKey>,
    /// The pod's UID, for a namesake is left alone.
    pub uid: Arc<str>,
    /// The pod's name.
    pub name: Box<str>,
    /// Where its model listens.
    pub address: SocketAddr,
    /// What it is told.
    pub order: StandbyOrder,
    /// The path of the request, with its query; empty where there is none.
    pub path: Box<str>,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandbyOutcome {
    /// The pod did what it was told.
    Done,
    /// It was told nothing: its mark was not written, or it was to stay. The mark may be there.
    NotTold,
    /// It did not do it, for this reason.
    Failed(Box<str>),
}

/// How a call went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyAnswer {
    /// The revision.
    pub key: Arc<RevisionKey>,
    /// The pod.
    pub uid: Arc<str>,
    /// What it was told.
    pub order: StandbyOrder,
    /// What came of it.
    pub outcome: StandbyOutcome,
}

// === impl StandbyOrder ===

impl StandbyOrder {
    /// Whether it lets a pod sleep.
    pub fn is_to_sleep(self) -> bool {
        matches!(self, Self::Sleep | Self::SleepAgain)
    }
}
