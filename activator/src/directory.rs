//! All routes, revisions and pods known from the watches, and the host table made of them.
//!
//! A client's request reads only the table, through one atomic pointer; a peer's request finds its
//! revision by name. Everything else is for the watches, orders, the ticker and people.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use ebb_api::config::{Feature, FeaturesConfig, Flag, NetworkConfig};
use ebb_api::names;
use ebb_api::report::RevisionKey;
use ebb_api::serving;
use http::HeaderValue;
use k8s_openapi::api::core::v1 as core;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::arrivals::Arrivals;
use crate::dispatch::PodUid;
use crate::gate::Gate;
use crate::meters::Bound;
use crate::models;
use crate::pod::PodFacts;
use crate::revision::{Revision, RevisionContext};
use crate::route::{self, Door, RouteClaims, RouteFacts, RouteTable};
use crate::settings::Settings;

/// With this many revisions known, an order adds no further one: more than the autoscaler scales.
const ORDERED_MAX: usize = 25_000;

/// A change that a watch reports.
#[derive(Debug, Clone)]
pub enum WatchChange<K> {
    /// The object is new or changed.
    Applied(K),
    /// The object is gone.
    Deleted(K),
    /// The complete set of objects, after a list, when deletions may have been missed.
    Replaced(Vec<K>),
}

/// The names of the models host.
struct ModelsHosts {
    /// The one under the domain of Routes.
    external: String,
    /// Whether the outer door has it: nobody outside can look up a name in the cluster's own domain.
    is_public: bool,
    /// Those of the core/v1 Service that leads to the inner door.
    inner: [String; 3],
}

/// The state of the world.
pub(crate) struct Directory {
    context: Arc<RevisionContext>,
    revisions: DashMap<RevisionKey, Arc<Revision>>,
    table: ArcSwap<RouteTable<Arc<Revision>>>,
    models_hosts: ArcSwap<ModelsHosts>,
    /// The namespace that Ebb runs in.
    system: String,
    /// Whether a header may choose a tag of the host's Route.
    heeds_tags: AtomicBool,
    /// Who may use the models host.
    pub(crate) gate: Gate,
    /// For requests that came before their host or revision was known.
    pub(crate) arrivals: Arrivals,
    /// The claims that the table is made from. This lock is held for each change of the table.
    routes: Mutex<RouteClaims<Arc<Revision>>>,
    /// The revision of each pod: a label can change, and a deletion must find its pod.
    pods: Mutex<HashMap<PodUid, RevisionKey>>,
}

// === impl ModelsHosts ===

impl ModelsHosts {
    fn of(network: &NetworkConfig, system: &str) -> Self {
        let domain = network.domain.split(':').next().unwrap_or_default();
        let external = format!("{}.{domain}", models::HOST).to_ascii_lowercase();
        Self {
            is_public: !route::is_inside(&external, &network.cluster_domain),
            external,
            inner: names::cluster_local_hosts(models::HOST, system, &network.cluster_domain),
        }
    }

    fn has(&self, host: &str, door: Door) -> bool {
        let is_external = self.external == host;
        match door {
            Door::Outer => is_external && self.is_public,
            Door::Inner => is_external || self.inner.iter().any(|inner| inner == host),
        }
    }
}

// === impl WatchChange ===

impl<K> WatchChange<K> {
    /// The same change with `keep` applied to each object; an object for which `keep` returns
    /// `None` is left out.
    pub(crate) fn filter_map<T>(self, keep: impl Fn(K) -> Option<T>) -> Option<WatchChange<T>> {
        match self {
            Self::Applied(object) => keep(object).map(WatchChange::Applied),
            Self::Deleted(object) => keep(object).map(WatchChange::Deleted),
            Self::Replaced(all) => {
                Some(WatchChange::Replaced(all.into_iter().filter_map(keep).collect()))
            }
        }
    }
}

// === impl Directory ===

