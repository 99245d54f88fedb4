//! Writes to etcd: every stored change of an object is one event of a watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebb_tests::manifest::backend;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, WatchEvent, WatchParams,
};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Site;
use super::floor::Floor;
use crate::figures::{Figure, Paired};

/// How long writes may trail what caused them. Shorter than the scaling window, so that no
/// scale-down is counted.
const SETTLE: Duration = Duration::from_secs(4);
/// Every kind that changes in a namespace when a service or a Deployment is made or scaled.
const KINDS: [(&str, &str, &str); 11] = [
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "Endpoints"),
    ("", "v1", "Event"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("serving.knative.dev", "v1", "Service"),
    ("serving.knative.dev", "v1", "Configuration"),
    ("serving.knative.dev", "v1", "Route"),
    ("serving.knative.dev", "v1", "Revision"),
    ("autoscaling.internal.knative.dev", "v1alpha1", "PodAutoscaler"),
];

/// Counts the writes in a namespace while it lives.
struct Count {
    writes: Arc<AtomicU64>,
    watches: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Count {
    async fn start(site: &Site) -> anyhow::Result<Self> {
        let writes = Arc::<AtomicU64>::default();
        let mut watches = Vec::new();
        for (group, version, kind) in KINDS {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> =
                Api::namespaced_with(site.client.clone(), &site.namespace, &resource);
            let listed = api.list(&ListParams::default()).await?;
            let since = listed.metadata.resource_version.unwrap_or_default();
            let mut events = api.watch(&WatchParams::default(), &since).await?.boxed();
            let writes = writes.clone();
            watches.push(tokio::spawn(async move {
                while let Some(event) = events.try_next().await? {
                    if !matches!(event, WatchEvent::Bookmark(_) | WatchEvent::Error(_)) {
                        writes.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(())
            }));
        }
        Ok(Self { writes, watches })
    }

    /// The writes until now and a while.
    async fn end(self) -> u64 {
        sleep(SETTLE).await;
        for watch in &self.watches {
            watch.abort();
        }
        self.writes.load(Ordering::Relaxed)
    }
}

pub(super) async fn measure(site: &Site) -> anyhow::Result<Vec<Figure>> {
    let kubectl = site.ebb.kubectl();
    let floor = Floor::new(site);
    let bare = ["bare".to_owned()];

    let count = Count::start(site).await?;
    floor.create(&bare[0], 1).await?;
    floor.available(1).await?;
    let bare_created = count.end().await;
    floor.scale(&bare[0], 0).await?;
    floor.gone().await;
    let count = Count::start(site).await?;
    floor.wake(&bare).await?;
    let bare_woken = count.end().await;
    floor.delete_all().await?;

    let count = Count::start(site).await?;
    kubectl.apply(&backend("counted", &[])).await?;
    kubectl.wait_ready("counted").await?;
    let created = count.end().await;
    site.asleep("counted").await;
    sleep(SETTLE).await;
    let count = Count::start(site).await?;
    site.ebb.client().get(&site.ebb.host("counted"), "/").await?;
    let woken = count.end().await;
    kubectl.ok(&["delete", "ksvc", "counted"]).await?;
    Ok(vec![
        figure("writes for a service, beyond a Deployment's", created, bare_created, 8.0),
        figure("writes for a wake, beyond a Deployment's", woken, bare_woken, 2.0),
    ])
}

#[allow(clippy::cast_precision_loss, reason = "a few dozen")]
fn figure(name: &'static str, ours: u64, bare: u64, goal: f64) -> Figure {
    Figure {
        name,
        value: ours as f64 - bare as f64,
        unit: "writes",
        goal: Some(goal),
        paired: Some(Paired { name: "bare", value: bare as f64, unit: "writes" }),
    }
}
