//! The frame around the work of a daemon: options that all of them have, and everything that is
//! the same before and after.

use std::io::Write as _;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use clap::{Args, ValueEnum};
use ebb_api::config::{Config, SYSTEM_NAMESPACE};
use futures::FutureExt as _;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::{SetOnce, watch};
use tokio_util::sync::CancellationToken;

use crate::lease::{self, Epoch, LeaseOptions, Terms};
use crate::listener::ListenError;
use crate::readiness::Readiness;
use crate::tasks::{BROKEN_EXIT, TaskError, Tasks};
use crate::termination::{FORCED_EXIT, Signals};
use crate::{admin, client, listener, logging, settings};

/// How long tasks may go on after the work has ended.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Options of every daemon.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// Where metrics and health are served: /metrics, /healthz, /readyz
    #[arg(long, value_name = "ADDR", env = "EBB_ADMIN", default_value = "0.0.0.0:9090")]
    pub admin: SocketAddr,

    /// What to log on standard error: a level, or target=level pairs
    #[arg(long, value_name = "FILTER", env = "EBB_LOG", default_value = "info")]
    pub log: String,

    /// How log lines look
    #[arg(long, value_name = "FORMAT", env = "EBB_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,

    /// Namespace that Ebb runs in; its leases are there
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = SYSTEM_NAMESPACE)]
    pub namespace: String,

    /// Name of this replica, which no other may have: on Kubernetes the pod's
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub name: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// One line of text, for people
    Text,
    /// One JSON object a line, for programs
    Json,
}

/// A daemon that has started: what its work needs.
pub struct Process {
    /// Client of the API server.
    pub client: Client,
    /// Knative's settings, kept up to date.
    pub config: watch::Receiver<Arc<Config>>,
    /// Where metrics are registered, before [`Process::listen`].
    pub registry: Registry,
    /// What the admin listener serves besides metrics and health, before [`Process::listen`].
    pub admin: Router,
    /// The tasks still to be done before traffic.
    pub readiness: Readiness,
    /// Fires at SIGTERM and SIGINT: the work is to end.
    pub shutdown: CancellationToken,
    /// Every task that lives as long as the process: the end of one is the end of all.
    pub tasks: Tasks,
    options: Common,
    /// Set once `config` holds the API server's settings, no longer the defaults.
    listed: Arc<SetOnce<()>>,
}

/// Runs a daemon until its work ends. An error that keeps it from starting, or ends it, is one line
/// on standard error. The exit status is 0 after an orderly end, 70 ([`BROKEN_EXIT`]) when a task
/// panicked or ended before its time, else 1.
pub fn main<W>(program: &str, options: &Common, work: impl FnOnce(Process) -> W) -> ExitCode
where
    W: Future<Output = anyhow::Result<()>>,
{
    end(program, run(options, work))
}

/// The exit status of a program with this outcome; an error is one line on standard error. 0 after
/// an orderly end, 70 ([`BROKEN_EXIT`]) for a [`TaskError`], else 1.
pub fn end(program: &str, outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    // A closed standard error is no reason for another exit status.
    drop(writeln!(std::io::stderr(), "{program}: {error:#}"));
    if error.is::<TaskError>() { ExitCode::from(BROKEN_EXIT) } else { ExitCode::FAILURE }
}

fn run<W>(options: &Common, work: impl FnOnce(Process) -> W) -> anyhow::Result<()>
where
    W: Future<Output = anyhow::Result<()>>,
{
    let format = match options.log_format {
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    logging::start(format, &options.log).context("--log")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let process = Process::start(options.clone()).await?;
        let tasks = process.tasks.clone();
        supervise(&tasks, Box::pin(work(process))).await
    });
    runtime.shutdown_timeout(STOP_TIMEOUT);
    outcome
}

/// Runs the work until it ends or panics. A task that ends or panics before its time ends the work
/// at once, for requests would be served by state that nobody keeps up any more.
async fn supervise(
    tasks: &Tasks,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    // Nothing of the work is used after a panic.
    let work = AssertUnwindSafe(work).catch_unwind();
    let outcome = tokio::select! {
        biased;
        failure = tasks.failure() => return Err(failure.into()),
        outcome = work => outcome.unwrap_or_else(|_| Err(TaskError::Panicked("main task").into())),
    };
    // A task may have broken in the moment in which the work ended, and be the reason for it.
    tasks.failure().now_or_never().map_or(outcome, |failure| Err(failure.into()))
}

// === impl Process ===

