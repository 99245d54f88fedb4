//! Writes to etcd: every stored change of an object is one revision there, and one event of a
//! watch. All kinds of a namespace are watched, so nothing that anybody writes there is missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ebb_tests::manifest::service;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::discovery::{ApiCapabilities, ApiGroup, Discovery, Scope, verbs};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Site;
use super::floor::{Floor, Token};
use crate::figures::{Figure, Paired, median};

/// How long writes may trail their cause: a status that is not urgent waits up to 5 s for the next.
/// Shorter than [`WINDOW`], so that no scale-down is counted.
const SETTLE: Duration = Duration::from_secs(12);
/// How long a counted service stays awake.
const WINDOW: &str = "autoscaling.knative.dev/window: 30s";
/// Events are served by one group for old clients and by this one for new clients: the same
/// objects, which are counted once.
const OTHER_EVENTS: &str = "events.k8s.io";

/// Rounds; odd, so that the median is one of the measured values. Counts of the same operation
/// sometimes differ by one.
const ROUNDS: usize = 3;

/// Writes of each round.
#[derive(Default)]
struct Counts {
    ours: Vec<f64>,
    bare: Vec<f64>,
}

/// Counts the writes in a namespace while it lives.
struct Count {
    writes: Arc<AtomicU64>,
    watches: Vec<JoinHandle<anyhow::Result<()>>>,
}

// === impl Counts ===

impl Counts {
    fn figure(mut self, name: &'static str, goal: f64) -> Figure {
        let (ours, bare) = (median(&mut self.ours), median(&mut self.bare));
        let paired = Paired { name: "bare", value: bare, unit: "writes" };
        Figure { name, value: ours - bare, unit: "writes", goal: Some(goal), paired: Some(paired) }
    }
}

// === impl Count ===

impl Count {
    async fn start(site: &Site) -> anyhow::Result<Self> {
        let writes = Arc::<AtomicU64>::default();
        let mut watches = Vec::new();
        for resource in kinds(&site.client).await? {
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

    /// The writes until [`SETTLE`] from now.
    #[allow(clippy::cast_precision_loss, reason = "a few dozen")]
    async fn end(self) -> f64 {
        sleep(SETTLE).await;
        for watch in &self.watches {
            watch.abort();
        }
        self.writes.load(Ordering::Relaxed) as f64
    }
}

/// The namespaced kinds that can be watched.
async fn kinds(client: &Client) -> anyhow::Result<Vec<ApiResource>> {
    let discovery = Discovery::new(client.clone()).exclude(&[OTHER_EVENTS]).run().await?;
    let kinds = discovery.groups().flat_map(ApiGroup::recommended_resources);
    let is_counted = |can: &ApiCapabilities| {
        can.scope == Scope::Namespaced && can.supports_operation(verbs::WATCH)
    };
    Ok(kinds.filter(|(_, can)| is_counted(can)).map(|(kind, _)| kind).collect())
}

pub(super) async fn measure(site: &Site) -> anyhow::Result<Vec<Figure>> {
    let (mut made, mut woken) = (Counts::default(), Counts::default());
    for _ in 0..ROUNDS {
        let (creation, wake) = bare(site).await?;
        made.bare.push(creation);
        woken.bare.push(wake);
        let (creation, wake) = ours(site).await?;
        made.ours.push(creation);
        woken.ours.push(wake);
    }
    Ok(vec![
        made.figure("writes for a service, beyond a Deployment's", 8.0),
        woken.figure("writes for a wake, beyond a Deployment's", 2.0),
    ])
}

/// Counts the writes for making a bare Deployment, and for waking it.
async fn bare(site: &Site) -> anyhow::Result<(f64, f64)> {
    let floor = Floor::new(site);
    let names = ["bare".to_owned()];
    // The objects of the previous measurement are still being deleted.
    sleep(SETTLE).await;
    let count = Count::start(site).await?;
    floor.create(&names[0], 1, Token::None).await?;
    floor.available(1).await?;
    let creation = count.end().await;
    floor.scale(&names[0], 0).await?;
    floor.gone().await;
    let count = Count::start(site).await?;
    floor.wake(&names).await?;
    let wake = count.end().await;
    floor.delete_all().await?;
    Ok((creation, wake))
}

/// Counts the writes for making a service, and for waking it.
async fn ours(site: &Site) -> anyhow::Result<(f64, f64)> {
    let kubectl = site.ebb.kubectl();
    sleep(SETTLE).await;
    let count = Count::start(site).await?;
    let quiet = "automountServiceAccountToken: false";
    kubectl.apply(&service("counted", "ebb-backend", &[], WINDOW, quiet)).await?;
    kubectl.wait_ready("counted").await?;
    let creation = count.end().await;
    site.asleep("counted").await;
    // Late writes of the scale-down must not be counted as the wake-up's.
    sleep(SETTLE).await;
    let count = Count::start(site).await?;
    site.ebb.client().get(&site.ebb.host("counted"), "/").await?;
    let wake = count.end().await;
    kubectl.ok(&["delete", "ksvc", "counted"]).await?;
    Ok((creation, wake))
}
