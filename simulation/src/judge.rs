//! Watches a world and says when an invariant is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::identity::Identity;
use crate::invariants::{EMPTY_POD, LIMIT, PASSED_OVER, SENT_ONCE};
use crate::network::Name;
use crate::story::Story;

mod disturbances;
mod outcomes;
mod slots;
mod writes;

use disturbances::Disturbances;
pub(crate) use disturbances::{Disturbance, What};
pub(crate) use outcomes::Outcome;
use slots::Waits;
use writes::Written;

/// Requests that a pod may break off before it is passed over: each of three activators sends it five
/// in a row and those under way meanwhile, and tries it again after 1, 2 and 4 s, for its readiness
/// probe succeeds.
const BROKEN_OFF_MAX: usize = 90;

/// How long it may take until every activator knows a pod.
const KNOWN_AFTER: Duration = Duration::from_secs(5);
/// How long after a disturbance a pod may have more requests than its limit: the longest work of a
/// request that an earlier owner had taken, and some time to agree.
const AGREED_AFTER: Duration = Duration::from_secs(20);
/// What lets activators disagree about pods and about who owns a revision.
const DISAGREEMENTS: &[What] =
    &[What::Activator, What::Link, What::Api, What::PodWatch, What::Pause];

/// Watches a world. Cheap to clone; clones are the same judge.
#[derive(Clone)]
pub(crate) struct Judge {
    story: Story,
    /// The domain of all URLs.
    domain: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    requests: BTreeMap<u64, Request>,
    pods: BTreeMap<Arc<str>, PodFacts>,
    written: Written,
    disturbances: Disturbances,
    waits: Waits,
}

/// A request, as its client made it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) number: u64,
    pub(crate) service: String,
    /// The revision's timeout.
    pub(crate) timeout: Duration,
    pub(crate) upload: usize,
    pub(crate) parts: u64,
    /// Whether it came to the outer door.
    pub(crate) is_outside: bool,
}

struct Request {
    asked: Asked,
    sent: Duration,
    /// The activator that the client is connected to.
    activator: Option<Name>,
    arrivals: Vec<Arrival>,
    is_over: bool,
}

struct Arrival {
    pod: Arc<str>,
}

struct PodFacts {
    identity: Identity,
    inside: BTreeSet<u64>,
    began: Duration,
    /// When its process failed, by a fault.
    failed: Option<Duration>,
    /// Requests that it has broken off while it is sick; `None` while it is not.
    broken_off: Option<usize>,
}

/// A request's stay in a pod; it ends when this is dropped.
pub(crate) struct Visit {
    judge: Judge,
    number: u64,
    pod: Arc<str>,
}

impl Judge {
    pub(crate) fn new(story: &Story, domain: &'static str) -> Self {
        Self { story: story.clone(), domain, state: Arc::default() }
    }

    /// A client sends a request.
    pub(crate) fn asks(&self, asked: Asked) {
        let request = Request {
            sent: ebb_clockwork::elapsed(),
            activator: None,
            arrivals: Vec::new(),
            is_over: false,
            asked,
        };
        self.state.lock().requests.insert(request.asked.number, request);
    }

    /// The request's connection leads to that activator.
    pub(crate) fn connects(&self, number: u64, activator: &Name) {
        if let Some(request) = self.state.lock().requests.get_mut(&number) {
            request.activator = Some(activator.clone());
        }
    }

    /// The process of a pod has started.
    pub(crate) fn pod_runs(&self, identity: &Identity) {
        let facts = PodFacts {
            identity: identity.clone(),
            inside: BTreeSet::new(),
            began: ebb_clockwork::elapsed(),
            failed: None,
            broken_off: None,
        };
        self.state.lock().pods.insert(identity.uid.clone(), facts);
    }

    /// The process of a pod ends by a fault.
    pub(crate) fn pod_fails(&self, identity: &Identity) {
        let mut state = self.state.lock();
        if let Some(pod) = state.pods.get_mut(&identity.uid) {
            pod.failed = Some(ebb_clockwork::elapsed());
            pod.inside.clear();
        }
        let service = format!("{}/{}", identity.namespace, identity.service);
        state.disturbances.instant(What::Pod, service.into(), ebb_clockwork::elapsed());
    }

