//! The watches: Routes, Revisions, Pods of revisions and Pods of activators, kept up for as long as
//! the process runs; and the Secret of API keys, for as long as the settings name one.

use std::sync::Arc;

use ebb_api::config::Config;
use ebb_api::labels;
use ebb_api::pod::WatchedPod;
use ebb_api::serving::{Revision, Route};
use ebb_daemon::pauses::WatchPauses;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::directory::{Directory, WatchChange};
use crate::peers::Peers;
use crate::route::RouteFacts;
use crate::standstill::Standstill;
use crate::synced::{Synced, Watched};

mod backlog;

/// Events taken at once when many are there, so that a burst builds the host table once.
const CHUNK: usize = 256;

/// Watches until dropped. It ends only by a bug: when one of the watches has ended.
pub(crate) async fn run(
    client: Client,
    directory: &Directory,
    synced: &Synced,
    standstill: &Standstill,
) {
    let everything = watcher::Config::default();
    let failed = || directory.arrivals.watch_failed(Instant::now());
    let routes = watcher(Api::<Route>::all(client.clone()), everything.clone());
    let routes = changes(routes, "Route", failed);
    let revisions = watcher(Api::<Revision>::all(client.clone()), everything);
    let revisions = changes(revisions, "Revision", failed);
    let watch_routes = async {
        let mut routes = std::pin::pin!(routes.ready_chunks(CHUNK));
        while let Some(chunk) = routes.next().await {
            let listed = chunk.iter().any(|change| matches!(change, WatchChange::Replaced(_)));
            let facts = chunk
                .into_iter()
                .filter_map(|change| change.filter_map(|route| RouteFacts::of(&route)));
            directory.change_routes(facts);
            synced.note(Watched::Routes, listed);
        }
    };
    let watch_revisions = async {
        let mut revisions = std::pin::pin!(revisions);
        while let Some(change) = revisions.next().await {
            let listed = matches!(change, WatchChange::Replaced(_));
            directory.change_revisions(change);
            synced.note(Watched::Revisions, listed);
        }
    };
    let watch_pods = async {
        loop {
            let stops = standstill.stops();
            tokio::select! {
                biased;
                () = standstill.stood(stops) => {
                    tracing::warn!("This process stood still for seconds: pods are listed anew");
                }
                () = follow_pods(client.clone(), directory, synced, standstill) => return,
            }
        }
    };
    tokio::select! {
        biased;
        () = watch_routes => {}
        () = watch_revisions => {}
        () = watch_pods => {}
    }
}

/// Watches the pods of revisions until dropped.
async fn follow_pods(
    client: Client,
    directory: &Directory,
    synced: &Synced,
    standstill: &Standstill,
) {
    let stops = standstill.stops();
    let of_revisions = watcher::Config::default().labels(labels::REVISION);
    let pods = pod_changes(watcher(Api::all(client), of_revisions), "Pod");
    let mut pods = std::pin::pin!(pods.ready_chunks(CHUNK));
    let is_known = |uid: &str| directory.knows_pod(uid);
    while let Some(chunk) = backlog::whole(pods.as_mut(), is_known).await {
        let listed = chunk.iter().any(|change| matches!(change, WatchChange::Replaced(_)));
        for change in backlog::latest(chunk) {
            directory.change_pods(change);
        }
        synced.note(Watched::Pods, listed);
        if listed {
            standstill.listed(stops);
        }
    }
}

/// Watches the pods of the activators until dropped.
pub(crate) async fn run_peers(client: Client, peers: &Peers, synced: &Synced) {
    let options = peers.options();
    let activators = watcher::Config::default().labels(&options.selector);
    let pods = watcher(Api::namespaced(client, &options.namespace), activators);
    let mut pods = std::pin::pin!(pod_changes(pods, "Pod of an activator"));
    while let Some(change) = pods.next().await {
        let listed = matches!(change, WatchChange::Replaced(_));
        peers.change(change);
        synced.note(Watched::Peers, listed);
    }
}

/// Follows what the settings say of hosts and tags, until dropped.
pub(crate) async fn run_network(directory: &Directory, mut config: watch::Receiver<Arc<Config>>) {
    directory.change_features(&config.borrow().features);
    while config.changed().await.is_ok() {
        let settings = Arc::clone(&config.borrow_and_update());
        directory.change_network(&settings.network);
        directory.change_features(&settings.features);
    }
}

/// Follows the Secret of API keys that the settings name, in `namespace`, until dropped.
pub(crate) async fn run_keys(
    client: Client,
    namespace: &str,
    directory: &Directory,
    mut config: watch::Receiver<Arc<Config>>,
) {
    loop {
        let models = config.borrow_and_update().models.clone();
        let name = &models.api_keys_secret;
        if models.is_unreadable {
            directory.gate.shut();
        } else {
            directory.gate.ask_for(name.as_deref());
        }
        let following = async {
            match name {
                Some(name) => follow_secret(client.clone(), namespace, name, directory).await,
                None => std::future::pending().await,
            }
        };
        let another = async {
            let is_another = |config: &Arc<Config>| config.models != models;
            if config.wait_for(is_another).await.is_err() {
                // The settings no longer change.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = another => {}
            () = following => return,
        }
    }
}

async fn follow_secret(client: Client, namespace: &str, name: &str, directory: &Directory) {
    // The field makes it a list that a right to read this one Secret is enough for.
    let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let secrets = watcher(Api::<Secret>::namespaced(client, namespace), one);
    let mut secrets = std::pin::pin!(changes(secrets, "Secret of API keys", || {}));
    while let Some(change) = secrets.next().await {
        match change {
            WatchChange::Applied(secret) => directory.gate.change(Some(&secret)),
            WatchChange::Deleted(_) => directory.gate.change(None),
            WatchChange::Replaced(all) => directory.gate.change(all.first()),
        }
    }
}

/// The changes of pods that a watcher reports.
fn pod_changes(
    events: impl Stream<Item = watcher::Result<watcher::Event<WatchedPod>>> + Send,
    kind: &'static str,
) -> impl Stream<Item = WatchChange<Pod>> + Send {
    changes(events, kind, || {})
        .filter_map(|change| std::future::ready(change.filter_map(|WatchedPod(pod)| Some(pod))))
}

/// The changes that a watcher reports; a list becomes one [`WatchChange::Replaced`]. `failed` is
/// called whenever the watch fails.
fn changes<K: kube::ResourceExt + Send + 'static>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    kind: &'static str,
    failed: impl Fn() + Send,
) -> impl Stream<Item = WatchChange<K>> + Send {
    let mut listed = Vec::new();
    events.backoff(WatchPauses::default()).filter_map(move |event| {
        let change = match event {
            Ok(watcher::Event::Apply(object)) => Some(WatchChange::Applied(object)),
            Ok(watcher::Event::Delete(object)) => Some(WatchChange::Deleted(object)),
            Ok(watcher::Event::Init) => {
                listed.clear();
                None
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.push(object);
                None
            }
            Ok(watcher::Event::InitDone) => {
                Some(WatchChange::Replaced(std::mem::take(&mut listed)))
            }
            Err(error) => {
                tracing::warn!(%error, object.kind = kind, "Watch failed; it is tried again");
                failed();
                None
            }
        };
        std::future::ready(change)
    })
}
