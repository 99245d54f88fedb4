//! The activator as a whole: what the binaries start and the tests drive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::config::{Config, SYSTEM_NAMESPACE};
use ebb_api::report::{DrainOrder, Report, RevisionReport, Scope};
use ebb_api::serving::{Revision, Route};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::connect::{Accept, Connect};
use crate::directory::{Directory, WatchChange};
use crate::epochs::Epochs;
use crate::limits::Limits;
use crate::meters::Meters;
use crate::observer::{Observer, ReportSink};
use crate::peers::{PeerOptions, Peers};
use crate::places::Places;
use crate::proxy::Proxy;
use crate::revision::{RevisionContext, RevisionStanding};
use crate::route::{Door, RouteFacts};
use crate::server::{self, Audience, Server};
use crate::standstill::{CautiousConnect, Standstill};
use crate::synced::Synced;
use crate::tunnel::Tunnels;
use crate::wake::Waker;

/// Pause between two reports, as in Knative (`pkg/activator/concurrency_reporter.go`).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// One place in so many is for the inner door alone: a client that takes every place open to the
/// internet must not keep the services of a cluster from each other.
const INNER_PART: usize = 8;

/// What an activator needs.
pub struct ActivatorOptions {
    /// The API server.
    pub client: Client,
    /// The settings of the platform.
    pub config: watch::Receiver<Arc<Config>>,
    /// Takes the reports.
    pub reports: Arc<dyn ReportSink>,
    /// Receives events; `Arc::new(())` ignores them.
    pub observer: Arc<dyn Observer>,
    /// Name of this activator, different from that of any other.
    pub id: String,
    /// Makes connections to pods.
    pub connect: Arc<dyn Connect>,
    /// Limits.
    pub limits: Limits,
    /// How to find the other activators; `None` where there are none. Of several activators that do
    /// not know each other, each applies concurrency limits on its own. [`ActivatorOptions::id`]
    /// must be the name of this activator's pod.
    pub peers: Option<PeerOptions>,
}

/// The data plane. Clones are the same activator.
#[derive(Clone)]
pub struct Activator {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    config: watch::Receiver<Arc<Config>>,
    limits: Limits,
    context: Arc<RevisionContext>,
    directory: Arc<Directory>,
    outside: Arc<Server>,
    inside: Arc<Server>,
    /// `None` where this activator is the only one.
    peer_server: Option<Arc<Server>>,
    peers: Option<Arc<Peers>>,
    synced: Synced,
    standstill: Arc<Standstill>,
    epochs: Epochs,
    waker: Waker,
}

// === impl Activator ===

