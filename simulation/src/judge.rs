//! Watches a world and says when an invariant is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::identity::Identity;
use crate::invariants::{LIMIT, PASSED_OVER, SENT_ONCE};
use crate::network::Name;
use crate::story::Story;

mod disturbances;
mod fields;
mod lives;
mod marks;
mod outcomes;
mod room;
mod slots;
mod writes;

pub(crate) use disturbances::{ALL, Disturbance, What};
use disturbances::{Disturbances, concerns, concerns_activators};
use fields::Fields;
pub(crate) use outcomes::Outcome;
use room::Room;
use slots::Waits;
use writes::Written;

/// Requests that a pod may break off before it is passed over: each of three activators sends it five
/// in a row and those under way meanwhile, and tries it again after 1, 2 and 4 s, for its readiness
/// probe succeeds.
const BROKEN_OFF_MAX: usize = 90;

/// How long it may take until every activator knows a pod.
const KNOWN_AFTER: Duration = Duration::from_secs(5);
/// How long after a disturbance the activators may disagree about who owns a revision: one that
/// could not be reached is passed over for 5 s, and for 5 s more one request at a time tries it.
const AGREED_AFTER: Duration = Duration::from_secs(10);
/// How long it may take until all of the first activators know that the last of them is ready.
const JOINED_AFTER: Duration = Duration::from_secs(1);
/// What lets activators disagree about pods and about who owns a revision.
const DISAGREEMENTS: &[What] = &[
    What::Activator,
    What::Member,
    What::Link,
    What::Api,
    What::Stall,
    What::PodWatch,
    What::Pause,
];

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
    /// How many of them are not over.
    open: usize,
    pods: BTreeMap<Arc<str>, PodFacts>,
    written: Written,
    disturbances: Disturbances,
    waits: Waits,
    /// When activators that leave in order close their idle connections.
    closing: BTreeMap<Name, Duration>,
    room: Room,
    fields: Fields,
}

/// A request, as its client made it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) number: u64,
    pub(crate) service: String,
    /// From the end of the request to the first part of the answer.
    pub(crate) step: Duration,
    pub(crate) upload: usize,
    pub(crate) parts: u64,
    pub(crate) has_trailers: bool,
    /// Whether it came to the outer door.
    pub(crate) is_outside: bool,
}

struct Request {
    asked: Asked,
    sent: Duration,
    /// The activator that the client is connected to, and since when it may know the request.
    activator: Option<(Name, Duration)>,
    arrivals: Vec<Arrival>,
    is_over: bool,
}

struct Arrival {
    pod: Arc<str>,
    at: Duration,
}

struct PodFacts {
    identity: Identity,
    inside: BTreeSet<u64>,
    /// Since when its process serves as it should; `None` while it does not.
    well: Option<Duration>,
    /// Since when it has a free slot, if it has one; a limit of 0 leaves one always.
    free: Duration,
    /// Whether its process runs.
    is_up: bool,
    /// How often it is sick.
    sick: u32,
    /// Requests that it has broken off while it is sick.
    broken_off: usize,
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
        let mut state = self.state.lock();
        state.open += 1;
        state.requests.insert(request.asked.number, request);
    }

    /// The request goes to that activator.
    pub(crate) fn connects(&self, number: u64, activator: &Name) {
        if let Some(request) = self.state.lock().requests.get_mut(&number) {
            request.activator = Some((activator.clone(), ebb_clockwork::elapsed()));
        }
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
            request.arrivals.push(Arrival { pod: pod.uid.clone(), at: now });
        }
        if let Some(facts) = state.pods.get_mut(&pod.uid) {
            facts.inside.insert(number);
        }
        broken.extend(state.breaks_off(pod, now).map(|how| (PASSED_OVER, how)));
        broken.extend(state.exceeds(pod).map(|how| (LIMIT, how)));
        drop(locked);
        for (rule, how) in broken {
            self.story.blame(rule, how);
        }
        Visit { judge: self.clone(), number, pod: pod.uid.clone() }
    }
}

impl State {
    /// Whether a pod that is sick gets more requests than it may.
    fn breaks_off(&mut self, pod: &Identity, now: Duration) -> Option<String> {
        // Every activator must know a pod that is well, and that is to stay.
        let is_known = |(uid, other): (&Arc<str>, &PodFacts)| {
            other.identity.revision_uid == pod.revision_uid
                && self.open_since(uid, other).is_some_and(|open| open <= now)
        };
        let is_replaceable = self.disturbances.are_activators_calm(DISAGREEMENTS, now, KNOWN_AFTER)
            && self.pods.iter().any(is_known);
        let facts = self.pods.get_mut(&pod.uid).filter(|facts| facts.sick > 0 && is_replaceable)?;
        facts.broken_off += 1;
        (facts.broken_off > BROKEN_OFF_MAX).then(|| {
            let count = std::mem::take(&mut facts.broken_off);
            format!("pod {} has broken off {count} requests", pod.name)
        })
    }

    /// Whether a pod has more requests than its limit, of those that came when the activators had
    /// agreed who owns the revision. An earlier owner may have taken older ones.
    fn exceeds(&self, pod: &Identity) -> Option<String> {
        let limit = self.written.limit(&pod.revision_uid);
        if limit == 0 {
            return None;
        }
        let agreed = self.disturbances.activators_calm_since(DISAGREEMENTS, AGREED_AFTER)?;
        let agreed = agreed.max(self.written.joined + JOINED_AFTER);
        // A pod learns a moment later that a client has left.
        let counts = |request: &Request| !request.is_over && request.sent >= agreed;
        let inside = self.pods.get(&pod.uid)?.inside.iter();
        let count = inside.filter(|number| self.requests.get(number).is_some_and(counts)).count();
        (count > limit).then(|| format!("{count} requests in pod {} of limit {limit}", pod.name))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut locked = self.judge.state.lock();
        let state = &mut *locked;
        let Some(pod) = state.pods.get_mut(&self.pod) else { return };
        let was_full = pod.inside.len() >= state.written.limit(&pod.identity.revision_uid);
        if pod.inside.remove(&self.number) && was_full {
            pod.free = ebb_clockwork::elapsed();
        }
    }
}
