//! One revision at work: the cores put together behind one short lock.
//!
//! The lock is the revision's own and is held for a few dozen instructions, twice in the life of a
//! warm request (arrival, end). Nothing is sent, awaited or logged while it is held: the
//! consequences of a decision are collected and carried out afterwards.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ebb_api::config::Config;
use ebb_api::report::{DrainOrder, OrderId, RevisionKey, RevisionReport};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::budget::Part;
use crate::connect::Connect;
use crate::dispatch::{Dispatch, PodUid, Slot};
use crate::error::RequestError;
use crate::health::{Ejection, Health};
use crate::load::Load;
use crate::meters::{Meters, RevisionMeters};
use crate::observer::{Event, Observer, ReportSink};
use crate::pod::{PodFacts, PodState};
use crate::queue::QueueLimits;
use crate::ring::Point;
use crate::settings::Settings;
use crate::upstream::Upstream;

mod pods;
mod presence;
mod reports;
mod standing;
mod starting;
mod summary;
mod visits;

pub use standing::{PodStanding, RevisionStanding};
pub(crate) use starting::StartView;
pub(crate) use summary::RevisionSummary;
pub(crate) use visits::{Admitted, Arriving};

/// How long an order is kept for a revision that nothing else is known of. The autoscaler repeats
/// an order every two seconds while it stands.
const ORDER_KEPT: Duration = Duration::from_mins(1);

/// What all revisions of an activator share.
pub(crate) struct RevisionContext {
    /// The settings of the platform.
    pub(crate) config: watch::Receiver<Arc<Config>>,
    /// Name of this activator in reports.
    pub(crate) id: String,
    /// Takes reports.
    pub(crate) reports: Arc<dyn ReportSink>,
    /// Receives events.
    pub(crate) observer: Arc<dyn Observer>,
    /// Makes connections to pods.
    pub(crate) connect: Arc<dyn Connect>,
    /// How much may wait for one revision.
    pub(crate) queue: QueueLimits,
    /// Metrics.
    pub(crate) meters: Meters,
}

/// One revision, from the first mention of it to the last.
pub(crate) struct Revision {
    pub(crate) key: RevisionKey,
    pub(crate) context: Arc<RevisionContext>,
    state: Mutex<State>,
    /// The bytes that its requests hold in this process.
    pub(crate) held: Arc<Part>,
    /// Its point on the ring of activators.
    pub(crate) point: Point,
    /// Whether it has a concurrency limit; outside the lock, so that requests to revisions without
    /// a limit need no second locking.
    limited: AtomicBool,
    /// Whether there may be something to report or to do for it each second; changed under the lock
    /// only. Of ten thousand revisions nearly all sleep, and each of these costs one read of this.
    active: AtomicBool,
}

/// A pod with an address.
pub(crate) struct Pod {
    pub(crate) uid: PodUid,
    pub(crate) upstream: Arc<Upstream>,
    /// When its address was seen.
    pub(crate) addressed: Instant,
    /// When it was first ready.
    pub(crate) ready: OnceLock<Instant>,
    /// How its latest requests ended.
    pub(crate) health: Health,
}

/// Most waiting requests that are decided on in one hold of the lock: a full queue must not keep
/// out the requests that come and go.
const VERDICTS_AT_ONCE: usize = 256;

/// The outcome for a waiting request: a slot in a pod, or an error.
type QueueVerdict = Result<(Slot, Arc<Pod>), RequestError>;

/// Verdicts that are decided but not yet delivered.
type Deliveries = Vec<(oneshot::Sender<QueueVerdict>, QueueVerdict)>;

/// The settings and the metrics of a Revision object.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) settings: Settings,
    pub(crate) meters: RevisionMeters,
}

/// Everything that the lock protects.
struct State {
    /// `None` until the Revision is seen, and again once it is deleted.
    live: Option<Arc<Live>>,
    dispatch: Dispatch<oneshot::Sender<QueueVerdict>, Arc<Pod>>,
    load: Load,
    cannot_start: Option<Arc<str>>,
    /// When the first request began to wait for a revision without a pod.
    waking: Option<Instant>,
    /// When the last request that waited left without a pod.
    left: Option<Instant>,
    /// Since when there is a pod to send to.
    opened: Option<Instant>,
    /// When one of its pods last changed.
    progressed: Option<Instant>,
    /// When a request was last reported to the autoscaler at once.
    told: Option<Instant>,
    /// Whether something was reported at once since the last interval was taken.
    is_told: bool,
    /// Everything that is known of its pods; see [`Tracked`].
    tracked: HashMap<PodUid, Tracked>,
    /// The pods that the last order names, seen or not.
    drained: HashSet<PodUid>,
    /// The pod that an order has called although it has the mark of a model that sleeps, until one drains
    /// it.
    called: Option<PodUid>,
    /// The order that `drained` comes from, and when it was last given.
    obeyed: OrderId,
    ordered: Option<Instant>,
    /// Pods that are left out because they failed.
    ejected: BTreeSet<PodUid>,
}

