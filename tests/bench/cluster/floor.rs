//! Bare Deployments: the time that Kubernetes itself needs for the pod that Ebb makes.
//!
//! Both sides are probed as Knative's default has it, and neither mounts a service account's token
//! unless the token is what is measured: kubelet looks for mounted volumes every 300 ms, so a token
//! alone makes any first start some 0.3 s longer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use ebb_tests::PATIENCE;
use ebb_tests::client::Client;
use ebb_tests::manifest::image;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::Site;

/// Label by which the pods of bare Deployments are found.
const LABEL: &str = "bench.ebb.dev/bare";
/// Port of the backend.
const PORT: u16 = 8080;
/// Pause between two attempts to connect.
const DIAL_PAUSE: Duration = Duration::from_millis(1);
/// Watches end after this at the latest; no measurement takes so long.
const WATCH_SECONDS: u32 = 280;

/// Whether pods can call the API of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Kubernetes' default.
    Mounted,
    /// `automountServiceAccountToken: false`, for a model that never calls that API.
    None,
}

/// Bare Deployments of the backend.
pub(super) struct Floor<'a> {
    site: &'a Site,
    deployments: Api<Deployment>,
    pods: Api<Pod>,
}

impl<'a> Floor<'a> {
    pub(super) fn new(site: &'a Site) -> Self {
        let (client, namespace) = (site.client.clone(), &site.namespace);
        Self {
            site,
            deployments: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client, namespace),
        }
    }

    pub(super) async fn create(
        &self,
        name: &str,
        replicas: i32,
        token: Token,
    ) -> anyhow::Result<()> {
        let deployment: Deployment = serde_json::from_value(deployment(name, replicas, token))?;
        self.deployments.create(&PostParams::default(), &deployment).await?;
        Ok(())
    }

    pub(super) async fn scale(&self, name: &str, replicas: i32) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.deployments.patch_scale(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    pub(super) async fn delete_all(&self) -> anyhow::Result<()> {
        let all = ListParams::default().labels(LABEL);
        self.deployments.delete_collection(&DeleteParams::background(), &all).await?;
        self.gone().await;
        Ok(())
    }

    /// Waits until no bare pod is left.
    pub(super) async fn gone(&self) {
        let all = ListParams::default().labels(LABEL);
        ebb_tests::eventually("the bare pods go", || async {
            sleep(Duration::from_millis(200)).await;
            self.pods.list(&all).await.ok()?.items.is_empty().then_some(())
        })
        .await;
        sleep(super::REST).await;
    }

    /// Scales all Deployments from zero at once. Returns how long each took to answer.
    pub(super) async fn wake(&self, names: &[String]) -> anyhow::Result<Vec<Duration>> {
        let all = WatchParams::default().labels(LABEL).timeout(WATCH_SECONDS);
        let version = self.pods.list(&ListParams::default().labels(LABEL)).await?;
        let version = version.metadata.resource_version.unwrap_or_default();
        let mut events = self.pods.watch(&all, &version).await?.boxed();
        let began = Instant::now();
        let scaling = futures::future::try_join_all(names.iter().map(|name| self.scale(name, 1)));
        let answers = async {
            let mut answering = HashMap::new();
            while answering.len() < names.len() {
                let event = events.try_next().await?.context("the watch of pods ended")?;
                let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
                let Some((name, address)) = addressed(&pod) else { continue };
                answering.entry(name).or_insert_with(|| tokio::spawn(answered(address, began)));
            }
            let ended = futures::future::try_join_all(answering.into_values()).await?;
            ended.into_iter().collect::<anyhow::Result<Vec<_>>>()
        };
        let (scaled, times) = futures::join!(scaling, answers);
        scaled?;
        times
    }

    /// Waits until `count` Deployments have their replica.
    pub(super) async fn available(&self, count: usize) -> anyhow::Result<()> {
        let all = ListParams::default().labels(LABEL);
        let is_available = |deployment: &Deployment| {
            deployment.status.as_ref().and_then(|status| status.available_replicas) == Some(1)
        };
        super::bursts::until(&self.site.client, &self.site.namespace, &all, count, is_available)
            .await
    }
}

fn addressed(pod: &Pod) -> Option<(String, SocketAddr)> {
    let name = pod.metadata.labels.as_ref()?.get(LABEL)?.clone();
    let address: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some((name, SocketAddr::new(address, PORT)))
}

/// How long after `began` a backend answered.
async fn answered(address: SocketAddr, began: Instant) -> anyhow::Result<Duration> {
    let connected = async {
        while TcpStream::connect(address).await.is_err() {
            sleep(DIAL_PAUSE).await;
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.context("a bare pod never listened")?;
    let answer = Client::new(address).get("bare", "/").await?;
    anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
    Ok(began.elapsed())
}

fn deployment(name: &str, replicas: i32, token: Token) -> Value {
    json!({
        "metadata": {"name": name, "labels": {LABEL: name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {LABEL: name}},
            "template": {
                "metadata": {"labels": {LABEL: name}},
                "spec": {
                    "automountServiceAccountToken": token == Token::Mounted,
                    "enableServiceLinks": false,
                    "terminationGracePeriodSeconds": 3,
                    "containers": [{
                        "name": "backend",
                        "image": image("ebb-backend"),
                        "ports": [{"containerPort": PORT}],
                        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}
