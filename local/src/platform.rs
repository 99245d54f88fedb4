//! The whole platform in one process: embedded API, controller, autoscaler, activator, runner.
//!
//! The parts are the ones that run on a cluster. They meet here and nowhere else: each gets a
//! client of the embedded API, and the two ends of the report link are tied together in memory.

mod admission;
mod bind;
mod link;
mod parts;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ebb_activator::{Limits, Machine};
use ebb_api::config::{AutoscalerConfig, Config, NetworkConfig};
use ebb_api::room_for::RoomFor;
use ebb_apiserver::authentication::{ADMIN, Identity, Tokens};
use ebb_apiserver::certificate::Certificate;
use ebb_apiserver::{ApiOptions, ApiServer, Storage};
use ebb_controller::LocalFetcher;
use ebb_daemon::logging;
use ebb_daemon::termination::{FORCED_EXIT, Signals};
use ebb_runner::guardian::{Guardian, Instance};
use ebb_runner::{Limiter, Ports, RunnerOptions};
use futures::FutureExt as _;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::Local;
use crate::kubeconfig;
use crate::manifests::{self, Manifest};
use crate::scheduler::{Capacity, Scheduler};
use crate::terminal::{Terminal, TerminalEvent};
use crate::token;

pub use admission::api_options;
use bind::Listeners;
use parts::{Parts, Pods, Settings};

/// How long requests in flight may take to end after Ctrl-C: long enough for most predictions,
/// short enough for a person who waits. A second Ctrl-C does not wait.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The holder that the certificate of the API names, for people who read it.
const HOLDER: &str = "Ebb local API";

/// Runs `ebb local` until it is told to stop.
///
/// # Errors
///
/// The reason that keeps it from starting or running, as one line that says what to do. The state
/// folder stays as it was then.
pub fn run(options: &Local) -> anyhow::Result<()> {
    logging::start(logging::Format::Text, &options.log).context("--log")?;
    let manifests = manifests::read(&options.filename)?;
    // What is not text cannot be a variable of a container, whose values the API holds.
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let variables = options.passed_on(|| std::env::vars_os().filter_map(text).collect());
    let variables = variables.map_err(|name| {
        anyhow::anyhow!("--env: the variable {name} is not set here: set it, or leave it out")
    })?;
    let data = options.data_folder();
    let instance = Instance::claim(&data).context("--data")?;
    // Before anything is started: a process beside this one would be in the way of a group of its own.
    let limiter = Limiter::prepare();
    // Started before the runtime, so that the child is not born among the runtime's threads.
    let own = std::env::current_exe().context("the path of the ebb program is not known")?;
    let guardian = Guardian::start(instance.identity(), &own)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut runner = RunnerOptions::new(&data, instance.identity().to_owned());
    runner.guardian = Some(guardian.clone());
    runner.mounter = Some(own);
    runner.limiter = limiter;
    runner.variables = variables;
    let outcome = runtime.block_on(serve(options, runner, &manifests));
    // Not simply dropped: that would wait for blocking calls, and with it the end of the replicas.
    runtime.shutdown_timeout(Duration::from_secs(1));
    guardian.close();
    outcome
}

async fn serve(
    options: &Local,
    runner: RunnerOptions,
    manifests: &[Manifest],
) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let terminal = Terminal::new(options.output);
    let machine = Machine::prepare();
    let limits = Limits { drain: DRAIN_TIMEOUT, ..machine.limits() };
    let listeners = Listeners::bind(options)?;
    let data = options.data_folder();

    let base = config(&listeners);
    let (publish, config) = watch::channel(Arc::new(base.clone()));
    let token = token::of(&data)
        .with_context(|| format!("cannot keep the token of the API in {}", data.display()))?;
    let certificate = Certificate::of(&data, HOLDER)
        .with_context(|| format!("cannot keep the certificate of the API in {}", data.display()))?;
    let api = ApiServer::open(ApiOptions {
        storage: Storage::Folder(data.join("state")),
        logs: Arc::new(runner.logs.clone()),
        tokens: Tokens::default().with(&*token, Identity::user(ADMIN)),
        ..api_options(config.clone())
    })?;
    ebb_runner::clear_stale_pods(&api.client(), &runner).await.context("old pods stay")?;

    let fetcher = LocalFetcher {
        program: std::env::current_exe().context("the path of the ebb program is not known")?,
        cache: std::path::absolute(options.models_folder()).context("--models")?,
        limit: options.models_limit,
        networks: options.model_network.iter().map(ToString::to_string).collect(),
        can_mount: runner.can_mount().await,
    };
    let mut registry = Registry::default();
    let shutdown = CancellationToken::new();
    let settings = Settings { base, publish, config };
    let capacity = Capacity::of(options.memory, &options.devices, machine.memory);
    let parts = Parts::new(&api, settings, &terminal, limits, fetcher, &mut registry);
    let pods =
        Pods { runner, ports: Ports::default(), scheduler: Scheduler::new(capacity.clone()) };
    let running = parts.start(api.clone(), pods, &terminal);
    let handling = signals.drive(shutdown.clone(), force);
    drop(running.tasks().spawn("signal handler", &shutdown, handling));

    let served = async {
        let started = listeners.started(options, (machine.files, limits.connections), &capacity);
        running.synced().await;
        let (file, address) = (options.kubeconfig_file(), listeners.api_address());
        kubeconfig::write(&file, address, &certificate, &token)
            .with_context(|| format!("cannot write {}", file.display()))?;
        running.listen(listeners, certificate, Arc::new(registry));
        for manifest in manifests {
            let object = manifest.apply(&api.client()).await?;
            terminal.show(&TerminalEvent::Applied { object });
        }
        terminal.show(&started);
        std::future::pending().await
    };
    let tasks = running.tasks().clone();
    // From the start on: a part that broke would keep the others from ever being ready.
    let outcome = tokio::select! {
        biased;
        failure = tasks.failure() => Err(failure.into()),
        outcome = served => outcome,
        () = shutdown.cancelled() => Ok(()),
    };
    terminal.show(&TerminalEvent::Stopping { deadline_s: DRAIN_TIMEOUT.as_secs() });
    running.stop().await;
    api.close().await;
    terminal.show(&TerminalEvent::Stopped {});
    // A panic in the shutdown may have left work undone.
    outcome.and_then(|()| tasks.failure().now_or_never().map_or(Ok(()), |it| Err(it.into())))
}

/// Ends at once at the second signal. The guardian ends the replicas.
fn force() {
    std::process::exit(FORCED_EXIT);
}

/// Knative's settings, with hosts that browsers and curl resolve to this machine by themselves.
fn config(listeners: &Listeners) -> Config {
    let domain = match listeners.gateway_address().port() {
        80 => "localhost".to_owned(),
        port => format!("localhost:{port}"),
    };
    Config {
        network: NetworkConfig { domain, ..NetworkConfig::default() },
        // No cluster autoscaler will add a machine.
        autoscaler: AutoscalerConfig {
            make_room_for: RoomFor::all(),
            ..AutoscalerConfig::default()
        },
        ..Config::default()
    }
}
