//! The controller as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser as _;
use ebb_controller::cli::ControllerFlags;
use ebb_controller::webhook::{Webhook, WebhookOptions};
use ebb_controller::{ClusterFetcher, Controller, ControllerOptions, ModelFetcher};
use ebb_daemon::lease::{Epoch, Terms};
use ebb_daemon::listener;
use ebb_daemon::process::{self, Process};
use ebb_daemon::readiness::Task;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The workspace's Cargo.toml says why this is not the system's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let options = ControllerFlags::parse();
    let common = options.common.clone();
    process::main("ebb-controller", &common, |process| run(process, options))
}

async fn run(mut process: Process, options: ControllerFlags) -> anyhow::Result<()> {
    let terms = Terms::of(options.lease);
    let webhook = match options.webhook {
        None => None,
        Some(address) => Some(webhook(&mut process, address, options.webhook_service)?),
    };
    let options = ControllerOptions {
        client: process.client.clone(),
        config: process.config.clone(),
        gateway_host: options.gateway,
        model_fetcher: options.fetch_image.map(|image| {
            let networks = options.model_network.iter().map(ToString::to_string).collect();
            ModelFetcher::Cluster(ClusterFetcher { image, networks })
        }),
    };
    let controller = Controller::new(options, &mut process.registry);
    process.listen().await?;
    let shutdown = process.shutdown.clone();
    let serving = async {
        match webhook {
            None => Ok(()),
            Some((webhook, ready)) => Ok(webhook.run(ready, shutdown).await?),
        }
    };
    // A replica without its webhook, or without its part in the election, is of no use: the
    // first failure ends both.
    tokio::try_join!(serving, lead(process, controller, terms)).map(drop)
}

/// The webhook, and the readiness task that keeps this replica from being ready until the webhook
/// serves.
fn webhook(
    process: &mut Process,
    address: SocketAddr,
    service: String,
) -> anyhow::Result<(Webhook, Task)> {
    let options = WebhookOptions {
        client: process.client.clone(),
        config: process.config.clone(),
        listener: listener::bind("--webhook", address)?,
        service,
        namespace: process.namespace().to_owned(),
    };
    let ready = process.readiness.task("webhook");
    Ok((Webhook::new(options, &mut process.registry), ready))
}

/// Runs the reconcilers whenever this replica leads, until the process is to end.
async fn lead(process: Process, controller: Controller, terms: Terms) -> anyhow::Result<()> {
    let leaving = CancellationToken::new();
    let (mut leads, campaign) = process.campaign("ebb-controller", terms, &leaving);
    let shutdown = process.shutdown;
    let is_elected = tokio::select! {
        () = shutdown.cancelled() => false,
        () = heard(&mut leads, Option::is_some) => true,
    };
    if is_elected {
        tokio::select! {
            outcome = controller.run(shutdown) => outcome?,
            // At once, without finishing the reconciles: another replica may lead already. This
            // replica follows the other's writes by starting again from nothing.
            () = heard(&mut leads, Option::is_none) => {
                bail!("the lease ebb-controller was lost: another replica leads")
            }
        }
    }
    leaving.cancel();
    campaign.await?;
    Ok(())
}

/// Waits until the election's state satisfies `is_it`. After a panic of the election there is no
/// further state, and this waits for ever: the end of the election's task ends the process.
async fn heard(
    leads: &mut watch::Receiver<Option<Epoch>>,
    is_it: impl FnMut(&Option<Epoch>) -> bool,
) {
    if leads.wait_for(is_it).await.is_err() {
        std::future::pending::<()>().await;
    }
}
