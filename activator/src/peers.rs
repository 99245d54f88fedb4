//! The other activators: who they are, and the connections to them.
//!
//! A revision with a concurrency limit has one owner among the activators ([`crate::ring`]), which
//! holds its queue and gives out its slots; the others send it their requests. So a limit holds
//! for all of them together, and no request waits at one while another knows of an idle pod.
//!
//! Who is a member is what the API says of the activators' pods, of this one as of all others:
//! ready, not terminating, with an address. Those who see the same pods agree. Nobody votes, so
//! there are times when two take themselves for the owner and a pod may get more than its limit,
//! at most the limit from each: until both have seen a change of the members, and until the
//! requests that the earlier owner had taken have ended. A peer that can be reached by some and
//! not by others has the same effect for as long as that lasts. To wait for agreement instead would
//! hold requests whenever an activator dies.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ebb_api::serving::Protocol;
use ebb_daemon::identity::{Doorkeeper, Shown};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::connect::Connect;
use crate::directory::WatchChange;
use crate::greeting::Introduced;
use crate::ring::{Point, Ring};
use crate::upstream::Upstream;

/// Most peers that are tried for one request before it is served here: the owner, and who comes
/// after it should it have died. Each may cost a connection timeout.
const ATTEMPTS_MAX: usize = 2;
/// Requests at one peer at once. An HTTP/1.1 request holds a connection, and there are 28,232
/// ports for those to one address (Linux's default range).
const REQUESTS_MAX: usize = 20_000;
/// How long a peer that could not be reached is passed over: without it each request for a lost
/// node would wait for the connection timeout until Kubernetes notices, which takes 40 s.
const SHUN: Duration = Duration::from_secs(5);

/// Name of the container port on which an activator serves the others.
pub const PORT_NAME: &str = "peers";

/// What an activator needs to find the others.
#[derive(Debug, Clone)]
pub struct PeerOptions {
    /// Namespace of the activators' pods.
    pub namespace: String,
    /// Label selector that matches these pods and no others.
    pub selector: String,
    /// Port on which a pod serves the others, where it has none of the name [`PORT_NAME`].
    pub port: u16,
    /// What this one shows of itself when it connects to another.
    pub shown: Shown,
    /// Lets others in that connect to this one.
    pub doorkeeper: Doorkeeper,
}

/// All activators that are known.
pub(crate) struct Peers {
    options: PeerOptions,
    /// Name of this one's pod.
    own: String,
    connect: Arc<dyn Connect>,
    known: Mutex<Known>,
    /// Nothing stands for this one.
    ring: ArcSwap<Ring<Option<Arc<Peer>>>>,
    members: Gauge,
}

#[derive(Default)]
struct Known {
    pods: BTreeMap<String, (PeerFacts, Arc<Peer>)>,
    /// Whether this one takes no new requests.
    leaving: bool,
}

/// What is needed of an activator's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PeerFacts {
    name: String,
    uid: String,
    /// Nothing until it has one.
    address: Option<SocketAddr>,
    /// Whether it is ready, and not about to go.
    serves: bool,
}

/// Another activator.
pub(crate) struct Peer {
    /// For requests to revisions that speak HTTP/1.1: upgrades need it.
    h1: Arc<Upstream>,
    /// For those that speak HTTP/2: an HTTP/1.1 hop would lose trailers.
    h2: Arc<Upstream>,
    places: Arc<Semaphore>,
    /// Until when it is passed over, after it could not be reached.
    shunned: Mutex<Option<Instant>>,
}

// === impl Peers ===

impl Peers {
    /// Nobody is known yet. `own` is the name of this activator's pod.
    pub(crate) fn new(
        options: PeerOptions,
        own: String,
        connect: Arc<dyn Connect>,
        members: Gauge,
    ) -> Self {
        let connect = Arc::new(Introduced { connect, shown: options.shown.clone() });
        Self { options, own, connect, known: Mutex::default(), ring: ArcSwap::default(), members }
    }

    /// Where and how to find the pods.
    pub(crate) const fn options(&self) -> &PeerOptions {
        &self.options
    }

    /// Takes a change of the activators' pods.
    pub(crate) fn change(&self, change: WatchChange<Pod>) {
        let Some(change) = change.filter_map(|pod| PeerFacts::of(&pod, self.options.port)) else {
            return;
        };
        let mut known = self.known.lock();
        match change {
            WatchChange::Applied(facts) => self.observe(&mut known.pods, facts),
            WatchChange::Deleted(facts) => {
                known.pods.remove(&facts.name);
            }
            WatchChange::Replaced(all) => {
                known.pods.retain(|name, _| all.iter().any(|facts| facts.name == *name));
                for facts in all {
                    self.observe(&mut known.pods, facts);
                }
                if !known.pods.contains_key(&self.own) {
                    tracing::warn!(pod = self.own, "This activator's own pod is not found");
                }
            }
        }
        self.rebuild(&known);
    }

