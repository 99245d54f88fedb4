//! The other activators: who they are, and the connections to them.
//!
//! A revision with a concurrency limit has one owner among the activators ([`crate::ring`]), which
//! holds its queue and gives out its slots; the others send it their requests. So a limit holds
//! for all of them together, and no request waits at one while another knows of an idle pod.
//!
//! Members are the activators whose pods in the API are ready, not terminating, and have an
//! address; this activator is judged like any other. Activators that see the same pods agree. There
//! is no vote, so at times two take themselves for the owner and a pod may get more than its limit,
//! at most the limit from each: until both have seen a change of the members, and until the
//! requests that the earlier owner had taken have ended. A peer that some can reach and others
//! cannot has the same effect for as long as that lasts, and until one of the requests that come
//! afterwards has found out that it is over: one in each `SHUN`, by a new connection. Waiting for
//! agreement instead would hold requests whenever an activator dies.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
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
use crate::upload::KEPT_AT_ONCE;
use crate::upstream::Upstream;

/// Most peers that are tried for one request before it is served here: the owner, and the next in
/// order in case the owner has died. Each may cost a connection timeout.
const ATTEMPTS_MAX: usize = 2;
/// Requests at one peer at once. An HTTP/1.1 request holds a connection, and there are 28,232 ports
/// for connections to one address (Linux's default range).
const REQUESTS_MAX: usize = 20_000;
/// How long a peer that could not be reached is passed over: otherwise each request for a lost node
/// would wait for the connection timeout until Kubernetes notices, which takes 40 s.
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
    /// Port on which a pod serves the others, if it has no port of the name [`PORT_NAME`].
    pub port: u16,
    /// The token, if any, that this activator shows when it connects to another.
    pub shown: Shown,
    /// Lets in other activators that connect to this one.
    pub doorkeeper: Doorkeeper,
}

/// All activators that are known.
pub(crate) struct Peers {
    options: PeerOptions,
    /// Name of this activator's pod.
    own: String,
    connect: Arc<dyn Connect>,
    known: Mutex<Known>,
    /// `None` stands for this activator.
    ring: ArcSwap<Ring<Option<Arc<Peer>>>>,
    members: Gauge,
    /// For bodies whose beginnings are kept.
    kept: Arc<Semaphore>,
}

#[derive(Default)]
struct Known {
    pods: BTreeMap<String, (PeerFacts, Arc<Peer>)>,
    /// Whether this activator is shutting down, and so owns nothing.
    leaving: bool,
}

/// The facts of an activator's pod that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PeerFacts {
    name: String,
    uid: String,
    /// `None` until the pod has one.
    address: Option<SocketAddr>,
    /// Whether the pod is ready and not terminating.
    serves: bool,
}

/// Another activator.
pub(crate) struct Peer {
    /// For requests to revisions that speak HTTP/1.1: upgrades need it.
    h1: Arc<Upstream>,
    /// For requests to revisions that speak HTTP/2: an HTTP/1.1 hop would lose trailers.
    h2: Arc<Upstream>,
    places: Arc<Semaphore>,
    /// Set once it could not be reached.
    shunned: Mutex<Option<Shunned>>,
}

/// How long a peer is passed over.
struct Shunned {
    until: Instant,
    /// How many connections to it there had been when one could not be made.
    dialled: u64,
}

// === impl Peers ===

impl Peers {
    /// No activator is known yet. `own` is the name of this activator's pod.
    pub(crate) fn new(
        options: PeerOptions,
        own: String,
        connect: Arc<dyn Connect>,
        members: Gauge,
    ) -> Self {
        let kept = Arc::new(Semaphore::new(KEPT_AT_ONCE));
        let connect = Arc::new(Introduced { connect, shown: options.shown.clone() });
        Self {
            options,
            own,
            connect,
            known: Mutex::default(),
            ring: ArcSwap::default(),
            members,
            kept,
        }
    }

    /// A place for the beginning of a body; `None` when all are taken.
    pub(crate) fn kept_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.kept).try_acquire_owned().ok()
    }

    /// How many activators there are, as far as is known: at least this one.
    pub(crate) fn count(&self) -> NonZeroU32 {
        let members = u32::try_from(self.ring.load().len()).unwrap_or(u32::MAX);
        NonZeroU32::new(members).unwrap_or(NonZeroU32::MIN)
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

    /// This activator owns nothing from now on: requests that still come belong to the others, even
    /// if the API does not say so yet.
    pub(crate) fn leave(&self) {
        let mut known = self.known.lock();
        known.leaving = true;
        self.rebuild(&known);
    }

    /// The peers that should serve a request for the revision at `point` rather than this
    /// activator, in the order in which to try them; none when this activator owns it.
    pub(crate) fn before_us(&self, point: Point, now: Instant) -> Vec<Arc<Peer>> {
        let ring = self.ring.load();
        // The usual cases first, for they need no list.
        match ring.owner(point) {
            None | Some(None) => Vec::new(),
            Some(Some(_)) => {
                let mut chosen: Vec<Arc<Peer>> = Vec::new();
                for peer in ring.order(point).into_iter().map_while(Option::as_ref) {
                    // A request finds out about the first that it is sent to, and most often about
                    // none of the others.
                    let is_next =
                        if chosen.is_empty() { peer.may_be_tried(now) } else { peer.is_there(now) };
                    if is_next {
                        chosen.push(Arc::clone(peer));
                    }
                    if chosen.len() == ATTEMPTS_MAX {
                        break;
                    }
                }
                chosen
            }
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

    /// A place for a request, to be held until its response has ended; `None` when [`REQUESTS_MAX`]
    /// requests are there.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The peer could not be reached.
    pub(crate) fn unreachable(&self, now: Instant) {
        *self.shunned.lock() = Some(Shunned { until: now + SHUN, dialled: self.dialled() });
    }

    /// The peer has answered.
    pub(crate) fn reached(&self) {
        *self.shunned.lock() = None;
    }

    /// True for every request if the last attempt reached the peer or is long ago, and otherwise for
    /// one request in each [`SHUN`].
    fn may_be_tried(&self, now: Instant) -> bool {
        let mut shunned = self.shunned.lock();
        match &mut *shunned {
            None => true,
            Some(shun) if shun.is_over(self.dialled(), now) => {
                *shunned = None;
                true
            }
            Some(shun) if now < shun.until => false,
            Some(shun) => {
                shun.until = now + SHUN;
                true
            }
        }
    }

    /// Whether the last attempt reached the peer, or is long ago.
    fn is_there(&self, now: Instant) -> bool {
        let shunned = self.shunned.lock();
        shunned.as_ref().is_none_or(|shun| shun.is_over(self.dialled(), now))
    }

    /// How many connections to the peer were made.
    fn dialled(&self) -> u64 {
        self.h1.dialled() + self.h2.dialled()
    }
}

// === impl Shunned ===

impl Shunned {
    /// Whether the peer is to be tried by every request again; `dialled` is how many connections to it
    /// there have been by now.
    fn is_over(&self, dialled: u64, now: Instant) -> bool {
        // The request that found out may wait there for long: its connection is enough. And where
        // nobody has asked for so long, the peer is as likely back as not: were one request alone to
        // find out, those that come with it would be served here, beside the owner's.
        dialled != self.dialled || now >= self.until + SHUN
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

    /// Whether both are the same pod at the same address, so that its connections can be kept.
    fn is_at_the_same_place(&self, other: &Self) -> bool {
        self.uid == other.uid && self.address == other.address
    }
}

#[cfg(test)]
mod tests;
