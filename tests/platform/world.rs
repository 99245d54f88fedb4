//! The platform, put together for a simulation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ebb_activator::route::Door;
use ebb_activator::{Activator, ActivatorOptions, Limits, ReportSink};
use ebb_api::config::{AutoscalerConfig, Config};
use ebb_api::report::{DrainOrder, Report};
use ebb_api::serving::Revision;
use ebb_api::serving::Service;
use ebb_apiserver::ApiServer;
use ebb_autoscaler::{Autoscaler, AutoscalerOptions, DrainControl, Intake, Roster};
use ebb_controller::{Controller, ControllerOptions};
use ebb_local::deployments::{self, DeploymentOptions};
use ebb_local::platform::api_options;
use ebb_runner::Ports;
use futures::StreamExt as _;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::kubelet::Machines;
use crate::latency;
use crate::seed::Chance;

/// Knative's smallest window: the decision to sleep comes soonest.
const WINDOW: Duration = Duration::from_secs(6);
/// Time after which an Event reports a scale that is held up: the same as on a cluster.
pub(crate) const UNHEARD_NOTICE: Duration = Duration::from_mins(10);

/// A platform that runs.
pub(crate) struct World {
    pub(crate) machines: Machines,
    api: ApiServer,
    /// By index; the autoscaler knows them as `activator-0` and so on.
    activators: Vec<Activator>,
    /// For each activator, whether it is cut off from the autoscaler.
    cut: Arc<Vec<AtomicBool>>,
    /// Revision → the scale that the autoscaler wants, as the API has it.
    desired: watch::Sender<BTreeMap<String, i32>>,
    stop: CancellationToken,
}

struct Up {
    intake: Intake,
    index: usize,
    cut: Arc<Vec<AtomicBool>>,
}

struct Down {
    activators: Arc<OnceLock<Vec<Activator>>>,
    cut: Arc<Vec<AtomicBool>>,
}

impl ReportSink for Up {
    fn report(&self, report: Report) {
        if !self.cut[self.index].load(Ordering::Relaxed) {
            self.intake.record(report);
        }
    }
}

impl DrainControl for Down {
    fn drain(&self, order: DrainOrder) {
        let activators = self.activators.get().into_iter().flatten().zip(self.cut.iter());
        for (activator, _) in activators.filter(|(_, cut)| !cut.load(Ordering::Relaxed)) {
            activator.drain(&order);
        }
    }
}

impl World {
    /// A platform with one activator.
    pub(crate) async fn start(chance: &Chance) -> Self {
        Self::with_activators(1, chance).await
    }

    /// A platform with several activators, each of which serves everything on its own.
    pub(crate) async fn with_activators(activators: usize, chance: &Chance) -> Self {
        let autoscaler = AutoscalerConfig {
            stable_window: WINDOW,
            scale_to_zero_grace_period: Duration::from_secs(1),
            ..AutoscalerConfig::default()
        };
        let config = Config { autoscaler, ..Config::default() };
        let (publish, config) = watch::channel(Arc::new(config));
        let api = ApiServer::open(api_options(config.clone())).expect("memory cannot be in use");
        let client = || latency::client(&api, chance);
        let (machines, stop) = (Machines::new(chance), CancellationToken::new());
        let mut registry = Registry::default();

        let cut = Arc::new((0..activators).map(|_| AtomicBool::new(false)).collect::<Vec<_>>());
        let names: Vec<_> = (0..activators).map(|index| format!("activator-{index}")).collect();
        let tie = Arc::new(OnceLock::new());
        let (autoscaler, intake) = Autoscaler::new(
            AutoscalerOptions {
                client: client(),
                config: config.clone(),
                activators: Roster::Fixed(names.clone()),
                drains: Arc::new(Down { activators: Arc::clone(&tie), cut: Arc::clone(&cut) }),
                unheard_notice: UNHEARD_NOTICE,
                leads: watch::channel(Some(1)).1,
            },
            &mut registry,
        );
        let activators: Vec<_> = names
            .into_iter()
            .enumerate()
            .map(|(index, id)| {
                let options = ActivatorOptions {
                    client: client(),
                    config: config.clone(),
                    reports: Arc::new(Up { intake: intake.clone(), index, cut: Arc::clone(&cut) }),
                    observer: Arc::new(()),
                    id,
                    connect: Arc::new(machines.clone()),
                    limits: Limits::default(),
                    peers: None,
                };
                Activator::new(options, &mut Registry::default())
            })
            .collect();
        assert!(tie.set(activators.clone()).is_ok());
        let options =
            ControllerOptions { client: client(), config, gateway_host: None, model_fetcher: None };
        let controller = Controller::new(options, &mut registry);

        tokio::spawn(autoscaler.run(stop.clone()));
        tokio::spawn(controller.run(stop.clone()));
        for serving in activators.clone() {
            let end = stop.clone();
            tokio::spawn(async move { Box::pin(serving.run(end)).await });
        }
        let ports = DeploymentOptions { ports: Some(Ports::default()), scheduler: None };
        tokio::spawn(deployments::run(client(), ports, stop.clone()));
        tokio::spawn(machines.clone().keep(client()));
        let desired = watch::Sender::new(BTreeMap::new());
        tokio::spawn(follow(api.client(), desired.clone(), publish));
        for activator in &activators {
            activator.synced().await;
        }
        Self { machines, api, activators, cut, desired, stop }
    }