impl Directory {
    /// An empty world.
    pub(crate) fn new(
        context: Arc<RevisionContext>,
        network: &NetworkConfig,
        system: String,
    ) -> Self {
        let cluster_domain = network.cluster_domain.clone();
        Self {
            models_hosts: ArcSwap::from_pointee(ModelsHosts::of(network, &system)),
            system,
            heeds_tags: AtomicBool::new(false),
            arrivals: Arrivals::new(context.meters.overflows_of(Bound::News)),
            gate: Gate::new(Arc::clone(&context)),
            context,
            revisions: DashMap::new(),
            table: ArcSwap::default(),
            routes: Mutex::new(RouteClaims::new(cluster_domain)),
            pods: Mutex::default(),
        }
    }

    /// The namespace that Ebb runs in.
    pub(crate) fn system(&self) -> &str {
        &self.system
    }

    /// The revision for a request to `host` through `door`, with this header of a tag.
    pub(crate) fn route(
        &self,
        host: &str,
        door: Door,
        tag: Option<&HeaderValue>,
        random: u64,
    ) -> Option<Arc<Revision>> {
        // Most requests have none, and need not look at the setting.
        let tag = tag.filter(|_| self.heeds_tags.load(Ordering::Relaxed));
        let tag = tag.and_then(|tag| tag.to_str().ok());
        self.table.load().pick(host, door, tag, random).cloned()
    }

    /// Takes a change of the features.
    pub(crate) fn change_features(&self, features: &FeaturesConfig) {
        let heeds_tags = features.get(Feature::TagHeaderBasedRouting) == Flag::Enabled;
        self.heeds_tags.store(heeds_tags, Ordering::Relaxed);
    }

    /// The table of this moment.
    pub(crate) fn table(&self) -> Arc<RouteTable<Arc<Revision>>> {
        self.table.load_full()
    }

    /// Whether a request to `host` through `door` is for one of the models.
    pub(crate) fn is_models_host(&self, host: &str, door: Door) -> bool {
        self.models_hosts.load().has(host, door)
    }

    /// The revision of that name, if it was ever mentioned.
    pub(crate) fn revision(&self, key: &RevisionKey) -> Option<Arc<Revision>> {
        self.revisions.get(key).map(|entry| Arc::clone(&entry))
    }

    /// All revisions.
    pub(crate) fn revisions(&self) -> Vec<Arc<Revision>> {
        self.revisions.iter().map(|entry| Arc::clone(&entry)).collect()
    }

    /// The revisions that have, or may have, something to report.
    pub(crate) fn active_revisions(&self) -> Vec<Arc<Revision>> {
        let active = self.revisions.iter().filter(|entry| entry.is_active());
        active.map(|entry| Arc::clone(&entry)).collect()
    }

    /// Takes changes of Routes; one table is published for all of them.
    pub(crate) fn change_routes(&self, changes: impl IntoIterator<Item = WatchChange<RouteFacts>>) {
        let mut routes = self.routes.lock();
        let mut resolve = |key: &RevisionKey| self.entry(key);
        let mut differs = false;
        for change in changes {
            differs |= match change {
                WatchChange::Applied(facts) => routes.set(facts, &mut resolve),
                WatchChange::Deleted(facts) => {
                    let (namespace, name) = facts.key();
                    routes.remove(namespace, name)
                }
                WatchChange::Replaced(all) => routes.replace(all, &mut resolve),
            };
        }
        if differs {
            self.publish(&routes);
        }
    }

    /// Takes a change of the domains.
    pub(crate) fn change_network(&self, network: &NetworkConfig) {
        self.models_hosts.store(Arc::new(ModelsHosts::of(network, &self.system)));
        let mut routes = self.routes.lock();
        if routes.set_cluster_domain(&network.cluster_domain, &mut |key| self.entry(key)) {
            self.publish(&routes);
        }
    }

    /// Takes a change of Revisions.
    pub(crate) fn change_revisions(&self, change: WatchChange<serving::Revision>) {
        let now = Instant::now();
        match change {
            WatchChange::Applied(object) => self.appear(&object, now),
            WatchChange::Deleted(object) => {
                if let Some(revision) = key_of(&object).and_then(|key| self.revision(&key)) {
                    revision.disappear();
                }
            }
            WatchChange::Replaced(all) => {
                let keys: HashSet<_> = all.iter().filter_map(key_of).collect();
                for revision in self.revisions() {
                    if !keys.contains(&revision.key) {
                        revision.disappear();
                    }
                }
                for object in &all {
                    self.appear(object, now);
                }
            }
        }
    }

