//! The platform that the tests run: the embedded API, Deployments and runner.

use std::sync::Arc;
use std::time::Duration;

use ebb_apiserver::{ApiOptions, ApiServer};
use ebb_runner::{Ports, RunnerOptions, guardian, run};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::deployments::{self, DeploymentOptions};

/// A platform without its autoscaler: what is under test.
pub(super) struct Platform {
    pub(super) server: ApiServer,
    pub(super) client: Client,
    pub(super) options: RunnerOptions,
    pub(super) shutdown: CancellationToken,
    pub(super) runner: JoinHandle<()>,
    pub(super) folder: tempfile::TempDir,
    _sweeper: Sweeper,
}

/// Ends what a failed test left running.
struct Sweeper(String);

impl Drop for Sweeper {
    fn drop(&mut self) {
        guardian::sweep(&self.0);
    }
}

impl Platform {
    pub(super) fn start(instance: &str) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut options = RunnerOptions::new(folder.path(), instance.to_owned());
        options.shutdown_grace = Duration::from_millis(300);
        let server = ApiServer::open(ApiOptions {
            logs: Arc::new(options.logs.clone()),
            ..ApiOptions::memory()
        })
        .expect("a server in memory");
        let client = server.client();
        let shutdown = CancellationToken::new();
        tokio::spawn(deployments::run(
            client.clone(),
            DeploymentOptions { ports: Some(Ports::default()), scheduler: None },
            shutdown.clone(),
        ));
        let runner = tokio::spawn(run(client.clone(), options.clone(), shutdown.clone()));
        Self {
            server,
            client,
            options,
            shutdown,
            runner,
            folder,
            _sweeper: Sweeper(instance.to_owned()),
        }
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    pub(super) fn deployments(&self) -> Api<Deployment> {
        Api::default_namespaced(self.client.clone())
    }

    /// Creates a Deployment of one container, `d`.
    pub(super) async fn deploy(&self, replicas: i32, container: Value) {
        let mut whole = json!({
            "name": "user-container",
            "image": "example/model",
            "ports": [{"name": "user-port", "containerPort": 8080}],
            "env": [{"name": "PORT", "value": "8080"}],
        });
        for (key, value) in container.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "d"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "d"}},
                "template": {
                    "metadata": {"labels": {"app": "d"}},
                    "spec": {"terminationGracePeriodSeconds": 5, "containers": [whole]},
                },
            },
        }))
        .expect("a deployment");
        self.deployments().create(&PostParams::default(), &deployment).await.expect("created");
    }

    pub(super) async fn scale(&self, replicas: i32) {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.deployments().patch_scale("d", &PatchParams::default(), &patch).await.expect("scaled");
    }

    /// Waits until the pods are as wanted; real time, for real processes run in it.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
        let begin = Instant::now();
        loop {
            let pods = self.pods().list(&ListParams::default()).await.expect("listed").items;
            if is_so(&pods) {
                return pods;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "not {what}: {}",
                serde_json::to_string_pretty(&pods).expect("JSON")
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the Deployment's status is as wanted: it follows its pods.
    pub(super) async fn until_status(&self, what: &str, is_so: impl Fn(&DeploymentStatus) -> bool) {
        let begin = Instant::now();
        loop {
            let deployment = self.deployments().get("d").await.expect("it is there");
            let status = deployment.status.unwrap_or_default();
            if is_so(&status) {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "not {what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the one pod's container is as wanted.
    pub(super) async fn until_container(
        &self,
        what: &str,
        is_so: impl Fn(&ContainerStatus) -> bool,
    ) -> ContainerStatus {
        let pods =
            self.until(what, |pods| pods.first().and_then(container).is_some_and(&is_so)).await;
        container(&pods[0]).expect("it has one").clone()
    }

    pub(super) async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.runner.await.expect("the runner ends well");
        self.folder
    }

    pub(super) async fn wait_for_file(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        for _ in 0..1000 {
            if let Ok(text) = std::fs::read_to_string(&path)
                && text.ends_with('\n')
            {
                return text.trim_end().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no file {name}")
    }
}

pub(super) fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    container(pod).is_some_and(|container| container.ready)
}

pub(super) fn waiting_reason(container: &ContainerStatus) -> Option<&str> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    waiting.reason.as_deref()
}

pub(super) fn waiting_message(container: &ContainerStatus) -> &str {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default()
}

pub(super) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

pub(super) fn port(pod: &Pod) -> u16 {
    let container = &pod.spec.as_ref().expect("a spec").containers[0];
    let ports = container.ports.as_ref().expect("ports");
    u16::try_from(ports[0].container_port).expect("a port")
}
