//! The processes of Ebb, put together as the daemons put themselves together, on the simulated
//! network.

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ebb_activator::route::Door;
use ebb_activator::streams::ReportStreams;
use ebb_activator::{Activator, ActivatorOptions, Limits, PeerOptions};
use ebb_api::config::{Config, SYSTEM_NAMESPACE};
use ebb_api::labels;
use ebb_autoscaler::streams::{self, Listener, Streams};
use ebb_autoscaler::{Autoscaler, AutoscalerOptions, Roster, SizeReader};
use ebb_controller::{Controller, ControllerOptions};
use ebb_daemon::identity::{Doorkeeper, Shown};
use ebb_daemon::lease::{self, LeaseOptions, Terms};
use ebb_daemon::settings;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::{SetOnce, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gate::Tasks;
use crate::network::{Name, Network};

/// Where clients in the cluster find an activator.
pub(crate) const INNER_PORT: u16 = 8081;
pub(crate) const OUTER_PORT: u16 = 8080;
const PEERS_PORT: u16 = 8082;
const REPORTS_PORT: u16 = 8080;
/// The name under which activators find the autoscalers.
pub(crate) const AUTOSCALERS: &str = "ebb-autoscaler:8080";
/// Seconds that a lease lasts, as the daemons have it.
const LEASE_S: u64 = 12;
/// How long an activator lets requests end. The chart gives 300 s; the simulated ones are shorter.
pub(crate) const DRAIN: Duration = Duration::from_mins(1);
/// As on a cluster.
const UNHEARD_NOTICE: Duration = Duration::from_mins(10);

/// What kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Activator,
    Autoscaler,
    Controller,
}

/// What a process is started with.
pub(crate) struct Start {
    pub(crate) network: Network,
    pub(crate) name: Name,
    pub(crate) address: IpAddr,
    pub(crate) client: Client,
    /// Fires when the process is asked to end.
    pub(crate) shutdown: CancellationToken,
}

/// What can be seen of a process that runs.
pub(crate) struct Seen {
    /// Set for an activator.
    pub(crate) activator: Option<Activator>,
    /// Set for an autoscaler.
    pub(crate) sizes: Option<SizeReader>,
    /// Says once that the process is ready.
    pub(crate) ready: oneshot::Receiver<()>,
    /// Says how the process ended: in order, or with this fault.
    pub(crate) ended: oneshot::Receiver<Result<Ending, String>>,
    /// Its metrics.
    pub(crate) metrics: Arc<Registry>,
}

/// Why a process has ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was asked to.
    Asked,
    /// It no longer leads.
    Unelected,
}

/// Starts a process; its tasks go to `tasks`.
pub(crate) fn start(part: Part, start: Start, tasks: &Tasks) -> Seen {
    let (publish, config) = watch::channel(Arc::new(Config::default()));
    let listed = Arc::new(SetOnce::new());
    let publish = settings::Publisher { config: publish, listed: Arc::clone(&listed) };
    let never = CancellationToken::new();
    tasks.spawn(settings::follow(start.client.clone(), Config::default(), publish, never));
    let (say_ready, ready) = oneshot::channel();
    let (say_ended, ended) = oneshot::channel();
    let known = async move {
        listed.wait().await;
    };
    let (mut activator, mut sizes, mut registry) = (None, None, Registry::default());
    match part {
        Part::Activator => {
            let (made, work) = self::activator(start, config, known, say_ready, &mut registry);
            activator = Some(made);
            tasks.spawn(async move { drop(say_ended.send(work.await)) });
        }
        Part::Autoscaler => {
            let (reader, work) = autoscaler(start, config, known, say_ready, &mut registry);
            sizes = Some(reader);
            let work = Box::pin(work);
            tasks.spawn(async move { drop(say_ended.send(work.await)) });
        }
        Part::Controller => {
            let work = Box::pin(controller(start, config, known, say_ready, &mut registry));
            tasks.spawn(async move { drop(say_ended.send(work.await)) });
        }
    }
    Seen { activator, sizes, ready, ended, metrics: Arc::new(registry) }
}

type Settings = watch::Receiver<Arc<Config>>;