impl Process {
    async fn start(options: Common) -> anyhow::Result<Self> {
        let signals = Signals::listen()?;
        let shutdown = CancellationToken::new();
        let force = || std::process::exit(FORCED_EXIT);
        let tasks = Tasks::new();
        tasks.spawn("signal handler", &shutdown, signals.drive(shutdown.clone(), force));
        let client = client::infer().await.context(
            "no API server is known: set KUBECONFIG, or run in a pod with a service account",
        )?;
        let (publish, config) = watch::channel(Arc::new(Config::default()));
        let (registry, readiness) = (Registry::default(), Readiness::default());
        let admin = Router::new();
        let listed = Arc::new(SetOnce::new());
        let publish = settings::Publisher { config: publish, listed: Arc::clone(&listed) };
        let following =
            settings::follow(client.clone(), Config::default(), publish, shutdown.clone());
        tasks.spawn("watch of the settings", &shutdown, following);
        Ok(Self { client, config, registry, admin, readiness, shutdown, tasks, options, listed })
    }

    /// Namespace that Ebb runs in.
    pub fn namespace(&self) -> &str {
        &self.options.namespace
    }

    /// Name of this replica.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Serves metrics and health from now on, until the process ends; returns once Knative's
    /// settings are known, or at a shutdown. Until then the process is not ready, and its work
    /// must not begin: it would follow defaults that nobody chose.
    ///
    /// # Errors
    ///
    /// The address of metrics and health cannot be listened on.
    pub async fn listen(&mut self) -> Result<(), ListenError> {
        let unsettled = self.readiness.task("settings");
        let listener = listener::bind("--admin", self.options.admin)?;
        let registry = Arc::new(std::mem::take(&mut self.registry));
        let more = std::mem::take(&mut self.admin);
        let router = admin::router(registry, self.readiness.clone()).merge(more);
        // Health is asked for while requests drain, too.
        let never = CancellationToken::new();
        let serving = admin::serve(listener, router, never.clone());
        self.tasks.spawn("admin listener", &never, async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "Metrics and health are no longer served");
            }
        });
        tokio::select! {
            () = self.listed.wait() => drop(unsettled),
            () = self.shutdown.cancelled() => {}
        }
        Ok(())
    }

    /// Takes part in the election for `component` once Knative's settings are known, for a leader
    /// has to act. Returns a receiver of the term in which this replica leads, and a handle. The
    /// election ends with `until`, after which the lease is given back: wait for the handle.
    pub fn campaign(
        &self,
        component: &str,
        terms: Terms,
        until: &CancellationToken,
    ) -> (watch::Receiver<Option<Epoch>>, tokio::task::JoinHandle<()>) {
        let (publish, leads) = watch::channel(None);
        let options = LeaseOptions {
            namespace: self.options.namespace.clone(),
            name: component.to_owned(),
            identity: self.options.name.clone(),
            terms,
        };
        let (client, listed) = (self.client.clone(), Arc::clone(&self.listed));
        let end = until.clone();
        let campaign = async move {
            tokio::select! {
                () = listed.wait() => {}
                () = end.cancelled() => return,
            }
            lease::campaign(client, options, publish, end).await;
        };
        (leads, self.tasks.spawn("election", until, campaign))
    }
}

/// Why a listener without authentication has to be on loopback.
pub const OPEN: &str = "with --no-authentication any client is admitted";

#[cfg(test)]
mod tests {
    use super::*;

    /// The process ends with the line and the status of a broken one, although its work goes on.
    #[tokio::test]
    async fn a_task_that_panics_ends_the_work_and_sets_the_exit_status() {
        let tasks = Tasks::new();
        drop(tasks.spawn("watch", &CancellationToken::new(), async { assert_eq!(1, 2, "broken") }));
        let error = supervise(&tasks, std::future::pending()).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "the watch panicked, which is a bug: see the log above");
        assert_eq!(end("test", Err(error)), ExitCode::from(BROKEN_EXIT));
    }

    #[tokio::test]
    async fn work_that_panics_is_told_as_a_task_is() {
        let work = async {
            assert_eq!(1, 2, "broken");
            Ok(())
        };
        let error = supervise(&Tasks::new(), work).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&TaskError::Panicked("main task")));
        let other = supervise(&Tasks::new(), async { anyhow::bail!("no address") }).await;
        assert_eq!(end("test", other), ExitCode::FAILURE);
        assert_eq!(end("test", Ok(())), ExitCode::SUCCESS);
    }
}
