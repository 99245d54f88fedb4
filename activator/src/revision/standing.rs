//! The state of a revision, for people to see.

use std::sync::Arc;

use ebb_api::report::RevisionKey;

use super::{Revision, Tracked};
use crate::pod::PodState;

/// How a revision stands at one activator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionStanding {
    /// The revision.
    pub revision: RevisionKey,
    /// Requests that wait for a pod.
    pub queued: usize,
    /// Requests in pods.
    pub in_flight: u32,
    /// The pods that have an address.
    pub pods: Vec<PodStanding>,
    /// Why it cannot start, if it cannot.
    pub cannot_start: Option<String>,
}

/// How a pod stands at one activator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodStanding {
    /// UID.
    pub uid: String,
    /// Whether it can take requests.
    pub ready: bool,
    /// Whether it gets no requests because of a drain order.
    pub drained: bool,
    /// Requests in flight from this activator.
    pub in_flight: u32,
}

/// How far a revision is from serving a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Awareness {
    /// It has no pod; a request wakes it.
    Asleep,
    /// Its pod is there, and its model sleeps in it; a request wakes it.
    Standby,
    /// It has a pod that does not serve yet, or a request waits for one.
    Waking,
    /// A pod takes requests.
    Ready,
    /// It cannot start, for this reason.
    Failed(Arc<str>),
}

impl RevisionStanding {
    /// Pods that get requests.
    pub fn ready_pods(&self) -> usize {
        self.pods.iter().filter(|pod| pod.ready && !pod.drained).count()
    }
}

impl Revision {
    /// Whether it exists, as far as is known.
    pub(crate) fn is_known(&self) -> bool {
        self.state.lock().live.is_some()
    }

    /// How far it is from serving a request.
    pub(crate) fn awareness(&self) -> Awareness {
        let state = self.state.lock();
        let Some(live) = &state.live else {
            return Awareness::Failed("the revision does not exist".into());
        };
        let is_coming = |tracked: &Tracked| {
            let is_leaving = tracked.state == PodState::Draining;
            !is_leaving && live.owns(&tracked.facts) && !state.is_drained(&tracked.facts.uid)
        };
        if state.dispatch.has_open_pod() {
            Awareness::Ready
        } else if let Some(reason) = &state.cannot_start {
            Awareness::Failed(Arc::clone(reason))
        } else if state.dispatch.queued() > 0 || state.tracked.values().any(is_coming) {
            Awareness::Waking
        } else if state.own_pods().any(|(uid, _)| state.sleeps(uid)) {
            Awareness::Standby
        } else {
            Awareness::Asleep
        }
    }

    /// How it stands now.
    pub(crate) fn standing(&self) -> RevisionStanding {
        let state = self.state.lock();
        let pods: Vec<_> = state
            .dispatch
            .pods()
            .map(|view| PodStanding {
                uid: view.uid.to_string(),
                ready: view.ready,
                drained: view.drained,
                in_flight: view.in_flight,
            })
            .collect();
        RevisionStanding {
            revision: self.key.clone(),
            queued: state.dispatch.queued(),
            in_flight: pods.iter().map(|pod| pod.in_flight).sum(),
            pods,
            cannot_start: state.cannot_start.as_deref().map(str::to_owned),
        }
    }
}
