//! The activator as a process of its own.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use ebb_activator::cli::ActivatorFlags;
use ebb_activator::route::Door;
use ebb_activator::streams::ReportStreams;
use ebb_activator::{Activator, ActivatorOptions, Limits, Machine, PeerOptions, TcpConnect};
use ebb_daemon::identity::{Doorkeeper, Shown};
use ebb_daemon::listener;
use ebb_daemon::process::{self, Process};
use tokio_util::sync::CancellationToken;

/// The workspace's Cargo.toml says why this is not the system's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let options = ActivatorFlags::parse();
    let common = options.common.clone();
    process::main("ebb-activator", &common, |process| run(process, options))
}

async fn run(mut process: Process, options: ActivatorFlags) -> anyhow::Result<()> {
    let (shown, doorkeeper) = identity(&mut process, &options).await?;
    let connections_per_address = options.connections_per_address;
    let ActivatorFlags { listen, inner, autoscaler, peers, peers_selector, drain, common, .. } =
        options;
    let listener = listener::bind("--listen", listen)?;
    let inner_listener = listener::bind("--inner", inner)?;
    let peer_listener = match peers {
        Some(address) => Some(listener::bind("--peers", address)?),
        None => None,
    };
    let (network, registry) = (Arc::new(TcpConnect), &mut process.registry);
    let streams = ReportStreams::new(&common.name, network, shown.clone(), registry);
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
    process.admin = ebb_activator::admin::router(activator.clone());
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
        // Without the peer list this activator would think that it owns every revision.
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

/// The token that this activator shows, and the doorkeeper that admits others by theirs. With
/// `--no-authentication` this activator shows none and admits everybody.
async fn identity(
    process: &mut Process,
    options: &ActivatorFlags,
) -> anyhow::Result<(Shown, Doorkeeper)> {
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
