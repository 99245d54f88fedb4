//! One watch and one store per kind, shared by all reconcilers.
//!
//! kube's `Controller` opens its own watches for what it owns; with four reconcilers that look at
//! each other's objects, everything would be fetched and held two or three times. Here each kind is
//! watched once. An event goes into the store first, then to the scale loop, for which a request
//! may be waiting, and only then are the reconcilers that it concerns looked up. Invariant: when
//! the scale loop or a reconciler is told of an event, the event's object is in the store already.

use ebb_api::labels;
use ebb_api::serving::{Configuration, Revision, Route, Service};
use ebb_daemon::pauses::WatchPauses;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service as CoreService};
use kube::runtime::reflector;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;
use tracing::warn;

mod kinds;

use crate::cache::{Cache, Change, Packed, Stored};
use crate::queues::{ReconcileQueues, Trigger};
use crate::scale::Fact;

/// The newest known objects of every kind that matters here.
#[derive(Clone)]
pub(crate) struct Stores {
    /// Services, made by users.
    pub(crate) services: Cache<Service>,
    /// Configurations, owned by Services or not.
    pub(crate) configurations: Cache<Configuration>,
    /// Revisions.
    pub(crate) revisions: Cache<Revision>,
    /// Routes, owned by Services or not.
    pub(crate) routes: Cache<Route>,
    /// Deployments of Revisions.
    pub(crate) deployments: Cache<Deployment>,
    /// Pods of Revisions, without their specs.
    pub(crate) pods: Cache<Pod>,
    /// core/v1 Services that stand for Routes.
    pub(crate) placeholders: Cache<CoreService>,
}

/// The watches that fill [`Stores`], not running yet.
pub(crate) struct Watches {
    pub(crate) services: Watch<Service>,
    pub(crate) configurations: Watch<Configuration>,
    pub(crate) revisions: Watch<Revision>,
    pub(crate) routes: Watch<Route>,
    pub(crate) deployments: Watch<Deployment>,
    pub(crate) pods: Watch<Pod>,
    pub(crate) placeholders: Watch<CoreService>,
}

/// One watch and the store that it fills.
pub(crate) struct Watch<K: Stored> {
    api: Api<K>,
    config: watcher::Config,
    cache: Cache<K>,
    writer: Writer<Packed<K>>,
}

// === impl Stores ===

impl Stores {
    /// Empty stores and the watches that will fill them.
    pub(crate) fn new(client: &Client) -> (Self, Watches) {
        let all = watcher::Config::default;
        let labelled = |label: &str| watcher::Config::default().labels(label);
        let (services, service_watch) = watch(client, all());
        let (configurations, configuration_watch) = watch(client, all());
        let (revisions, revision_watch) = watch(client, all());
        let (routes, route_watch) = watch(client, all());
        let (deployments, deployment_watch) = watch(client, labelled(labels::REVISION));
        let (pods, pod_watch) = watch(client, labelled(labels::REVISION));
        let (placeholders, placeholder_watch) = watch(client, labelled(labels::ROUTE));
        let stores =
            Self { services, configurations, revisions, routes, deployments, pods, placeholders };
        let watches = Watches {
            services: service_watch,
            configurations: configuration_watch,
            revisions: revision_watch,
            routes: route_watch,
            deployments: deployment_watch,
            pods: pod_watch,
            placeholders: placeholder_watch,
        };
        (stores, watches)
    }

    /// Waits until every store has its first full list: a reconcile before that would take objects
    /// that are not listed yet for missing. Fails only when a watch ended.
    pub(crate) async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.services.store().wait_until_ready().await?;
        self.configurations.store().wait_until_ready().await?;
        self.revisions.store().wait_until_ready().await?;
        self.routes.store().wait_until_ready().await?;
        self.deployments.store().wait_until_ready().await?;
        self.pods.store().wait_until_ready().await?;
        self.placeholders.store().wait_until_ready().await
    }
}

// === impl Watch ===

impl<K: Stored> Watch<K> {
    /// Runs until `shutdown`, through any number of broken connections. `fact` gives the news for
    /// the scale loop of an object that changed, or is gone (`true`); `react` gives the objects to
    /// reconcile.
    pub(crate) async fn run(
        mut self,
        fact: impl Fn(&K, bool) -> Option<Fact>,
        react: impl Fn(&K, bool) -> Vec<Trigger>,
        mut queues: ReconcileQueues,
        shutdown: CancellationToken,
    ) {
        let stream = watcher(self.api.clone(), self.config.clone())
            .backoff(WatchPauses::default())
            .into_stream()
            .take_until(shutdown.cancelled_owned());
        futures::pin_mut!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => {
                    let changes = self.cache.absorb(&mut self.writer, event);
                    tell(&changes, &fact, &react, &mut queues).await;
                }
                Err(error) => warn!(%error, kind = %K::kind(&()), "Watch failed, trying again"),
            }
        }
    }
}

/// Tells of objects that changed or are gone: first the scale loop, for which a request may be
/// waiting, then the reconcilers.
async fn tell<K: Stored>(
    changes: &[Change<K>],
    fact: impl Fn(&K, bool) -> Option<Fact>,
    react: impl Fn(&K, bool) -> Vec<Trigger>,
    queues: &mut ReconcileQueues,
) {
    for change in changes {
        if let Some(fact) = fact(&change.object(), change.gone) {
            queues.scale(fact).await;
        }
    }
    for change in changes {
        queues.reconcile(react(&change.object(), change.gone)).await;
    }
}

fn watch<K: Stored>(client: &Client, config: watcher::Config) -> (Cache<K>, Watch<K>) {
    let (store, writer) = reflector::store();
    let cache = Cache::new(store);
    let watch = Watch { api: Api::all(client.clone()), config, cache: cache.clone(), writer };
    (cache, watch)
}

#[cfg(test)]
pub(crate) mod tests;
