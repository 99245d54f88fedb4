//! The host table: which revisions get the requests of a host, and in what proportion.
//!
//! Pure: made from the facts of all Routes. Each change makes another table, which shares with the
//! earlier one all that did not change; a table itself never changes. A request's revision follows
//! from its host, the door that it came through and a random number alone, never from a header of
//! the client.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebb_api::labels;
use ebb_api::names;
use ebb_api::report::RevisionKey;
use ebb_api::serving::Route;
use rpds::HashTrieMapSync;

mod claims;
mod host;

pub use claims::RouteClaims;
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

/// What one address of a Route asks for: its own, or that of a tag.
struct Address {
    /// Each host, and whether the outer door knows it.
    hosts: Vec<(String, bool)>,
    /// Revisions, each with its share.
    shares: Vec<(u32, RevisionKey)>,
}

/// Host to revisions; `T` stands for a revision. A clone costs nothing.
#[derive(Debug)]
pub struct RouteTable<T> {
    hosts: HashTrieMapSync<Arc<str>, Entry<T>>,
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

    /// Its addresses in a cluster of this domain, the ones that matter most first.
    fn addresses(&self, cluster_domain: &str) -> Vec<Address> {
        let hosts = |name: &str, url: Option<&str>| {
            let local = names::cluster_local_hosts(name, &self.namespace, cluster_domain);
            // Where no domain is set for a Route, its URL lies in the cluster's own.
            let is_public = |host: &str| !self.is_private && !is_inside(host, cluster_domain);
            let url = url.map(|host| (host.to_owned(), is_public(host)));
            local.map(|host| (host, false)).into_iter().chain(url).collect()
        };
        let main = Address {
            hosts: hosts(&self.name, self.host.as_deref()),
            shares: self.targets.iter().map(|t| (t.percent, t.revision.clone())).collect(),
        };
        let tagged = self.targets.iter().filter_map(|target| {
            let tag = target.tag.as_ref()?;
            Some(Address {
                hosts: hosts(&names::tag(&tag.name, &self.name), tag.host.as_deref()),
                shares: vec![(1, target.revision.clone())],
            })
        });
        std::iter::once(main).chain(tagged).collect()
    }
}

// === impl RouteTable ===

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { hosts: HashTrieMapSync::new_sync() }
    }
}

impl<T> Clone for RouteTable<T> {
    fn clone(&self) -> Self {
        Self { hosts: self.hosts.clone() }
    }
}

impl<T> RouteTable<T> {
    /// The revision for a request to `host` (normalised) that came through `door`; `random` decides
    /// between several. A host that is not for the door is like one that does not exist.
    pub fn pick(&self, host: &str, door: Door, random: u64) -> Option<&T> {
        let entry = self.hosts.get(host)?;
        (door == Door::Inner || entry.is_public).then(|| entry.split.pick(random))
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.hosts.size()
    }

    /// Whether there is no host at all.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

// === impl Entry ===

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { split: Arc::clone(&self.split), is_public: self.is_public }
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
