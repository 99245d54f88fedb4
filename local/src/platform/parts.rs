//! The parts of the platform: made, started, watched and stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ebb_activator::route::Door;
use ebb_activator::{Activator, ActivatorOptions, Limits, TcpConnect};
use ebb_api::config::Config;
use ebb_apiserver::ApiServer;
use ebb_apiserver::certificate::Certificate;
use ebb_autoscaler::{Autoscaler, AutoscalerOptions, Roster};
use ebb_controller::{Controller, ControllerOptions, LocalFetcher, ModelFetcher};
use ebb_daemon::readiness::Readiness;
use ebb_daemon::tasks::Tasks;
use ebb_daemon::{admin, settings};
use ebb_runner::{Ports, RunnerOptions};
use prometheus_client::registry::Registry;
use tokio::sync::{SetOnce, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::Listeners;
use super::link::{Down, Narrator, Up};
use crate::deployments::{self, DeploymentOptions};
use crate::scheduler::{self, Scheduler};
use crate::terminal::Terminal;
use crate::{fetches, news};

/// Name of this activator in its reports; there is no other.
const ACTIVATOR: &str = "local";
/// Name of the part that follows the settings, which all others wait for.
const SETTINGS: &str = "settings";

/// After how long an Event tells that the activator is not heard: as on a cluster. The activator is
/// a function call away, so its silence would be a bug.
const UNHEARD_NOTICE: Duration = Duration::from_mins(10);

/// The settings and both ends of their channel.
pub(super) struct Settings {
    /// The settings where no ConfigMap says otherwise.
    pub(super) base: Config,
    pub(super) publish: watch::Sender<Arc<Config>>,
    pub(super) config: watch::Receiver<Arc<Config>>,
}

/// What pods are placed and run with.
pub(super) struct Pods {
    pub(super) runner: RunnerOptions,
    pub(super) ports: Ports,
    pub(super) scheduler: Scheduler,
}

/// The parts, made and tied together, not running yet.
pub(super) struct Parts {
    activator: Activator,
    autoscaler: Autoscaler,
    controller: Controller,
    settings: Settings,
    /// The cache of models.
    models: PathBuf,
}

/// The running platform.
pub(super) struct Running {
    api: ApiServer,
    activator: Activator,
    /// Ends the listeners: the first step of a shutdown.
    closing: CancellationToken,
    /// The gateway, which ends when the last request in flight has.
    gateway: TaskTracker,
    /// Ends the control plane, once nothing is in flight any more.
    stopping: CancellationToken,
    control: TaskTracker,
    /// Ends the replicas, last.
    ending: CancellationToken,
    runner: JoinHandle<()>,
    /// Learns when a part ends or panics before its time.
    tasks: Tasks,
}

// === impl Parts ===

impl Parts {
    pub(super) fn new(
        api: &ApiServer,
        settings: Settings,
        terminal: &Terminal,
        limits: Limits,
        fetcher: LocalFetcher,
        registry: &mut Registry,
    ) -> Self {
        let config = &settings.config;
        let (down, models) = (Down::default(), fetcher.cache.clone());
        let options = AutoscalerOptions {
            client: api.client(),
            config: config.clone(),
            activators: Roster::Fixed(vec![ACTIVATOR.to_owned()]),
            drains: Arc::new(down.clone()),
            unheard_notice: UNHEARD_NOTICE,
            // There is no other autoscaler.
            leads: watch::channel(Some(1)).1,
        };
        let (autoscaler, intake) = Autoscaler::new(options, registry);
        let options = ActivatorOptions {
            client: api.client(),
            config: config.clone(),
            reports: Arc::new(Up(intake)),
            observer: Arc::new(Narrator(terminal.clone())),
            id: ACTIVATOR.to_owned(),
            connect: Arc::new(TcpConnect),
            limits,
            peers: None,
        };
        let activator = Activator::new(options, registry);
        down.tie(activator.clone());
        let options = ControllerOptions {
            client: api.client(),
            config: config.clone(),
            // There is no cluster DNS that a placeholder Service could serve.
            gateway_host: None,
            model_fetcher: Some(ModelFetcher::Local(fetcher)),
        };
        let controller = Controller::new(options, registry);
        Self { activator, autoscaler, controller, settings, models }
    }

    /// Starts everything but the listeners.
    pub(super) fn start(self, api: ApiServer, pods: Pods, terminal: &Terminal) -> Running {
        let Self { activator, autoscaler, controller, settings, models } = self;
        let (stopping, ending) = (CancellationToken::new(), CancellationToken::new());
        let control = TaskTracker::new();
        let tasks = Tasks::new();
        let listed = Arc::new(SetOnce::new());
        let run = |name, work: futures::future::BoxFuture<'static, ()>| {
            let (stopping, listed) = (stopping.clone(), Arc::clone(&listed));
            control.spawn(tasks.watched(name, &stopping.clone(), async move {
                // Only the part that follows the settings works before they are known.
                if name != SETTINGS {
                    tokio::select! {
                        () = listed.wait() => {}
                        () = stopping.cancelled() => return,
                    }
                }
                work.await;
            }));
        };
        let Settings { base, publish, config: _ } = settings;
        let token = || stopping.clone();
        let Pods { runner, ports, scheduler } = pods;
        let placing = scheduler::run(api.client(), scheduler.clone(), terminal.clone(), token());
        run("scheduler", Box::pin(placing));
        let deployments = DeploymentOptions { ports: Some(ports), scheduler: Some(scheduler) };
        let client = api.client();
        let publish = settings::Publisher { config: publish, listed: Arc::clone(&listed) };
        run(SETTINGS, Box::pin(settings::follow(client, base, publish, token())));
        run("autoscaler", Box::pin(autoscaler.run(token())));
        let (end, failing) = (token(), tasks.clone());
        run(
            "controller",
            Box::pin(async move {
                if let Err(error) = controller.run(end).await {
                    failing.fail(error);
                }
            }),
        );
        let (serving, end) = (activator.clone(), token());
        run("activator", Box::pin(async move { Box::pin(serving.run(end)).await }));
        run("deployments", Box::pin(deployments::run(api.client(), deployments, token())));
        let limitless = runner.limiter.obstacle().map(str::to_owned);
        run("news", Box::pin(news::tell(api.client(), terminal.clone(), limitless, token())));
        let fetches = fetches::follow(api.client(), models, terminal.clone(), token());
        run("fetches", Box::pin(fetches));
        let (server, end) = (api.clone(), token());
        let upkeep = async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = server.broken() => {}
            }
        };
        run("upkeep of the API", Box::pin(upkeep));
        let runner = ebb_runner::run(api.client(), runner, ending.clone());
        let runner = tokio::spawn(tasks.watched("runner", &ending, runner));
        Running {
            api,
            activator,
            closing: CancellationToken::new(),
            gateway: TaskTracker::new(),
            stopping,
            control,
            ending,
            runner,
            tasks,
        }
    }
}

