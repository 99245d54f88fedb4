//! The controller as a process of its own.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;
use ebb_controller::{Controller, ControllerOptions};
use ebb_daemon::process::{self, Common, Process};
use tokio_util::sync::CancellationToken;

/// Makes Deployments match Services, Configurations, Routes and Revisions.
///
/// Several may run: one leads, and another takes over within seconds.
#[derive(Parser, Debug)]
#[command(name = "ebb-controller", version, after_help = EXAMPLES)]
struct Options {
    /// Name of the gateway inside the cluster; each Route gets a Service of its own name that
    /// points there
    #[arg(long, value_name = "HOST")]
    gateway: Option<String>,

    #[command(flatten)]
    common: Common,
}

const EXAMPLES: &str = "\
Example, on the cluster that KUBECONFIG names:
  ebb-controller --name $(hostname) --log-format text";

fn main() -> ExitCode {
    let Options { gateway, common } = Options::parse();
    match process::run(&common, |process| run(process, gateway)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed standard error is no reason for another exit status.
            drop(writeln!(std::io::stderr(), "ebb-controller: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(mut process: Process, gateway_host: Option<String>) -> anyhow::Result<()> {
    let leaving = CancellationToken::new();
    let (mut leads, campaign) = process.campaign("ebb-controller", leaving.clone());
    let options = ControllerOptions {
        client: process.client.clone(),
        config: process.config.clone(),
        gateway_host,
    };
    let controller = Controller::new(options, &mut process.registry);
    process.listen().await?;
    let shutdown = process.shutdown;
    let elected = async { leads.wait_for(|leads| *leads).await.is_ok() };
    let is_elected = tokio::select! {
        () = shutdown.cancelled() => false,
        is_elected = elected => is_elected,
    };
    if is_elected {
        let lost = async { drop(leads.wait_for(|leads| !*leads).await) };
        tokio::select! {
            outcome = controller.run(shutdown) => outcome?,
            // At once and without a farewell: another may be at work already. A start from
            // nothing is how this one follows what the other does.
            () = lost => bail!("the lease ebb-controller was lost: another replica leads"),
        }
    }
    leaving.cancel();
    campaign.await?;
    Ok(())
}
