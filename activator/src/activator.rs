//! The activator as a whole: what the binaries start and the tests drive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::config::Config;
use ebb_api::report::{DrainOrder, Report};
use ebb_api::serving::{Revision, Route};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::connect::Connect;
use crate::directory::{Change, Directory};
use crate::meters::Meters;
use crate::observer::{Observer, ReportSink};
use crate::proxy::Proxy;
use crate::revision::{Context, RevisionStatus};
use crate::route::RouteFacts;
use crate::server::{self, Limits, Server};
use crate::synced::Synced;
use crate::tunnel::Tunnels;

/// Pause between two reports, as in Knative (`pkg/activator/concurrency_reporter.go`).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What an activator needs.
pub struct ActivatorOptions {
    /// The API server.
    pub client: Client,
    /// The settings of the platform.
    pub config: watch::Receiver<Arc<Config>>,
    /// Takes the reports.
    pub reports: Arc<dyn ReportSink>,
    /// Is told of events; `Arc::new(())` when nobody listens.
    pub observer: Arc<dyn Observer>,
    /// Name of this activator, different from that of any other.
    pub id: String,
    /// Makes connections to pods.
    pub connect: Arc<dyn Connect>,
    /// Limits.
    pub limits: Limits,
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
    context: Arc<Context>,
    directory: Arc<Directory>,
    server: Arc<Server>,
    synced: Synced,
}

// === impl Activator ===

impl Activator {
    /// An activator that knows nothing yet; its metrics are registered.
    pub fn new(options: ActivatorOptions, registry: &mut Registry) -> Self {
        let ActivatorOptions { client, config, reports, observer, id, connect, limits } = options;
        let context = Arc::new(Context {
            id,
            reports,
            observer,
            connect,
            queue: limits.queue,
            meters: Meters::new(registry),
        });
        let domain = config.borrow().network.cluster_domain.clone();
        let directory = Arc::new(Directory::new(Arc::clone(&context), domain));
        let server = Arc::new(Server::new(Arc::new(Proxy {
            directory: Arc::clone(&directory),
            context: Arc::clone(&context),
            tunnels: Tunnels::default(),
        })));
        let synced = Synced::default();
        let inner = Inner { client, config, limits, context, directory, server, synced };
        Self { inner: Arc::new(inner) }
    }

    /// Watches and reports until `shutdown`. Requests are served all the while, and after: an
    /// activator that drains still reports.
    pub async fn run(&self, shutdown: CancellationToken) {
        let inner = &self.inner;
        let work = async {
            futures::join!(
                crate::watch::run(inner.client.clone(), &inner.directory, &inner.synced),
                self.report_for_ever(),
                self.follow_config(),
            )
        };
        tokio::select! {
            _ = work => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Serves clients until `shutdown`, then lets what is in flight end within
    /// [`Limits::drain`]. HTTP/1 and, by prior knowledge, HTTP/2.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let server = Arc::clone(&self.inner.server);
        server::serve(server, listener, self.inner.limits, shutdown).await;
    }

    /// Serves one connection of a client to its end; for listeners of another kind.
    pub async fn serve_connection<I>(&self, io: I, peer: SocketAddr)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (_keep, stop) = oneshot::channel();
        self.inner.server.connection(io, peer.ip(), stop).await;
    }

    /// Obeys an order: the pods that it names get nothing more, all others of the revision are
    /// taken back. Answered by a report at once.
    pub fn drain(&self, order: &DrainOrder) {
        if let Some(revision) = self.inner.directory.revision(&order.revision) {
            revision.drain(&order.pods, Instant::now());
            let report = revision.report_now();
            self.send(vec![report]);
        }
    }

    /// How all revisions stand, sorted by name.
    pub fn snapshot(&self) -> Vec<RevisionStatus> {
        let revisions = self.inner.directory.revisions();
        let mut all: Vec<_> = revisions.iter().map(|revision| revision.status()).collect();
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

    /// Takes changes of Routes, as the watch does.
    pub fn change_routes(&self, changes: impl IntoIterator<Item = Change<Route>>) {
        let changes = changes
            .into_iter()
            .filter_map(|change| change.filter_map(|route| RouteFacts::of(&route)));
        self.inner.directory.change_routes(changes);
    }

    /// Takes a change of Revisions, as the watch does.
    pub fn change_revisions(&self, change: Change<Revision>) {
        self.inner.directory.change_revisions(change);
    }

    /// Takes a change of Pods, as the watch does.
    pub fn change_pods(&self, change: Change<Pod>) {
        self.inner.directory.change_pods(change);
    }

    /// One report of the time since the last, as [`Activator::run`] makes each second.
    pub fn report(&self) {
        let now = Instant::now();
        let revisions = self.inner.directory.revisions();
        let reports: Vec<_> = revisions.iter().filter_map(|revision| revision.tick(now)).collect();
        drop(revisions);
        // An empty report says that this activator lives and has nothing in flight anywhere.
        self.send(reports);
        self.inner.directory.sweep();
    }

    async fn report_for_ever(&self) {
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.report();
        }
    }

    async fn follow_config(&self) {
        let mut config = self.inner.config.clone();
        while config.changed().await.is_ok() {
            let domain = config.borrow_and_update().network.cluster_domain.clone();
            self.inner.directory.change_cluster_domain(&domain);
        }
    }

    fn send(&self, revisions: Vec<ebb_api::report::RevisionReport>) {
        let context = &self.inner.context;
        context.reports.report(Report { activator: context.id.clone(), revisions });
    }
}
