//! The host table: which revisions get the requests of a host, and in what proportion.
//!
//! Pure: built from the facts of all Routes, replaced as a whole, never changed. A request's
//! revision follows from its host, the door that it came through and a random number alone, never
//! from a header of the client.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ebb_api::labels;
use ebb_api::names;
use ebb_api::report::RevisionKey;
use ebb_api::serving::Route;

mod host;

pub use host::{HostError, normalise};

/// The listener that a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The one that the world reaches. It knows the external hosts of Routes that are not private.
    Outer,
    /// The one that pods of the cluster reach, and nobody else. It knows every host.
    Inner,
}

/// What the table needs of a Route; the rest of the object is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFacts {
    namespace: String,
    name: String,
    /// The host in `status.url`, if it has one yet.
    host: Option<String>,
    /// Whether its label keeps it off the outer door. The label alone is enough, for a status may
    /// be older than it.
    is_private: bool,
    targets: Vec<TargetFacts>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TargetFacts {
    revision: RevisionKey,
    percent: u32,
    tag: Option<Tag>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    name: String,
    host: Option<String>,
}

/// Host to revisions; `T` stands for a revision.
#[derive(Debug)]
pub struct RouteTable<T> {
    hosts: HashMap<Box<str>, Entry<T>>,
}

/// What a host leads to.
#[derive(Debug)]
struct Entry<T> {
    split: Arc<Split<T>>,
    /// Whether the outer door knows it.
    is_public: bool,
}

/// How the requests of one host are divided.
#[derive(Debug)]
struct Split<T> {
    /// Each revision with the sum of the shares up to and including its own.
    shares: Vec<(u32, T)>,
    total: u32,
}

// === impl RouteFacts ===

impl RouteFacts {
    /// The facts of a Route, as far as its status tells them.
    pub fn of(route: &Route) -> Option<Self> {
        let namespace = route.metadata.namespace.clone()?;
        let name = route.metadata.name.clone()?;
        let status = route.status.as_ref();
        let targets = status
            .map(|status| status.traffic.as_slice())
            .unwrap_or_default()
            .iter()
            .filter_map(|target| {
                Some(TargetFacts {
                    revision: RevisionKey::new(namespace.clone(), target.revision_name.clone()?),
                    percent: target.percent.map_or(0, |p| u32::try_from(p).unwrap_or(0)),
                    tag: target.tag.clone().map(|name| Tag {
                        name,
                        host: target.url.as_deref().and_then(host_of_url),
                    }),
                })
            })
            .collect();
        Some(Self {
            host: status.and_then(|s| s.url.as_deref()).and_then(host_of_url),
            is_private: route.metadata.labels.as_ref().is_some_and(is_private),
            namespace,
            name,
            targets,
        })
    }

    /// Namespace and name of the Route.
    pub fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    /// The revisions that this Route names.
    pub fn revisions(&self) -> impl Iterator<Item = &RevisionKey> {
        self.targets.iter().map(|target| &target.revision)
    }
}

// === impl RouteTable ===

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { hosts: HashMap::new() }
    }
}

impl<T> RouteTable<T> {
    /// The table of `routes`. When two claim a host the first in iteration order has it, so the
    /// caller must iterate in a stable order for all activators to agree.
    pub fn build<'a>(
        routes: impl IntoIterator<Item = &'a RouteFacts>,
        cluster_domain: &str,
        mut resolve: impl FnMut(&RevisionKey) -> T,
    ) -> Self {
        let mut table = Self::default();
        for route in routes {
            let main = Split::of(route.targets.iter().map(|t| (t.percent, resolve(&t.revision))));
            table.claim(route, &route.name, route.host.as_deref(), cluster_domain, main);
            for target in &route.targets {
                let Some(tag) = &target.tag else { continue };
                let split = Split::of([(1, resolve(&target.revision))]);
                let name = names::tag(&tag.name, &route.name);
                table.claim(route, &name, tag.host.as_deref(), cluster_domain, split);
            }
        }
        table
    }

    /// Gives `split` the host in `url` and the cluster-local ones of `name`, as far as they are
    /// free.
    fn claim(
        &mut self,
        route: &RouteFacts,
        name: &str,
        url: Option<&str>,
        cluster_domain: &str,
        split: Option<Split<T>>,
    ) {
        let Some(split) = split.map(Arc::new) else {
            return;
        };
        let mut claim = |host: String, is_public| {
            let entry = || Entry { split: Arc::clone(&split), is_public };
            self.hosts.entry(host.into_boxed_str()).or_insert_with(entry);
        };
        for host in names::cluster_local_hosts(name, &route.namespace, cluster_domain) {
            claim(host, false);
        }
        if let Some(host) = url {
            // Where no domain is set for a Route, its URL lies in the cluster's own.
            let is_public = !route.is_private && !is_inside(host, cluster_domain);
            claim(host.to_owned(), is_public);
        }
    }

    /// The revision for a request to `host` (normalised) that came through `door`; `random` decides
    /// between several. A host that is not for the door is like one that does not exist.
    pub fn pick(&self, host: &str, door: Door, random: u64) -> Option<&T> {
        let entry = self.hosts.get(host)?;
        (door == Door::Inner || entry.is_public).then(|| entry.split.pick(random))
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is no host at all.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

// === impl Split ===

impl<T> Split<T> {
    /// Nothing when no share is above zero.
    fn of(targets: impl IntoIterator<Item = (u32, T)>) -> Option<Self> {
        let mut total = 0_u32;
        let shares: Vec<_> = targets
            .into_iter()
            .filter(|(percent, _)| *percent > 0)
            .map(|(percent, target)| {
                total = total.saturating_add(percent);
                (total, target)
            })
            .collect();
        (total > 0).then_some(Self { shares, total })
    }

    fn pick(&self, random: u64) -> &T {
        let point = random % u64::from(self.total);
        let at = self.shares.partition_point(|(upto, _)| u64::from(*upto) <= point);
        // `point` is below the last sum, so `at` is a valid index; the clamp says so to the reader.
        &self.shares[at.min(self.shares.len() - 1)].1
    }
}

/// The normalised host of a URL. A port stands in URLs for clients only, it is no part of a host.
fn host_of_url(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    normalise(uri.authority()?.as_str()).ok().map(std::borrow::Cow::into_owned)
}

fn is_private(own: &BTreeMap<String, String>) -> bool {
    own.get(labels::VISIBILITY).is_some_and(|value| value == labels::VISIBILITY_CLUSTER_LOCAL)
}

/// Whether a host lies in the cluster's domain, which nobody outside can look up. As Knative's
/// `IsClusterLocal` in pkg/reconciler/route/domains.
fn is_inside(host: &str, cluster_domain: &str) -> bool {
    let rest = host.strip_suffix(cluster_domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests;
