//! Metrics of the data plane. A revision's series are found once, when its settings arrive, and
//! removed with it: the request path only adds to them.

use std::time::Duration;

use ebb_api::report::RevisionKey;
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::error::RequestError;

mod classes;
mod tokens;

use classes::ALL as CLASSES;
pub(crate) use tokens::{StreamMeters, TokenMeters};

/// From a cached answer to a long generation, in seconds.
const REQUEST_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];
/// From a process start to the load of a large model, in seconds.
const START_BUCKETS: [f64; 13] =
    [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// All metrics of an activator.
#[derive(Debug)]
pub(crate) struct Meters {
    requests: Family<ClassLabels, Counter>,
    durations: Family<RevisionLabels, Histogram, fn() -> Histogram>,
    waits: Family<RevisionLabels, Histogram, fn() -> Histogram>,
    starts: Family<RevisionLabels, Histogram, fn() -> Histogram>,
    queued: Family<RevisionLabels, Gauge>,
    in_flight: Family<RevisionLabels, Gauge>,
    errors: Family<ErrorLabels, Counter>,
    retries: Counter,
    ejections: Counter,
    forwarded: Counter,
    peer_failures: Counter,
    members: Gauge,
    overflows: Family<BoundLabels, Counter>,
    cuts: Family<CutLabels, Counter>,
    connections: Gauge,
    tunnels: Gauge,
    held_bytes: Gauge,
    /// Those of the models host.
    pub(crate) tokens: TokenMeters,
}

/// A bound of the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Bytes that requests hold.
    HeldBytes,
    /// Bytes that the requests of one revision hold.
    RevisionBytes,
    /// Bytes of requests to the models host whose model is not known yet.
    UnnamedBytes,
    /// Requests that wait for news of their host or their revision.
    News,
    /// Connections of clients.
    Connections,
    /// Connections of one client's address.
    ConnectionsPerAddress,
    /// Upgraded connections.
    Tunnels,
    /// Open files, ports or buffers of the machine.
    Machine,
}

/// Why a client was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It sent a request's body too slowly.
    Upload,
    /// It took its response too slowly.
    Download,
}

