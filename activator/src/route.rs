//! The host table: which revisions get the requests of a host, and in what proportion.
//!
//! Pure: built from the facts of all Routes, replaced as a whole, never changed. A request's
//! revision follows from its host and a random number alone, never from a header of the client.

use std::collections::HashMap;
use std::sync::Arc;

use ebb_api::names;
use ebb_api::report::RevisionKey;
use ebb_api::serving::Route;

mod host;

pub use host::{HostError, normalise};

/// What the table needs of a Route; the rest of the object is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFacts {
    namespace: String,
    name: String,
    /// The host in `status.url`, if it has one yet.
    host: Option<String>,
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
    hosts: HashMap<Box<str>, Arc<Split<T>>>,
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
            let RouteFacts { namespace, name, host, targets } = route;
            let main = Split::of(targets.iter().map(|t| (t.percent, resolve(&t.revision))));
            table.claim(host.as_deref(), name, namespace, cluster_domain, main);
            for target in targets {
                let Some(tag) = &target.tag else { continue };
                let split = Split::of([(1, resolve(&target.revision))]);
                let name = names::tag(&tag.name, name);
                table.claim(tag.host.as_deref(), &name, namespace, cluster_domain, split);
            }
        }
        table
    }

    fn claim(
        &mut self,
        external: Option<&str>,
        name: &str,
        namespace: &str,
        cluster_domain: &str,
        split: Option<Split<T>>,
    ) {
        let Some(split) = split.map(Arc::new) else {
            return;
        };
        let local = names::cluster_local_hosts(name, namespace, cluster_domain);
        for host in external.map(str::to_owned).into_iter().chain(local) {
            self.hosts.entry(host.into_boxed_str()).or_insert_with(|| Arc::clone(&split));
        }
    }

    /// The revision for a request to `host` (normalised); `random` decides between several.
    pub fn pick(&self, host: &str, random: u64) -> Option<&T> {
        self.hosts.get(host).map(|split| split.pick(random))
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

#[cfg(test)]
mod tests {
    use ebb_api::serving::{RouteStatus, TrafficTarget};
    use proptest::prelude::*;

    use super::*;

    fn target(revision: &str, percent: i64, tag: Option<&str>) -> TrafficTarget {
        TrafficTarget {
            revision_name: Some(revision.to_owned()),
            percent: Some(percent),
            tag: tag.map(str::to_owned),
            url: tag.map(|tag| format!("http://{tag}-digits.default.example.com:8080")),
            ..TrafficTarget::default()
        }
    }

    fn table(traffic: Vec<TrafficTarget>) -> RouteTable<String> {
        let mut route = Route::new("digits", ebb_api::serving::RouteSpec::default());
        route.metadata.namespace = Some("default".to_owned());
        route.status = Some(RouteStatus {
            url: Some("http://digits.default.example.com:8080".to_owned()),
            traffic,
            ..RouteStatus::default()
        });
        let facts = RouteFacts::of(&route).unwrap();
        RouteTable::build([&facts], "cluster.local", |key| key.name.clone())
    }

    #[test]
    fn a_route_has_its_external_and_its_cluster_hosts_without_ports() {
        let table = table(vec![target("digits-00001", 100, None)]);
        for host in [
            "digits.default.example.com",
            "digits.default",
            "digits.default.svc",
            "digits.default.svc.cluster.local",
        ] {
            assert_eq!(table.pick(host, 7).map(String::as_str), Some("digits-00001"), "{host}");
        }
        assert_eq!(table.pick("other.default.example.com", 7), None);
    }

    #[test]
    fn a_tag_has_hosts_of_its_own_even_with_no_share() {
        let table = table(vec![target("one", 100, None), target("two", 0, Some("blue"))]);
        for host in ["blue-digits.default.example.com", "blue-digits.default.svc"] {
            assert_eq!(table.pick(host, 0).map(String::as_str), Some("two"), "{host}");
        }
        for random in 0..100 {
            assert_eq!(table.pick("digits.default", random).map(String::as_str), Some("one"));
        }
    }

    #[test]
    fn a_route_without_a_share_has_no_main_host() {
        let table = table(vec![target("two", 0, Some("blue"))]);
        assert_eq!(table.pick("digits.default", 0), None);
    }

    proptest! {
        #[test]
        fn shares_are_exact_over_all_points(first in 0_i64..=100) {
            let table = table(vec![target("one", first, None), target("two", 100 - first, None)]);
            let ones = (0..100)
                .filter(|point| table.pick("digits.default", *point).unwrap() == "one")
                .count();
            prop_assert_eq!(i64::try_from(ones).unwrap(), first);
        }
    }
}
