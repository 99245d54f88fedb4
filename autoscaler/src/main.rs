//! The autoscaler as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ebb_api::labels;
use ebb_autoscaler::streams::{self, Listener, Streams};
use ebb_autoscaler::{Autoscaler, AutoscalerOptions, Roster};
use ebb_daemon::identity::Doorkeeper;
use ebb_daemon::lease::Terms;
use ebb_daemon::listener;
use ebb_daemon::process::{self, Common, Process};
use tokio_util::sync::CancellationToken;

/// Why not the system's: see the workspace's Cargo.toml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Decides how many replicas each revision has.
///
/// Several may run: all hear every activator, one leads, and another takes over within seconds.
#[derive(Parser, Debug)]
#[command(name = "ebb-autoscaler", version, after_help = EXAMPLES)]
struct Options {
    /// Where activators report
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Labels of the activators' pods, in the namespace that Ebb runs in: no scale is lowered while
    /// one of them may send requests and is not heard
    #[arg(long, value_name = "SELECTOR", default_value = labels::ACTIVATORS)]
    activators_selector: String,

    /// Seconds after which an Event tells of a scale that is held up by an activator that is not
    /// heard
    #[arg(long, value_name = "SECONDS", env = "EBB_UNHEARD_NOTICE", default_value_t = 600)]
    unheard_notice: u64,

    /// Seconds that the lead of this replica lasts without a renewal: how long nobody decides when
    /// its node is lost
    // It is the shortest that bears an API server that takes 5 s for each answer. Only a leader
    // answers reports, so activators wake revisions themselves until there is another.
    #[arg(long, value_name = "SECONDS", default_value_t = 12)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=60))]
    lease: u64,

    /// Let everybody report, who may then decide what is scaled: with --listen on loopback only
    #[arg(long)]
    no_authentication: bool,

    #[command(flatten)]
    common: Common,
}

const EXAMPLES: &str = "\
Example, on the cluster that KUBECONFIG names:
  ebb-autoscaler --name $(hostname) --listen 127.0.0.1:8091 --no-authentication --log-format text";

fn main() -> ExitCode {
    let options = Options::parse();
    let common = options.common.clone();
    process::main("ebb-autoscaler", &common, |process| run(process, options))
}

async fn run(mut process: Process, options: Options) -> anyhow::Result<()> {
    let Options { listen, activators_selector, unheard_notice, lease, no_authentication, common } =
        options;
    let doorkeeper = if no_authentication {
        listener::require_loopback("--listen", listen, process::OPEN)?;
        Doorkeeper::open()
    } else {
        Doorkeeper::new(process.client.clone(), &common.namespace, &mut process.registry)
    };
    let listener = listener::bind("--listen", listen)?;
    let streams = Streams::default();
    let leaving = CancellationToken::new();
    let (leads, campaign) = process.campaign("ebb-autoscaler", Terms::of(lease), leaving.clone());
    let options = AutoscalerOptions {
        client: process.client.clone(),
        config: process.config.clone(),
        activators: Roster::Pods { namespace: common.namespace, selector: activators_selector },
        drains: Arc::new(streams.clone()),
        unheard_notice: Duration::from_secs(unheard_notice),
        leads,
    };
    let (autoscaler, intake) = Autoscaler::new(options, &mut process.registry);
    let reports = streams::router(intake, streams, doorkeeper);
    let reports = Listener::new(listener, reports, &mut process.registry);
    process.listen().await?;
    // Never: a replica that hears no reports is of no use, not even to end well.
    process.tasks.spawn("report listener", &CancellationToken::new(), reports.serve());
    autoscaler.run(process.shutdown).await;
    // Only now: while writes are under way no other may decide.
    leaving.cancel();
    campaign.await?;
    Ok(())
}