    /// Cuts one activator off from the autoscaler, both ways, or connects it again.
    pub(crate) fn cut(&self, activator: usize, is_cut: bool) {
        self.cut[activator].store(is_cut, Ordering::Relaxed);
    }

    /// The messages of a revision's Events.
    pub(crate) async fn notes(&self, revision: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.api.client(), "default");
        let events = events.list(&ListParams::default()).await.expect("they can be listed");
        let about = |event: &Event| event.involved_object.name.as_deref() == Some(revision);
        events.items.into_iter().filter(about).filter_map(|event| event.message).collect()
    }

    /// Deploys a service and waits until its revision is Ready.
    pub(crate) async fn deploy(&self, name: &str) {
        let services: Api<Service> = Api::namespaced(self.api.client(), "default");
        let service = json!({
            "metadata": {"name": name},
            "spec": {"template": {"spec": {"containers": [{"image": "simulated"}]}}},
        });
        let service = serde_json::from_value(service).expect("a literal");
        services.create(&PostParams::default(), &service).await.expect("it is valid");
        let ready = |service: &Service| {
            let status = service.status.as_ref()?;
            let ready = ebb_api::condition::find(&status.conditions, "Ready")?;
            ready.is_true().then_some(())
        };
        for _ in 0..600 {
            let service = services.get(name).await.expect("it exists");
            if ready(&service).is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let service = services.get(name).await.expect("it exists");
        panic!("{name} is not ready after a minute: {:?}", service.status);
    }

    /// One request on a connection of its own.
    pub(crate) async fn call(&self, service: &str) -> Result<(StatusCode, String), hyper::Error> {
        self.call_by(0, service).await
    }

    /// One request to the given activator, on a connection of its own.
    pub(crate) async fn call_by(
        &self,
        activator: usize,
        service: &str,
    ) -> Result<(StatusCode, String), hyper::Error> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let activator = self.activators[activator].clone();
        tokio::spawn(async move {
            activator.serve_connection(far, Door::Inner, ([127, 0, 0, 1], 50_000).into()).await;
        });
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get("/")
            .header(header::HOST, format!("{service}.default"))
            .body(String::new())
            .expect("a literal");
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The scale that the autoscaler wants for a revision, as the API has it.
    pub(crate) fn desired(&self, revision: &str) -> Option<i32> {
        self.desired.borrow().get(revision).copied()
    }

    /// Returns once the autoscaler wants no replica of the revision.
    pub(crate) async fn decided_to_sleep(&self, revision: &str) {
        let mut desired = self.desired.subscribe();
        let decided = desired.wait_for(|desired| desired.get(revision) == Some(&0)).await;
        assert!(decided.is_ok(), "the decisions are no longer followed");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Follows the decisions without delay: the observer is outside of the simulated network. Also
/// keeps the sender of the settings, because dropping it would end the parts.
async fn follow(
    client: Client,
    desired: watch::Sender<BTreeMap<String, i32>>,
    _publish: watch::Sender<Arc<Config>>,
) {
    let all: Api<Revision> = Api::all(client);
    let mut events =
        watcher(all, watcher::Config::default()).default_backoff().applied_objects().boxed();
    while let Some(event) = events.next().await {
        let Ok(scaled) = event else { continue };
        if let Some(scale) = scaled.status.as_ref().and_then(|status| status.desired_replicas) {
            desired.send_modify(|desired| {
                desired.insert(scaled.name_any(), scale);
            });
        }
    }
}
