//! One watch and one store per kind, shared by all reconcilers.
//!
//! kube's `Controller` opens its own watches for what it owns; with four reconcilers that look at
//! each other's objects, everything would be fetched and held two or three times. Here each kind
//! is watched once; an event goes into the store first, then to the scale loop, then to the
//! queues of the reconcilers that it concerns. Invariant: whoever is told of an event finds its
//! object in the store.

use std::collections::HashSet;
use std::sync::Arc;

use ebb_api::labels;
use ebb_api::serving::{Configuration, Revision, Route, Service};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service as CoreService};
use kube::runtime::reflector::{self, ObjectRef, store::Writer};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cache::{Cache, Stored};
use crate::scribe::MANAGER;
use crate::triggers::{Outlets, Reaction};

/// The newest known objects of every kind that matters here.
#[derive(Clone)]
pub(crate) struct Stores {
    /// People's Services.
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

/// One watch and where its objects go.
pub(crate) struct Watch<K: Stored> {
    api: Api<K>,
    config: watcher::Config,
    cache: Cache<K>,
    writer: Writer<K>,
    trim: fn(&mut K),
}

// === impl Stores ===

impl Stores {
    /// Empty stores and the watches that will fill them.
    pub(crate) fn new(client: &Client) -> (Self, Watches) {
        let all = watcher::Config::default;
        let labelled = |label: &str| watcher::Config::default().labels(label);
        let (services, service_watch) = watch(client, all(), trim_fields);
        let (configurations, configuration_watch) = watch(client, all(), trim_fields);
        let (revisions, revision_watch) = watch(client, all(), trim_fields);
        let (routes, route_watch) = watch(client, all(), trim_fields);
        let (deployments, deployment_watch) =
            watch(client, labelled(labels::REVISION), trim_fields);
        let (pods, pod_watch) = watch(client, labelled(labels::REVISION), trim_pod);
        let (placeholders, placeholder_watch) = watch(client, labelled(labels::ROUTE), trim_fields);
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

    /// Waits until every store has its first full list: a reconcile before that would take what
    /// is not listed yet for missing. Fails only when a watch ended.
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
    /// Runs until `shutdown`, through any number of broken connections. `react` says who must
    /// know of an object that changed, or is gone (`true`).
    pub(crate) async fn run(
        mut self,
        react: impl Fn(&K, bool) -> Reaction,
        mut outlets: Outlets,
        shutdown: CancellationToken,
    ) {
        let stream = watcher(self.api.clone(), self.config.clone())
            .default_backoff()
            .into_stream()
            .take_until(shutdown.cancelled_owned());
        futures::pin_mut!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => {
                    for (object, gone) in self.absorb(event) {
                        outlets.send(react(&object, gone)).await;
                    }
                }
                Err(error) => warn!(%error, kind = %K::kind(&()), "Watch failed, trying again"),
            }
        }
    }

    /// Puts the event into the store; answers which objects changed or, if `true`, are gone.
    fn absorb(&mut self, mut event: watcher::Event<K>) -> Vec<(Arc<K>, bool)> {
        if let watcher::Event::Apply(object)
        | watcher::Event::InitApply(object)
        | watcher::Event::Delete(object) = &mut event
        {
            (self.trim)(object);
        }
        let relisted = matches!(event, watcher::Event::InitDone);
        let before = if relisted { self.cache.store().state() } else { Vec::new() };
        self.writer.apply_watcher_event(&event);
        self.cache.saw(&event);
        match event {
            watcher::Event::Apply(object) => vec![(Arc::new(object), false)],
            watcher::Event::Delete(object) => vec![(Arc::new(object), true)],
            watcher::Event::InitDone => {
                let after = self.cache.store().state();
                let listed: HashSet<_> = after.iter().map(|k| ObjectRef::from_obj(&**k)).collect();
                before
                    .into_iter()
                    .filter(|object| !listed.contains(&ObjectRef::from_obj(&**object)))
                    .map(|object| (object, true))
                    .chain(after.iter().map(|object| (object.clone(), false)))
                    .collect()
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => Vec::new(),
        }
    }
}

fn watch<K: Stored>(
    client: &Client,
    config: watcher::Config,
    trim: fn(&mut K),
) -> (Cache<K>, Watch<K>) {
    let (store, writer) = reflector::store();
    let cache = Cache::new(store);
    let watch = Watch { api: Api::all(client.clone()), config, cache: cache.clone(), writer, trim };
    (cache, watch)
}

/// Which fields others manage is of no interest here and would only be carried about.
fn trim_fields<K: Stored>(object: &mut K) {
    if let Some(fields) = &mut object.meta_mut().managed_fields {
        fields.retain(|entry| entry.manager.as_deref() == Some(MANAGER));
    }
}

/// Only the status of a pod is read here; its spec is the larger part.
fn trim_pod(pod: &mut Pod) {
    pod.spec = None;
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = None;
}