    /// A pod begins to break off requests; to be ended with [`Judge::settle`].
    pub(crate) fn sickens(&self, identity: &Identity) -> Disturbance {
        let mut state = self.state.lock();
        if let Some(pod) = state.pods.get_mut(&identity.uid) {
            pod.broken_off = Some(0);
            pod.failed = Some(ebb_clockwork::elapsed());
        }
        let service = format!("{}/{}", identity.namespace, identity.service);
        state.disturbances.begin(What::Pod, service.into(), ebb_clockwork::elapsed())
    }

    /// The process of a pod is ended because the pod was deleted.
    pub(crate) fn pod_ends(&self, identity: &Identity) {
        let mut state = self.state.lock();
        let now = ebb_clockwork::elapsed();
        let Some(pod) = state.pods.get_mut(&identity.uid) else { return };
        let inside: Vec<u64> = std::mem::take(&mut pod.inside).into_iter().collect();
        pod.failed = Some(now);
        let alive: Vec<u64> = inside
            .into_iter()
            .filter(|number| state.requests.get(number).is_some_and(|request| !request.is_over))
            .collect();
        if alive.is_empty() {
            return;
        }
        // A Service that was deleted takes its pods with it, and an activator that ends loses its
        // requests in a moment. No other fault is an excuse: drains exist for them.
        let is_wanted = state.written.lives(&identity.revision_uid);
        let is_well = state.disturbances.is_calm(&[What::Activator], now, KNOWN_AFTER);
        let how = format!(
            "pod {} ends with {} inside (wanted: {is_wanted}, well: {is_well})",
            identity.name,
            list(&alive),
        );
        drop(state);
        if is_wanted && is_well {
            self.story.blame(EMPTY_POD, how);
        } else {
            self.story.tell(how);
        }
    }

    /// A pod is gone from the API.
    pub(crate) fn pod_gone(&self, identity: &Identity) {
        self.state.lock().pods.remove(&identity.uid);
    }

    /// A request has arrived in a pod.
    pub(crate) fn arrives(&self, number: u64, pod: &Identity) -> Visit {
        let mut locked = self.state.lock();
        let state = &mut *locked;
        let now = ebb_clockwork::elapsed();
        let mut broken = Vec::new();
        self.story.trace(&format!("request {number} in pod {}", pod.name));
        if let Some(request) = state.requests.get_mut(&number) {
            if let Some(first) = request.arrivals.first() {
                broken.push((
                    SENT_ONCE,
                    format!("request {number} arrives in pod {} after {}", pod.uid, first.pod),
                ));
            }
            request.arrivals.push(Arrival { pod: pod.uid.clone() });
        }
        // Every activator must know a pod that is well.
        let is_known = |other: &PodFacts| {
            other.failed.is_none() && ebb_clockwork::since(other.began) > KNOWN_AFTER
        };
        let is_replaceable = state.disturbances.is_calm(DISAGREEMENTS, now, KNOWN_AFTER)
            && state
                .pods
                .values()
                .any(|other| other.identity.revision_uid == pod.revision_uid && is_known(other));
        let requests = &state.requests;
        if let Some(facts) = state.pods.get_mut(&pod.uid) {
            facts.inside.insert(number);
            if let Some(broken_off) = facts.broken_off.as_mut().filter(|_| is_replaceable) {
                *broken_off += 1;
                if *broken_off > BROKEN_OFF_MAX {
                    let how = format!("pod {} has broken off {broken_off} requests", pod.name);
                    broken.push((PASSED_OVER, how));
                    *broken_off = 0;
                }
            }
            // A pod learns a moment later that a client has left.
            let goes_on = |number: &&u64| requests.get(number).is_some_and(|own| !own.is_over);
            let count = facts.inside.iter().filter(goes_on).count();
            let limit = state.written.limit(&pod.revision_uid);
            if limit > 0
                && count > limit
                && state.disturbances.is_calm(DISAGREEMENTS, now, AGREED_AFTER)
            {
                broken.push((
                    LIMIT,
                    format!("{count} requests in pod {} of limit {limit}", pod.name),
                ));
            }
        }
        drop(locked);
        for (rule, how) in broken {
            self.story.blame(rule, how);
        }
        Visit { judge: self.clone(), number, pod: pod.uid.clone() }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(pod) = self.judge.state.lock().pods.get_mut(&self.pod) {
            pod.inside.remove(&self.number);
        }
    }
}

fn list(numbers: &[u64]) -> String {
    let words: Vec<_> = numbers.iter().map(|number| format!("request {number}")).collect();
    words.join(", ")
}
