//! The autoscaler as a process of its own.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use ebb_autoscaler::cli::AutoscalerFlags;
use ebb_autoscaler::streams::{self, Listener, Streams};
use ebb_autoscaler::{Autoscaler, AutoscalerOptions, Roster};
use ebb_daemon::identity::Doorkeeper;
use ebb_daemon::lease::Terms;
use ebb_daemon::listener;
use ebb_daemon::process::{self, Process};
use tokio_util::sync::CancellationToken;

/// The reason not to take the system's allocator: see the workspace's Cargo.toml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let options = AutoscalerFlags::parse();
    let common = options.common.clone();
    process::main("ebb-autoscaler", &common, |process| run(process, options))
}

async fn run(mut process: Process, options: AutoscalerFlags) -> anyhow::Result<()> {
    let AutoscalerFlags {
        listen,
        activators_selector,
        unheard_notice,
        lease,
        no_authentication,
        common,
    } = options;
    let doorkeeper = if no_authentication {
        listener::require_loopback("--listen", listen, process::OPEN)?;
        Doorkeeper::open()
    } else {
        Doorkeeper::new(process.client.clone(), &common.namespace, &mut process.registry)
    };
    let listener = listener::bind("--listen", listen)?;
    let streams = Streams::default();
    let leaving = CancellationToken::new();
    let (leads, campaign) = process.campaign("ebb-autoscaler", Terms::of(lease), &leaving);
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
    let reports = Listener::new(reports, &mut process.registry);
    process.listen().await?;
    // Never cancelled: a replica that hears no reports is of no use, not even to end well.
    process.tasks.spawn("report listener", &CancellationToken::new(), reports.serve(listener));
    autoscaler.run(process.shutdown).await;
    // Only now: while writes are under way no other replica may decide.
    leaving.cancel();
    campaign.await?;
    Ok(())
}
