//! The autoscaler as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use ebb_autoscaler::streams::{self, Streams};
use ebb_autoscaler::{Autoscaler, AutoscalerOptions};
use ebb_daemon::process::{self, Common, Process};
use tokio_util::sync::CancellationToken;

/// Decides how many replicas each revision has.
///
/// Several may run: all hear every activator, one leads, and another takes over within seconds.
#[derive(Parser, Debug)]
#[command(name = "ebb-autoscaler", version, after_help = EXAMPLES)]
struct Options {
    /// Where activators report
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    #[command(flatten)]
    common: Common,
}

const EXAMPLES: &str = "\
Example, on the cluster that KUBECONFIG names:
  ebb-autoscaler --name $(hostname) --log-format text";

fn main() -> ExitCode {
    let Options { listen, common } = Options::parse();
    process::main("ebb-autoscaler", &common, |process| run(process, listen))
}

async fn run(mut process: Process, listen: SocketAddr) -> anyhow::Result<()> {
    let listener = process::bind("--listen", listen).await?;
    let streams = Streams::default();
    let leaving = CancellationToken::new();
    let (leads, campaign) = process.campaign("ebb-autoscaler", leaving.clone());
    let options = AutoscalerOptions {
        client: process.client.clone(),
        config: process.config.clone(),
        drains: Arc::new(streams.clone()),
        leads,
    };
    let (autoscaler, intake) = Autoscaler::new(options, &mut process.registry);
    process.listen().await?;
    let reports = streams::router(intake, streams);
    tokio::spawn(async move { axum::serve(listener, reports).await });
    autoscaler.run(process.shutdown).await;
    // Only now: while writes are under way no other may decide.
    leaving.cancel();
    campaign.await?;
    Ok(())
}