// === impl Running ===

impl Running {
    /// The tasks of the process: it ends when one of them ends before its time.
    pub(super) const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Returns once the activator knows every route and pod of the last run.
    pub(super) async fn synced(&self) {
        self.activator.synced().await;
    }

    /// Starts to listen.
    pub(super) fn listen(
        &self,
        listeners: Listeners,
        certificate: Certificate,
        registry: Arc<Registry>,
    ) {
        let Listeners { gateway, inner, api, admin, .. } = listeners;
        for (listener, door) in [(gateway, Door::Outer), (inner, Door::Inner)] {
            let (activator, closing) = (self.activator.clone(), self.closing.clone());
            let serving = async move { activator.serve(listener, door, closing).await };
            self.gateway.spawn(self.tasks.watched("gateway", &self.closing, serving));
        }
        let (server, stopping) = (self.api.clone(), self.stopping.clone());
        let serving = async move { server.serve(api, &certificate, stopping).await };
        self.control.spawn(self.tasks.watched("API", &self.stopping, serving));
        if let Some(listener) = admin {
            let more = ebb_activator::admin::router(self.activator.clone());
            let router = admin::router(registry, Readiness::default()).merge(more);
            let serving = admin::serve(listener, router, self.stopping.clone());
            let serving = async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "Metrics are no longer served");
                }
            };
            self.control.spawn(self.tasks.watched("admin listener", &self.stopping, serving));
        }
    }

    /// Lets requests in flight end, then the control plane, then the replicas.
    pub(super) async fn stop(self) {
        self.closing.cancel();
        self.gateway.close();
        self.gateway.wait().await;
        self.stopping.cancel();
        self.control.close();
        self.control.wait().await;
        self.ending.cancel();
        if let Err(error) = self.runner.await {
            tracing::error!(%error, "Replicas may be left; the guardian ends them");
        }
    }
}