impl Activator {
    /// An activator that knows nothing yet; its metrics are registered.
    pub fn new(options: ActivatorOptions, registry: &mut Registry) -> Self {
        let ActivatorOptions { client, config, reports, observer, id, connect, limits, peers } =
            options;
        let standstill = Arc::<Standstill>::default();
        // Activators show each other who they are; pods do not.
        let to_peers = Arc::clone(&connect);
        let connect = CautiousConnect { inner: connect, standstill: Arc::clone(&standstill) };
        let context = Arc::new(RevisionContext {
            config: config.clone(),
            id,
            reports,
            observer,
            connect: Arc::new(connect),
            queue: limits.queue,
            meters: Meters::new(registry),
        });
        let peers = peers.map(|options| {
            Arc::new(Peers::new(options, context.id.clone(), to_peers, context.meters.members()))
        });
        let system = peers.as_ref().map_or(SYSTEM_NAMESPACE, |peers| &peers.options().namespace);
        let network = &config.borrow().network.clone();
        let directory = Directory::new(Arc::clone(&context), network, system.to_owned());
        let directory = Arc::new(directory);
        let proxy = Arc::new(Proxy {
            directory: Arc::clone(&directory),
            context: Arc::clone(&context),
            tunnels: Tunnels::new(Places::new(limits.tunnels, None, context.meters.tunnels())),
            held: Budget::new(limits.held_bytes, context.meters.held_bytes()),
            unnamed: Arc::default(),
            reading: Arc::new(Semaphore::new(1)),
            peers: peers.clone(),
        });
        let waker = Waker::new(client.clone(), config.clone(), registry);
        let (outside, inside, peer_server) = servers(&proxy, &limits);
        let inner = Inner {
            client,
            config,
            limits,
            context,
            directory,
            outside,
            inside,
            peer_server,
            synced: Synced::new(peers.is_some()),
            standstill,
            epochs: Epochs::new(registry),
            waker,
            peers,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Watches and reports until `shutdown`. Requests are served independently of it, so that an
    /// activator that drains can still report.
    pub async fn run(&self, shutdown: CancellationToken) {
        let inner = &self.inner;
        // A standstill is no matter once nobody watches.
        let _watching = inner.standstill.until_dropped();
        let client = inner.client.clone();
        let upkeep = async {
            futures::join!(
                crate::watch::run_network(&inner.directory, inner.config.clone()),
                self.follow_keys(),
                inner.waker.run(&inner.directory, &*inner.context.reports),
            );
            std::future::pending::<()>().await;
        };
        // The watches and the reports end only by a bug, and the owner of this future must see that
        // at once. The rest may end: settings that no longer change, an autoscaler in this process.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = crate::watch::run(client, &inner.directory, &inner.synced, &inner.standstill) => {}
            () = self.watch_peers() => {}
            () = self.report_for_ever() => {}
            () = upkeep => {}
        }
    }

    /// Serves clients at one door until `shutdown`, then lets requests in flight end within
    /// [`Limits::drain`]. HTTP/1 and, by prior knowledge, HTTP/2.
    pub async fn serve(&self, listener: impl Accept, door: Door, shutdown: CancellationToken) {
        let server = Arc::clone(self.server(door));
        server::serve(server, listener, self.inner.limits, shutdown).await;
    }

    /// Serves other activators until `shutdown`, then lets requests in flight end, as
    /// [`Activator::serve`] does. From then on this activator forwards to them the requests that it
    /// still gets for revisions with a concurrency limit.
    ///
    /// The requests of a connection are trusted once [`PeerOptions::doorkeeper`] has let it in.
    /// Does nothing without [`ActivatorOptions::peers`].
    pub async fn serve_peers(&self, listener: impl Accept, shutdown: CancellationToken) {
        let Some(server) = self.inner.peer_server.clone() else {
            return;
        };
        let leaving = async {
            shutdown.cancelled().await;
            if let Some(peers) = &self.inner.peers {
                peers.leave();
            }
        };
        let serving = server::serve(server, listener, self.inner.limits, shutdown.clone());
        futures::join!(leaving, serving);
    }

    /// Serves one connection of another activator to its end, as [`Activator::serve_peers`] does.
    pub async fn serve_peer_connection<I>(&self, io: I, peer: SocketAddr)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (_keep, stop) = oneshot::channel();
        if let Some(server) = &self.inner.peer_server {
            server.connection(io, peer.ip(), server.admit(peer.ip()), stop).await;
        }
    }

