//! The state of a revision, for people to see.

use ebb_api::report::RevisionKey;

use super::Revision;

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

impl RevisionStanding {
    /// Pods that get requests.
    pub fn ready_pods(&self) -> usize {
        self.pods.iter().filter(|pod| pod.ready && !pod.drained).count()
    }
}

impl Revision {
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