    /// Takes a change of Pods.
    pub(crate) fn change_pods(&self, change: WatchChange<core::Pod>) {
        let now = Instant::now();
        // A pod can lose its owner or a label, and then it is as good as gone.
        let lost = |pod: &core::Pod| {
            if let Some(uid) = pod.metadata.uid.as_deref() {
                self.remove_pod(uid, now);
            }
        };
        match change {
            WatchChange::Applied(pod) => match PodFacts::of(&pod) {
                Some(facts) => self.observe_pod(facts, now),
                None => lost(&pod),
            },
            WatchChange::Deleted(pod) => lost(&pod),
            WatchChange::Replaced(all) => {
                let all: Vec<_> = all.iter().filter_map(PodFacts::of).collect();
                let gone: Vec<PodUid> = {
                    let stay: HashSet<_> = all.iter().map(|facts| &facts.uid).collect();
                    let pods = self.pods.lock();
                    pods.keys().filter(|uid| !stay.contains(uid)).cloned().collect()
                };
                for uid in gone {
                    self.remove_pod(&uid, now);
                }
                for facts in all {
                    self.observe_pod(facts, now);
                }
            }
        }
    }

    /// Whether a pod of a revision is known.
    pub(crate) fn knows_pod(&self, uid: &str) -> bool {
        self.pods.lock().contains_key(uid)
    }

    /// The revision that an order is for, even if it is not known yet: the order may be quicker
    /// than the watches, and a pod that it names must then come up drained. `None` when there are
    /// too many revisions.
    pub(crate) fn ordered(&self, key: &RevisionKey) -> Option<Arc<Revision>> {
        let known = self.revision(key);
        known.or_else(|| (self.revisions.len() < ORDERED_MAX).then(|| self.entry(key)))
    }

    /// Drops revisions that nothing refers to any more.
    pub(crate) fn sweep(&self, now: Instant) {
        // The map's own reference is one; the table, requests and probes hold the others.
        self.revisions
            .retain(|_, revision| Arc::strong_count(revision) > 1 || !revision.is_forgotten(now));
    }

    fn appear(&self, object: &serving::Revision, now: Instant) {
        if let Some(key) = key_of(object) {
            self.entry(&key).appear(Settings::of(object, &self.context.config.borrow()), now);
            self.arrivals.tell();
        }
    }

    fn observe_pod(&self, facts: PodFacts, now: Instant) {
        let before = self.pods.lock().insert(Arc::clone(&facts.uid), facts.revision.clone());
        if let Some(other) = before.filter(|key| *key != facts.revision)
            && let Some(revision) = self.revision(&other)
        {
            revision.remove_pod(&facts.uid, now);
        }
        self.entry(&facts.revision).observe_pod(facts, now);
    }

    fn remove_pod(&self, uid: &str, now: Instant) {
        let key = self.pods.lock().remove(uid);
        if let Some(revision) = key.and_then(|key| self.revision(&key)) {
            revision.remove_pod(uid, now);
        }
    }

    fn entry(&self, key: &RevisionKey) -> Arc<Revision> {
        if let Some(revision) = self.revision(key) {
            return revision;
        }
        let fresh =
            || Arc::new(Revision::new(key.clone(), Arc::clone(&self.context), Instant::now()));
        Arc::clone(&self.revisions.entry(key.clone()).or_insert_with(fresh))
    }

    fn publish(&self, routes: &RouteClaims<Arc<Revision>>) {
        let table = routes.table();
        tracing::debug!(hosts = table.len(), "Host table changed");
        self.table.store(Arc::new(table));
        self.arrivals.tell();
    }
}

fn key_of(object: &serving::Revision) -> Option<RevisionKey> {
    let meta = &object.metadata;
    Some(RevisionKey::new(meta.namespace.clone()?, meta.name.clone()?))
}