    /// Serves one connection of a client to its end; for listeners of another kind.
    pub async fn serve_connection<I>(&self, io: I, door: Door, peer: SocketAddr)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (_keep, stop) = oneshot::channel();
        let server = self.server(door);
        server.connection(io, peer.ip(), server.admit(peer.ip()), stop).await;
    }

    /// The revisions that are known.
    #[cfg(test)]
    pub(crate) fn revisions(&self) -> Vec<Arc<crate::revision::Revision>> {
        self.inner.directory.revisions()
    }

    /// Obeys an order: the pods that it names get no more requests, even if they are not known yet,
    /// and all other pods of the revision are used again. A report answers it at once. An order of
    /// a deposed leader is ignored, and so is an order for a revision that there is no room for.
    pub fn drain(&self, order: &DrainOrder) {
        let now = Instant::now();
        if !self.inner.epochs.admit(order.id.epoch, now) {
            return;
        }
        let Some(revision) = self.inner.directory.ordered(&order.revision) else {
            self.inner.epochs.no_room();
            return;
        };
        revision.drain(order, now);
        self.send(Scope::Moment, vec![revision.report_now()]);
    }

    /// How all revisions stand, sorted by name.
    pub fn snapshot(&self) -> Vec<RevisionStanding> {
        let revisions = self.inner.directory.revisions();
        let mut all: Vec<_> = revisions.iter().map(|revision| revision.standing()).collect();
        all.sort_by(|a, b| a.revision.cmp(&b.revision));
        all
    }

    /// Whether all objects have been seen once; before that, no client should be sent here.
    pub fn is_synced(&self) -> bool {
        self.inner.synced.is_done()
    }

    /// Returns once all objects have been seen.
    pub async fn synced(&self) {
        self.inner.synced.done().await;
    }

    /// Returns once the other activators have been seen; at once where there are none to see.
    pub async fn peers_synced(&self) {
        self.inner.synced.peers_done().await;
    }

    /// Takes changes of Routes, as the watch does.
    pub fn change_routes(&self, changes: impl IntoIterator<Item = WatchChange<Route>>) {
        let changes = changes
            .into_iter()
            .filter_map(|change| change.filter_map(|route| RouteFacts::of(&route)));
        self.inner.directory.change_routes(changes);
    }

    /// Takes a change of Revisions, as the watch does.
    pub fn change_revisions(&self, change: WatchChange<Revision>) {
        self.inner.directory.change_revisions(change);
    }

    /// Takes a change of Pods, as the watch does.
    pub fn change_pods(&self, change: WatchChange<Pod>) {
        self.inner.directory.change_pods(change);
    }

    /// Takes a change of the activators' Pods, as the watch does; does nothing without
    /// [`ActivatorOptions::peers`].
    pub fn change_peers(&self, change: WatchChange<Pod>) {
        if let Some(peers) = &self.inner.peers {
            peers.change(change);
        }
    }

    /// One report of the time since the last, as [`Activator::run`] makes each second.
    pub fn report(&self) {
        let now = Instant::now();
        let revisions = self.inner.directory.active_revisions();
        let reports: Vec<_> = revisions.iter().filter_map(|revision| revision.tick(now)).collect();
        drop(revisions);
        // An empty report says that this activator lives and has nothing in flight anywhere.
        self.send(Scope::Full, reports);
        self.tell_again();
        self.inner.directory.sweep(now);
        if let Some(peers) = &self.inner.peers {
            peers.expire(now);
        }
    }

    /// Sends again what was reported at once while the report of an interval was being made: it is
    /// newer than that report, which replaces everything sent before it.
    fn tell_again(&self) {
        let revisions = self.inner.directory.active_revisions();
        let told: Vec<_> =
            revisions.iter().filter_map(|revision| revision.told_since_tick()).collect();
        if !told.is_empty() {
            self.send(Scope::Moment, told);
        }
    }

    /// Reports at once the revisions whose requests wait for a pod.
    pub fn report_waiting(&self) {
        let revisions = self.inner.directory.active_revisions();
        let reports = revisions.iter().map(|revision| revision.report_now());
        let waiting: Vec<_> = reports.filter(|report| report.queued > 0).collect();
        if !waiting.is_empty() {
            self.send(Scope::Moment, waiting);
        }
    }

    /// All that is known.
    pub(crate) fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// Whether this activator stood still, for tests.
    #[cfg(test)]
    pub(crate) fn standstill(&self) -> &Standstill {
        &self.inner.standstill
    }

    fn server(&self, door: Door) -> &Arc<Server> {
        match door {
            Door::Outer => &self.inner.outside,
            Door::Inner => &self.inner.inside,
        }
    }

    async fn watch_peers(&self) {
        match &self.inner.peers {
            Some(peers) => {
                let client = self.inner.client.clone();
                crate::watch::run_peers(client, peers, &self.inner.synced).await;
            }
            None => std::future::pending().await,
        }
    }

    async fn report_for_ever(&self) {
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.inner.standstill.beat(Instant::now());
            self.report();
        }
    }

    async fn follow_keys(&self) {
        let Inner { client, directory, config, .. } = &*self.inner;
        let system = directory.system();
        crate::watch::run_keys(client.clone(), system, directory, config.clone()).await;
    }

    fn send(&self, scope: Scope, revisions: Vec<RevisionReport>) {
        let context = &self.inner.context;
        context.reports.report(Report { activator: context.id.clone(), scope, revisions });
    }
}

/// The servers of the outer and the inner door, whose places are counted together, and the server
/// for peers, if there are any.
fn servers(proxy: &Arc<Proxy>, limits: &Limits) -> (Arc<Server>, Arc<Server>, Option<Arc<Server>>) {
    let taken = proxy.context.meters.connections();
    let places = |most| Places::new(most, limits.connections_per_address, taken.clone());
    let outer_places = places(limits.connections - limits.connections / INNER_PART);
    let inner_places = places(limits.connections);
    // Clients that take all places must not keep the other activators out. The connections of
    // activators are counted apart, up to the same limit; each activator opens a few for each
    // revision that it forwards.
    let peer_places = Places::new(limits.connections, None, Gauge::default());
    let server = |audience, places: &Arc<Places>| {
        Arc::new(Server::new(Arc::clone(proxy), audience, Arc::clone(places)))
    };
    let for_peers = |peers: &Arc<Peers>| {
        server(Audience::Peers(peers.options().doorkeeper.clone()), &peer_places)
    };
    (
        server(Audience::Clients(Door::Outer), &outer_places),
        server(Audience::Clients(Door::Inner), &inner_places),
        proxy.peers.as_ref().map(for_peers),
    )
}