/// The series of one revision.
#[derive(Debug)]
pub(crate) struct RevisionMeters {
    requests: [Counter; CLASSES.len()],
    duration: Histogram,
    wait: Histogram,
    start: Histogram,
    queued: Gauge,
    in_flight: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevisionLabels {
    namespace: String,
    revision: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    namespace: String,
    revision: String,
    code_class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BoundLabels {
    bound: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CutLabels {
    side: &'static str,
}

// === impl Meters ===

impl Meters {
    /// The metrics, registered under `ebb_activator`.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let request_histogram: fn() -> Histogram = || Histogram::new(REQUEST_BUCKETS);
        let start_histogram: fn() -> Histogram = || Histogram::new(START_BUCKETS);
        let meters = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(request_histogram),
            waits: Family::new_with_constructor(start_histogram),
            starts: Family::new_with_constructor(start_histogram),
            queued: Family::default(),
            in_flight: Family::default(),
            errors: Family::default(),
            retries: Counter::default(),
            ejections: Counter::default(),
            forwarded: Counter::default(),
            peer_failures: Counter::default(),
            members: Gauge::default(),
            overflows: Family::default(),
            cuts: Family::default(),
            connections: Gauge::default(),
            tunnels: Gauge::default(),
            held_bytes: Gauge::default(),
            tokens: TokenMeters::new(registry),
        };
        let registry = registry.sub_registry_with_prefix("ebb_activator");
        registry.register(
            "requests",
            "Requests, by class of the response",
            meters.requests.clone(),
        );
        registry.register(
            "request_seconds",
            "Time from arrival to the end of the response",
            meters.durations.clone(),
        );
        registry.register(
            "queue_seconds",
            "Time that requests waited for a pod, of those that waited",
            meters.waits.clone(),
        );
        registry.register(
            "cold_start_seconds",
            "Time that the first request of a sleeping revision waited",
            meters.starts.clone(),
        );
        registry.register("queued", "Requests that wait for a pod", meters.queued.clone());
        registry.register("in_flight", "Requests in pods", meters.in_flight.clone());
        registry.register(
            "errors",
            "Requests that Ebb answered itself, by reason",
            meters.errors.clone(),
        );
        meters.register_pods(registry);
        meters.register_peers(registry);
        meters.register_bounds(registry);
        meters
    }

    fn register_pods(&self, registry: &mut Registry) {
        registry.register(
            "retries",
            "Requests that waited again because their pod could not be reached",
            self.retries.clone(),
        );
        registry.register(
            "ejections",
            "Pods left out for a while because of failures in a row",
            self.ejections.clone(),
        );
    }

    fn register_bounds(&self, registry: &mut Registry) {
        registry.register(
            "overflows",
            "Requests and connections refused because this process was at one of its limits",
            self.overflows.clone(),
        );
        registry.register(
            "cut_clients",
            "Requests broken off because the client was too slow",
            self.cuts.clone(),
        );
        registry.register("connections", "Connections of clients", self.connections.clone());
        registry.register("tunnels", "Upgraded connections", self.tunnels.clone());
        registry.register(
            "held_bytes",
            "Bytes that requests hold while they wait or are read",
            self.held_bytes.clone(),
        );
    }

    fn register_peers(&self, registry: &mut Registry) {
        registry.register(
            "forwarded",
            "Requests sent to the activator that owns their revision, which counts them too",
            self.forwarded.clone(),
        );
        registry.register(
            "peer_failures",
            "Attempts to reach another activator that failed",
            self.peer_failures.clone(),
        );
        registry.register(
            "ring_members",
            "Activators among which revisions with a concurrency limit are divided",
            self.members.clone(),
        );
    }

    /// The series of `revision`.
    pub(crate) fn revision(&self, revision: &RevisionKey) -> RevisionMeters {
        let labels = RevisionLabels::of(revision);
        RevisionMeters {
            requests: CLASSES
                .map(|class| self.requests.get_or_create_owned(&ClassLabels::of(revision, class))),
            duration: self.durations.get_or_create_owned(&labels),
            wait: self.waits.get_or_create_owned(&labels),
            start: self.starts.get_or_create_owned(&labels),
            queued: self.queued.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
        }
    }

    /// Removes the series of `revision`.
    pub(crate) fn forget(&self, revision: &RevisionKey) {
        for class in CLASSES {
            self.requests.remove(&ClassLabels::of(revision, class));
        }
        let labels = RevisionLabels::of(revision);
        for family in [&self.durations, &self.waits, &self.starts] {
            family.remove(&labels);
        }
        self.queued.remove(&labels);
        self.in_flight.remove(&labels);
    }

    /// A request that Ebb answered itself.
    pub(crate) fn error(&self, error: &RequestError) {
        self.errors.get_or_create(&ErrorLabels { reason: error.label() }).inc();
    }

    /// A request that another activator took.
    pub(crate) fn forwarded(&self) {
        self.forwarded.inc();
    }

    /// Another activator could not be reached.
    pub(crate) fn peer_failure(&self) {
        self.peer_failures.inc();
    }

    /// The number of activators in the ring.
    pub(crate) fn members(&self) -> Gauge {
        self.members.clone()
    }

    /// Something was refused because of a bound of the whole process.
    pub(crate) fn overflow(&self, bound: Bound) {
        self.overflows_of(bound).inc();
    }

    /// Counts what was refused because of `bound`.
    pub(crate) fn overflows_of(&self, bound: Bound) -> Counter {
        let bound = match bound {
            Bound::HeldBytes => "held-bytes",
            Bound::RevisionBytes => "revision-bytes",
            Bound::UnnamedBytes => "unnamed-bytes",
            Bound::News => "news",
            Bound::Connections => "connections",
            Bound::ConnectionsPerAddress => "connections-per-address",
            Bound::Tunnels => "tunnels",
            Bound::Machine => "machine",
        };
        self.overflows.get_or_create(&BoundLabels { bound }).clone()
    }

    /// Counts the clients that were cut off for being slow on one side.
    pub(crate) fn cut(&self, side: Cut) -> Counter {
        let side = match side {
            Cut::Upload => "upload",
            Cut::Download => "download",
        };
        self.cuts.get_or_create_owned(&CutLabels { side })
    }

    /// Connections of clients.
    pub(crate) fn connections(&self) -> Gauge {
        self.connections.clone()
    }

    /// Upgraded connections.
    pub(crate) fn tunnels(&self) -> Gauge {
        self.tunnels.clone()
    }

    /// Bytes that requests hold.
    pub(crate) fn held_bytes(&self) -> Gauge {
        self.held_bytes.clone()
    }

    /// A request that goes to another pod.
    pub(crate) fn retry(&self) {
        self.retries.inc();
    }

    /// A pod is left out for a while.
    pub(crate) fn ejection(&self) {
        self.ejections.inc();
    }
}

// === impl RevisionMeters ===

impl RevisionMeters {
    /// A request is done.
    pub(crate) fn request(&self, status: StatusCode, took: Duration) {
        self.requests[classes::place(status)].inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A request got its pod after a wait.
    pub(crate) fn wait(&self, took: Duration) {
        self.wait.observe(took.as_secs_f64());
    }

    /// The first request of a sleeping revision got its pod.
    pub(crate) fn start(&self, took: Duration) {
        self.start.observe(took.as_secs_f64());
    }

    /// The state of queue and pods now.
    pub(crate) fn state(&self, queued: usize, in_flight: u32) {
        self.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
        self.in_flight.set(i64::from(in_flight));
    }
}

impl RevisionLabels {
    fn of(revision: &RevisionKey) -> Self {
        Self { namespace: revision.namespace.clone(), revision: revision.name.clone() }
    }
}

impl ClassLabels {
    fn of(revision: &RevisionKey, code_class: &'static str) -> Self {
        Self { namespace: revision.namespace.clone(), revision: revision.name.clone(), code_class }
    }
}
