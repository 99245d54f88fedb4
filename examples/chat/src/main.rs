//! `ebb-chat`: pretends to load a model, opens its port, and answers until it is told to stop.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use ebb_chat::server;
use ebb_chat::settings::ChatSettings;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Why not the system's allocator: see the workspace's Cargo.toml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long running answers may take to finish after SIGTERM; a pod is killed after 300 seconds by
/// default.
const GRACE: Duration = Duration::from_mins(4);

/// Threads: the work is waiting and writing, so two keep up with any test.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let settings = ChatSettings::parse();
    start_log("info");
    let ended = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("could not start the threads")
        .and_then(|threads| threads.block_on(run(settings)));
    ended.unwrap_or_else(|error| {
        // One line, so that the last line of the log has the whole reason.
        tracing::error!("Cannot go on: {error:#}");
        ExitCode::FAILURE
    })
}

/// Logs lines to standard error: for people at a terminal, and without colours for a log collector.
fn start_log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

async fn run(settings: ChatSettings) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("could not watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not watch SIGINT")?;
    let exit_code = settings.exit_code;
    let crash = crash_after(settings.exit_after);
    let stop = CancellationToken::new();
    let service = serve(settings, stop.clone());
    tokio::pin!(service, crash);
    tokio::select! {
        ended = &mut service => return ended,
        () = &mut crash => {
            tracing::error!(exit_code, "Crashing as told by --exit-after");
            return Ok(ExitCode::from(exit_code));
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("Stopping after the running answers");
    stop.cancel();
    tokio::time::timeout(GRACE, service).await.unwrap_or_else(|_| {
        anyhow::bail!("answers were still running {} s after the stop", GRACE.as_secs())
    })
}

/// Loads, listens and answers until `stop`, then finishes the running answers.
async fn serve(settings: ChatSettings, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    tracing::info!(load_ms = settings.load_time.as_millis(), "Pretending to load a model");
    let router = server::router(settings.clone());
    let loaded = stop.run_until_cancelled(tokio::time::sleep(settings.load_time)).await.is_some();
    if loaded && settings.no_listen {
        tracing::warn!("Not listening, because of --no-listen");
        stop.cancelled().await;
    }
    if stop.is_cancelled() {
        return Ok(ExitCode::SUCCESS);
    }
    let port = settings.port;
    let listener = TcpListener::bind(("0.0.0.0", port))
        .await
        .with_context(|| format!("could not listen on port {port}; set another with PORT"))?;
    let address = listener.local_addr().context("could not tell the own address")?;
    tracing::info!(%address, "Listening");
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("the server failed")?;
    Ok(ExitCode::SUCCESS)
}

/// Returns after `time`; never if it is `None`.
async fn crash_after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