/// A pod, from its first sight until its object is gone. Everything that is known of it is here;
/// other places repeat the part that they need:
/// - `Directory::pods` has the revision of each UID, for a deletion names no revision, and a label
///   that has changed names another one.
/// - The members of [`Dispatch`] are the pods with an address, as `State::publish` has told them,
///   with the requests that are in flight there: a member outlives its pod until they have ended.
/// - `State::drained` comes from orders, which may name a pod before it is seen.
/// - `State::ejected` says at a glance, each time requests are settled, that no pod is ejected.
struct Tracked {
    facts: PodFacts,
    state: PodState,
    failing_since: Option<Instant>,
    unschedulable_since: Option<Instant>,
    ejection: Ejection,
    pod: Option<Arc<Pod>>,
    /// Runs while the state is probing; dropping the handle ends the probe.
    probe: Option<AbortOnDropHandle<()>>,
}

// === impl Revision ===

impl Revision {
    /// A revision of which nothing is known yet.
    pub(crate) fn new(key: RevisionKey, context: Arc<RevisionContext>, now: Instant) -> Self {
        let state = State {
            live: None,
            dispatch: Dispatch::new(context.queue),
            load: Load::new(now),
            cannot_start: None,
            waking: None,
            left: None,
            opened: None,
            progressed: None,
            told: None,
            is_told: false,
            tracked: HashMap::new(),
            drained: HashSet::new(),
            called: None,
            obeyed: OrderId::default(),
            ordered: None,
            ejected: BTreeSet::new(),
        };
        let point = Point::of(&key);
        let state = Mutex::new(state);
        let (limited, active) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { key, context, state, held: Arc::default(), point, limited, active }
    }

    /// Whether one activator must decide over all of its requests.
    pub(crate) fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    /// Whether [`Revision::tick`] may have something to tell or to do.
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// From now on the tick looks at it each second, until nothing happens any more.
    fn activate(&self, state: &mut State, now: Instant) {
        if !self.is_active() {
            self.active.store(true, Ordering::Relaxed);
            state.load.resume(now);
        }
    }