    /// This one takes no new requests from now on: what still comes belongs to the others, even
    /// if the API does not say so yet.
    pub(crate) fn leave(&self) {
        let mut known = self.known.lock();
        known.leaving = true;
        self.rebuild(&known);
    }

    /// Those that should serve a request for the revision at `point` rather than this one, in the
    /// order in which to try them; none when it is this one's.
    pub(crate) fn before_us(&self, point: Point, now: Instant) -> Vec<Arc<Peer>> {
        let ring = self.ring.load();
        // The usual cases first, for they need no list.
        match ring.owner(point) {
            None | Some(None) => Vec::new(),
            Some(Some(_)) => ring
                .order(point)
                .into_iter()
                .map_while(Option::as_ref)
                .filter(|peer| peer.may_be_tried(now))
                .take(ATTEMPTS_MAX)
                .cloned()
                .collect(),
        }
    }

    /// Closes connections that were not used for long.
    pub(crate) fn expire(&self, now: Instant) {
        for (_, peer) in self.known.lock().pods.values() {
            peer.h1.expire(now);
            peer.h2.expire(now);
        }
    }

    fn observe(&self, pods: &mut BTreeMap<String, (PeerFacts, Arc<Peer>)>, facts: PeerFacts) {
        let before = pods.remove(&facts.name);
        let Some(address) = facts.address else {
            return;
        };
        let peer = match before {
            Some((before, peer)) if before.is_at_the_same_place(&facts) => peer,
            _ => Arc::new(Peer::new(address, &self.connect)),
        };
        pods.insert(facts.name.clone(), (facts, peer));
    }

    fn rebuild(&self, known: &Known) {
        let serving = known.pods.values().filter(|(facts, _)| facts.serves);
        let ring = Ring::new(serving.filter_map(|(facts, peer)| {
            let own = facts.name == self.own;
            let place = if own { None } else { Some(Arc::clone(peer)) };
            (!own || !known.leaving).then(|| (facts.name.clone(), place))
        }));
        self.members.set(i64::try_from(ring.len()).unwrap_or(i64::MAX));
        self.ring.store(Arc::new(ring));
    }
}

// === impl Peer ===

impl Peer {
    fn new(address: SocketAddr, connect: &Arc<dyn Connect>) -> Self {
        let upstream = |protocol| Arc::new(Upstream::new(address, protocol, Arc::clone(connect)));
        Self {
            h1: upstream(Protocol::Http1),
            h2: upstream(Protocol::H2c),
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
            shunned: Mutex::default(),
        }
    }

    /// The connections for requests to pods that speak `protocol`.
    pub(crate) const fn upstream(&self, protocol: Protocol) -> &Arc<Upstream> {
        match protocol {
            Protocol::Http1 => &self.h1,
            Protocol::H2c => &self.h2,
        }
    }

    /// A place for a request, to be held until its response has ended; none when
    /// [`REQUESTS_MAX`] are there.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// It could not be reached.
    pub(crate) fn unreachable(&self, now: Instant) {
        *self.shunned.lock() = Some(now + SHUN);
    }

    /// It was reached.
    pub(crate) fn reached(&self) {
        *self.shunned.lock() = None;
    }

    /// True for everybody while it was reached last, and else for one request in each [`SHUN`].
    fn may_be_tried(&self, now: Instant) -> bool {
        let mut shunned = self.shunned.lock();
        match *shunned {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                *shunned = Some(now + SHUN);
                true
            }
        }
    }
}

// === impl PeerFacts ===

impl PeerFacts {
    fn of(pod: &Pod, port: u16) -> Option<Self> {
        let (meta, status) = (&pod.metadata, pod.status.as_ref());
        let address: Option<IpAddr> = status.and_then(|s| s.pod_ip.as_deref()?.parse().ok());
        let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice());
        let named = containers
            .unwrap_or_default()
            .iter()
            .flat_map(|container| container.ports.iter().flatten())
            .find(|port| port.name.as_deref() == Some(PORT_NAME))
            .and_then(|port| u16::try_from(port.container_port).ok());
        Some(Self {
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            address: address.map(|ip| SocketAddr::new(ip, named.unwrap_or(port))),
            serves: ebb_api::pod::is_ready(pod) && meta.deletion_timestamp.is_none(),
        })
    }

    /// Whether connections to the one lead to the other.
    fn is_at_the_same_place(&self, other: &Self) -> bool {
        self.uid == other.uid && self.address == other.address
    }
}

#[cfg(test)]
mod tests;
