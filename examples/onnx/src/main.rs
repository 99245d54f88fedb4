//! `ebb-onnx`: loads ONNX models, opens its port, and infers until it is told to stop.

use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use ebb_onnx::model::Model;
use ebb_onnx::search;
use ebb_onnx::server::{self, BODY_BYTES_MAX, ServerLimits};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

/// Why not the system's allocator: see the workspace's Cargo.toml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long running requests may take to finish after SIGTERM. Longer than any inference, shorter
/// than the 300 seconds after which a pod is killed by default.
const GRACE: Duration = Duration::from_mins(1);

/// Async threads: they only move bytes, the computing happens on others.
const ASYNC_THREADS: usize = 2;

const EXAMPLES: &str = "\
Examples:
  ebb-onnx                                  all models of the first folder that has any
  ebb-onnx --model digits.onnx              one model, served as `digits`
  ebb-onnx --model a=x.onnx --model b=y.onnx
  PORT=9000 ebb-onnx --models ./models

  curl localhost:8080/v2/models/digits
  curl localhost:8080/v2/models/digits/infer --data @seven.json

A relative FILE is looked up in the working directory, then in the model folders: --models, or else
`models` beside the executable, /models, and examples/onnx/models of a checkout.";

/// Serves ONNX models over the Open Inference Protocol v2 (REST).
#[derive(Debug, Parser)]
#[command(name = "ebb-onnx", version, after_help = EXAMPLES)]
struct Arguments {
    /// A model file, served by its file stem or as NAME; may be repeated
    #[arg(long = "model", value_name = "[NAME=]FILE")]
    model: Vec<String>,

    /// The folder to search for models
    #[arg(long, value_name = "DIR", env = "MODEL_DIR")]
    models: Option<PathBuf>,

    /// The TCP port to listen on, on all addresses
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,

    /// Inferences at the same time; the others wait [default: number of processors]
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroUsize>,

    /// Largest request body in bytes
    #[arg(long, value_name = "BYTES", default_value_t = BODY_BYTES_MAX)]
    max_body: usize,
}

fn main() -> ExitCode {
    let started = Instant::now();
    let arguments = Arguments::parse();
    // The runtime warns of harmless things while it optimizes.
    start_log("error,ebb_onnx=info");
    match run(&arguments, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, so that the last line of the log has the whole reason.
            tracing::error!("Cannot go on: {error:#}");
            ExitCode::FAILURE
        }
    }
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

fn run(arguments: &Arguments, started: Instant) -> anyhow::Result<()> {
    let models = load(arguments)?;
    let concurrency = arguments
        .concurrency
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
        .get();
    let limits = ServerLimits { concurrency, body_bytes: arguments.max_body };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(ASYNC_THREADS)
        .max_blocking_threads(concurrency)
        .enable_all()
        .build()
        .context("could not start the threads")?
        .block_on(serve(models, limits, arguments.port, started))
}

fn load(arguments: &Arguments) -> anyhow::Result<Vec<Model>> {
    let folders = match &arguments.models {
        Some(folder) => vec![folder.clone()],
        None => search::default_folders(std::env::current_exe().ok().as_deref()),
    };
    let mut models = Vec::new();
    for search::Found { name, file } in search::find(&arguments.model, &folders)? {
        let model = Model::load(&name, &file)?;
        let times = model.load_times();
        tracing::info!(
            model.name = name,
            model.file = %file.display(),
            parse_ms = milliseconds(times.parse),
            optimize_ms = milliseconds(times.optimize),
            "Loaded the model"
        );
        models.push(model);
    }
    Ok(models)
}

async fn serve(
    models: Vec<Model>,
    limits: ServerLimits,
    port: u16,
    started: Instant,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("could not watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not watch SIGINT")?;
    let listener = TcpListener::bind(("0.0.0.0", port))
        .await
        .with_context(|| format!("could not listen on port {port}; set another with PORT"))?;
    let address = listener.local_addr().context("could not tell the own address")?;
    tracing::info!(%address, start_ms = milliseconds(started.elapsed()), "Listening");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, server::router(models, limits))
        .with_graceful_shutdown(async { stopped.await.unwrap_or_default() });
    let server = tokio::spawn(server.into_future());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("Stopping after the running requests");
    drop(stop);
    match tokio::time::timeout(GRACE, server).await {
        Ok(ended) => ended.context("the server broke off")?.context("the server failed"),
        Err(_) => anyhow::bail!("requests were still running {} s after the stop", GRACE.as_secs()),
    }
}

/// Milliseconds with fractions, since a small model loads in a few.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 1e2
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent_and_the_model_flag_repeats() {
        Arguments::command().debug_assert();
        let flags = ["ebb-onnx", "--model", "a.onnx", "--model", "b=c.onnx"];
        let arguments = Arguments::try_parse_from(flags).unwrap();
        assert_eq!(arguments.model, ["a.onnx", "b=c.onnx"]);
        assert_eq!(arguments.max_body, BODY_BYTES_MAX);
        assert!(Arguments::try_parse_from(["ebb-onnx", "--concurrency=0"]).is_err());
    }
}