    /// The settings and the metrics of the Revision object, while there is one.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.state.lock().live.clone()
    }

    /// Whether there is nothing left to keep it for.
    pub(crate) fn is_forgotten(&self, now: Instant) -> bool {
        let state = self.state.lock();
        state.live.is_none()
            && state.tracked.is_empty()
            && state.load.inside() == 0
            && !state.has_order(now)
    }

    /// Stops sending to the pods that the order names, even to those that are yet to be seen; takes
    /// all others back.
    pub(crate) fn drain(&self, order: &DrainOrder, now: Instant) {
        let mut state = self.state.lock();
        self.activate(&mut state, now);
        state.drained = order.pods.iter().map(|uid| PodUid::from(uid.as_str())).collect();
        let called = order.called.as_deref().map(PodUid::from).or_else(|| state.called.take());
        state.called = called.filter(|uid| !state.drained.contains(uid));
        state.obeyed = order.id;
        state.is_told = true;
        state.ordered = (!order.pods.is_empty()).then_some(now);
        let all: Vec<PodUid> = state.tracked.keys().cloned().collect();
        for uid in all {
            state.publish(&uid);
        }
        self.settle(state, now);
    }

    /// Called once a second while the revision is active. Does what time alone brings about, and
    /// returns the report of the last interval, unless nothing happened in it.
    pub(crate) fn tick(&self, now: Instant) -> Option<RevisionReport> {
        let mut state = self.state.lock();
        for pod in state.tracked.values().filter_map(|tracked| tracked.pod.as_ref()) {
            pod.upstream.expire(now);
        }
        let interval = state.load.take(now);
        state.is_told = false;
        let report = RevisionReport {
            concurrency_mean: interval.concurrency_mean,
            requests_per_second: interval.requests_per_second,
            interval_s: interval.length.as_secs_f64(),
            ..state.report(&self.key)
        };
        if let Some(live) = &state.live {
            let in_flight = report.pods.iter().map(|pod| pod.in_flight).sum();
            live.meters.state(state.dispatch.queued(), in_flight);
        }
        // While an order stands, the autoscaler repeats it and waits to hear that it is obeyed. The
        // last order of a revision that was deleted is repeated no more.
        let quiet = report.pods.is_empty()
            && (state.drained.is_empty() || !state.has_order(now))
            && report.queued == 0
            && report.concurrency_mean <= 0.0
            && report.requests_per_second <= 0.0;
        if quiet && state.tracked.is_empty() && state.waking.is_none() {
            self.active.store(false, Ordering::Relaxed);
        }
        self.settle(state, now);
        (!quiet).then_some(report)
    }

    /// The report of this moment, for news that cannot wait for the tick.
    pub(crate) fn report_now(&self) -> RevisionReport {
        self.state.lock().report(&self.key)
    }

    /// Brings queue and pods into balance and carries out what follows from it. Every method that
    /// changes a pod, frees a slot or lets time pass ends here.
    fn settle<'a>(&'a self, mut state: MutexGuard<'a, State>, now: Instant) {
        let mut events = Vec::new();
        state.review_ejections(now);
        self.judge(&mut state, now, &mut events);
        loop {
            let deliveries = state.balance(&self.key);
            drop(state);
            for event in events.drain(..) {
                self.context.observer.event(event);
            }
            let is_last = deliveries.len() < VERDICTS_AT_ONCE;
            let returned = deliver(deliveries);
            if returned.is_empty() && is_last {
                return;
            }
            state = self.state.lock();
            for slot in returned {
                state.dispatch.release(slot);
            }
        }
    }

    /// Notices the two changes that matter to waiting requests: a pod is ready at last, or no pod
    /// can start.
    fn judge(&self, state: &mut State, now: Instant, events: &mut Vec<Event>) {
        let revision = || self.key.clone();
        if state.dispatch.has_open_pod() {
            state.opened.get_or_insert(now);
            state.cannot_start = None;
            if let Some(since) = state.waking.take() {
                let took = now.saturating_duration_since(since);
                if let Some(live) = &state.live {
                    live.meters.start(took);
                }
                events.push(Event::Ready { revision: revision(), took });
            }
            return;
        }
        state.opened = None;
        let reason = state.hopeless(now);
        if let Some(reason) = &reason
            && state.cannot_start.is_none()
        {
            state.waking = None;
            events.push(Event::Failed { revision: revision(), reason: Arc::clone(reason) });
        }
        state.cannot_start = reason;
    }
}

// === impl State ===

impl State {
    /// The Revision is gone: clears what was true of it alone, and returns the waiting requests.
    fn end(&mut self) -> Vec<oneshot::Sender<QueueVerdict>> {
        self.live = None;
        self.cannot_start = None;
        self.waking = None;
        self.told = None;
        std::iter::from_fn(|| self.dispatch.refuse()).collect()
    }

    /// Whether an autoscaler gave an order a short while ago and has not called it off.
    fn has_order(&self, now: Instant) -> bool {
        self.ordered.is_some_and(|at| now.saturating_duration_since(at) <= ORDER_KEPT)
    }

    /// Decides on as many waiting requests as can be decided on, up to [`VERDICTS_AT_ONCE`].
    fn balance(&mut self, key: &RevisionKey) -> Deliveries {
        let mut deliveries = Vec::new();
        while self.dispatch.queued() > 0 && deliveries.len() < VERDICTS_AT_ONCE {
            let Some((waiter, slot, pod)) = self.dispatch.next(rand::random()) else {
                break;
            };
            deliveries.push((waiter, Ok((slot, pod))));
        }
        if let Some(reason) = &self.cannot_start {
            let refusal =
                RequestError::CannotStart { revision: key.clone(), reason: Arc::clone(reason) };
            while deliveries.len() < VERDICTS_AT_ONCE
                && let Some(waiter) = self.dispatch.refuse()
            {
                deliveries.push((waiter, Err(refusal.clone())));
            }
        }
        deliveries
    }
}

/// Hands out the verdicts; returns the slots of requests that left in the meantime.
fn deliver(deliveries: Deliveries) -> Vec<Slot> {
    deliveries
        .into_iter()
        .filter_map(|(waiter, verdict)| match waiter.send(verdict) {
            Err(Ok((slot, _))) => Some(slot),
            Ok(()) | Err(Err(_)) => None,
        })
        .collect()
}
