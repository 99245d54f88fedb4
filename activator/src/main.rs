//! The activator as a process of its own.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use ebb_activator::route::Door;
use ebb_activator::streams::ReportStreams;
use ebb_activator::{Activator, ActivatorOptions, Limits, Machine, PeerOptions, TcpConnect};
use ebb_api::labels;
use ebb_daemon::identity::{self, Doorkeeper, Shown};
use ebb_daemon::listener;
use ebb_daemon::process::{self, Common, Process};
use tokio_util::sync::CancellationToken;

/// Why not the system's: see the workspace's Cargo.toml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The gateway: holds requests for sleeping revisions and forwards the rest.
#[derive(Parser, Debug)]
#[command(name = "ebb-activator", version, after_help = EXAMPLES)]
struct Options {
    /// Where requests from outside are taken, to the external hosts of Routes that are not
    /// cluster-local: HTTP/1.1, and HTTP/2 by prior knowledge
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Where requests from inside the cluster are taken, to all hosts. Only pods may be able to
    /// connect
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8081")]
    inner: SocketAddr,

    /// The autoscaler; all addresses of a host are told, and it may be repeated
    #[arg(long, value_name = "HOST:PORT", default_value = "ebb-autoscaler:8080")]
    autoscaler: Vec<String>,

    /// Where other activators are served: their requests to revisions with a concurrency limit that
    /// this one owns. Without it each activator applies such limits on its own
    #[arg(long, value_name = "ADDR")]
    peers: Option<SocketAddr>,

    /// Labels of the activators' pods, in the namespace that Ebb runs in; the port of one is its
    /// container port "peers", or else that of --peers
    #[arg(long, value_name = "SELECTOR", default_value = labels::ACTIVATORS)]
    peers_selector: String,

    /// Connections at once from one address at each door; without it there is no such limit,
    /// as is right where all clients come through a load balancer
    #[arg(long, value_name = "COUNT")]
    connections_per_address: Option<NonZeroUsize>,

    /// Seconds that requests in flight may take to end after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    drain: u64,

    /// File with the token that autoscalers and other activators ask for: of this pod's
    /// ServiceAccount, for the audience ebb.dev/internal. It is read again as it is renewed
    #[arg(long, value_name = "FILE", default_value = identity::TOKEN_FILE)]
    token: PathBuf,

    /// Show no token, and let every activator in: with --peers on loopback only
    #[arg(long, conflicts_with = "token")]
    no_authentication: bool,

    #[command(flatten)]
    common: Common,
}

const EXAMPLES: &str = "\
Example, on the cluster that KUBECONFIG names:
  ebb-activator --name $(hostname) --autoscaler 127.0.0.1:8091 --no-authentication --log-format text";

fn main() -> ExitCode {
    let options = Options::parse();
    let common = options.common.clone();
    process::main("ebb-activator", &common, |process| run(process, options))
}

async fn run(mut process: Process, options: Options) -> anyhow::Result<()> {
    let (shown, doorkeeper) = identity(&mut process, &options).await?;
    let connections_per_address = options.connections_per_address;
    let Options { listen, inner, autoscaler, peers, peers_selector, drain, common, .. } = options;
    let listener = listener::bind("--listen", listen)?;
    let inner_listener = listener::bind("--inner", inner)?;
    let peer_listener = match peers {
        Some(address) => Some(listener::bind("--peers", address)?),
        None => None,
    };
    let streams = ReportStreams::new(&common.name, shown.clone(), &mut process.registry);
    let options = ActivatorOptions {
        client: process.client.clone(),
        config: process.config.clone(),
        reports: Arc::new(streams.clone()),
        observer: Arc::new(()),
        id: process.name().to_owned(),
        connect: Arc::new(TcpConnect),
        limits: Limits {
            connections_per_address,
            drain: Duration::from_secs(drain),
            ..Machine::prepare().limits()
        },
        peers: peers.map(|address| PeerOptions {
            namespace: common.namespace,
            selector: peers_selector,
            port: address.port(),
            shown,
            doorkeeper,
        }),
    };
    let activator = Activator::new(options, &mut process.registry);
    let (routes, others) = (process.readiness.task("routes"), process.readiness.task("peers"));
    process.listen().await?;

    // Watches and reports go on until the last request has ended.
    let served = CancellationToken::new();
    let (watching, end) = (activator.clone(), served.clone());
    let watching = async move { Box::pin(watching.run(end)).await };
    process.tasks.spawn("watches", &served, watching);
    let (reporting, end) = (activator.clone(), served.clone());
    let reporting = async move { streams.run(reporting, &autoscaler, end).await };
    process.tasks.spawn("report streams", &served, reporting);
    let synced = async {
        // Who did not know the others would own everything.
        activator.peers_synced().await;
        drop(others);
        activator.synced().await;
        drop(routes);
    };
    tokio::select! {
        () = process.shutdown.cancelled() => {}
        () = synced => {
            let serving_peers = async {
                if let Some(listener) = peer_listener {
                    activator.serve_peers(listener, process.shutdown.clone()).await;
                }
            };
            let end = || process.shutdown.clone();
            futures::join!(
                activator.serve(listener, Door::Outer, end()),
                activator.serve(inner_listener, Door::Inner, end()),
                serving_peers,
            );
        }
    }
    served.cancel();
    Ok(())
}

/// What this activator shows of itself, and who lets others in: by tokens, unless it is told to do
/// without.
async fn identity(process: &mut Process, options: &Options) -> anyhow::Result<(Shown, Doorkeeper)> {
    if options.no_authentication {
        if let Some(address) = options.peers {
            listener::require_loopback("--peers", address, process::OPEN)?;
        }
        return Ok((Shown::nothing(), Doorkeeper::open()));
    }
    let shown = Shown::file(options.token.clone());
    shown.token().await.context(
        "--token: mount a ServiceAccount token for the audience ebb.dev/internal there, or say \
         --no-authentication",
    )?;
    let (client, namespace) = (process.client.clone(), &options.common.namespace);
    Ok((shown, Doorkeeper::new(client, namespace, &mut process.registry)))
}