/// As `ebb-activator`'s main.
fn activator<F: Future<Output = ()> + Send + 'static>(
    start: Start,
    config: Settings,
    known: F,
    say_ready: oneshot::Sender<()>,
    registry: &mut Registry,
) -> (Activator, impl Future<Output = Result<Ending, String>> + Send + use<F>) {
    let Start { network, name, address, client, shutdown } = start;
    let bind = |port| network.bind(&name, SocketAddr::new(address, port));
    let (outer, inner, peers) = (bind(OUTER_PORT), bind(INNER_PORT), bind(PEERS_PORT));
    let dialer = network.dialer(&name, address);
    let streams = ReportStreams::new(&name, dialer.clone(), Shown::nothing(), registry);
    let options = ActivatorOptions {
        client,
        config,
        reports: Arc::new(streams.clone()),
        observer: Arc::new(()),
        id: name.to_string(),
        connect: dialer,
        limits: Limits { drain: DRAIN, ..Limits::default() },
        peers: Some(PeerOptions {
            namespace: SYSTEM_NAMESPACE.to_owned(),
            selector: labels::ACTIVATORS.to_owned(),
            port: PEERS_PORT,
            shown: Shown::nothing(),
            doorkeeper: Doorkeeper::open(),
        }),
    };
    let activator = Activator::new(options, registry);
    let made = activator.clone();
    let work = async move {
        known.await;
        let served = CancellationToken::new();
        let (watching, end) = (activator.clone(), served.clone());
        let watching = async move { Box::pin(watching.run(end)).await };
        let (reporting, end) = (activator.clone(), served.clone());
        let reporting = async move { streams.run(reporting, &[AUTOSCALERS.to_owned()], end).await };
        let serving = async {
            let synced = async {
                activator.peers_synced().await;
                activator.synced().await;
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = synced => {}
            }
            let _unheard = say_ready.send(());
            futures::join!(
                activator.serve(outer, Door::Outer, shutdown.clone()),
                activator.serve(inner, Door::Inner, shutdown.clone()),
                activator.serve_peers(peers, shutdown.clone()),
            );
        };
        tokio::select! {
            biased;
            () = serving => Ok(Ending::Asked),
            () = watching => Err("the watches ended".to_owned()),
            () = reporting => Err("the report streams ended".to_owned()),
        }
    };
    (made, work)
}

/// As `ebb-autoscaler`'s main.
fn autoscaler<F: Future<Output = ()> + Send + 'static>(
    start: Start,
    config: Settings,
    known: F,
    say_ready: oneshot::Sender<()>,
    registry: &mut Registry,
) -> (SizeReader, impl Future<Output = Result<Ending, String>> + Send + use<F>) {
    let Start { network, name, address, client, shutdown } = start;
    let mut arrivals = network.bind(&name, SocketAddr::new(address, REPORTS_PORT));
    let streams = Streams::default();
    let leaving = CancellationToken::new();
    let (publish, leads) = watch::channel(None);
    let options = AutoscalerOptions {
        client: client.clone(),
        config,
        activators: Roster::Pods {
            namespace: SYSTEM_NAMESPACE.to_owned(),
            selector: labels::ACTIVATORS.to_owned(),
        },
        drains: Arc::new(streams.clone()),
        unheard_notice: UNHEARD_NOTICE,
        leads,
    };
    let (mut autoscaler, intake) = Autoscaler::new(options, registry);
    let sizes = autoscaler.size_reader();
    let reports = streams::router(intake, streams, Doorkeeper::open());
    let reports = Listener::new(reports, registry);
    let listening = async move {
        let mut connections = JoinSet::new();
        loop {
            use ebb_activator::Accept as _;
            if let Ok((pipe, peer)) = arrivals.accept().await {
                let reports = reports.clone();
                connections.spawn(async move { reports.serve_connection(pipe, peer).await });
            }
        }
    };
    let campaign =
        lease::campaign(client, lease_of("ebb-autoscaler", &name), publish, leaving.clone());
    let working = async move {
        autoscaler.run(shutdown).await;
        leaving.cancel();
        pending::<()>().await;
    };
    let work = async move {
        known.await;
        let _unheard = say_ready.send(());
        tokio::select! {
            () = listening => {}
            () = working => {}
            () = campaign => {}
        }
        Ok(Ending::Asked)
    };
    (sizes, work)
}

/// As `ebb-controller`'s main, without the webhook: the simulated API server has the same rules.
fn controller<F: Future<Output = ()> + Send + 'static>(
    start: Start,
    config: Settings,
    known: F,
    say_ready: oneshot::Sender<()>,
    registry: &mut Registry,
) -> impl Future<Output = Result<Ending, String>> + Send + use<F> {
    let Start { name, client, shutdown, .. } = start;
    let options = ControllerOptions {
        client: client.clone(),
        config,
        gateway_host: None,
        model_fetcher: None,
    };
    let controller = Controller::new(options, registry);
    let leaving = CancellationToken::new();
    let (publish, mut leads) = watch::channel(None);
    let campaign =
        lease::campaign(client, lease_of("ebb-controller", &name), publish, leaving.clone());
    let acting = async move {
        let is_elected = tokio::select! {
            () = shutdown.cancelled() => false,
            _ = leads.wait_for(Option::is_some) => true,
        };
        if is_elected {
            tokio::select! {
                outcome = controller.run(shutdown.clone()) => outcome.map_err(|error| error.to_string())?,
                // The process ends, and is started again.
                _ = leads.wait_for(Option::is_none) => return Ok(Ending::Unelected),
            }
        }
        leaving.cancel();
        pending::<Result<Ending, String>>().await
    };
    async move {
        known.await;
        let _unheard = say_ready.send(());
        tokio::select! {
            outcome = acting => outcome,
            () = campaign => Ok(Ending::Asked),
        }
    }
}

fn lease_of(lease: &str, name: &Name) -> LeaseOptions {
    LeaseOptions {
        namespace: SYSTEM_NAMESPACE.to_owned(),
        name: lease.to_owned(),
        identity: name.to_string(),
        terms: Terms::of(LEASE_S),
    }
}
