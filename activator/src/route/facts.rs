//! What a Route says of its hosts, taken out of its object.

use std::borrow::Cow;
use std::sync::Arc;

use ebb_api::condition;
use ebb_api::labels;
use ebb_api::models::{self, DeclaredModel};
use ebb_api::names;
use ebb_api::report::RevisionKey;
use ebb_api::serving::{Route, RouteStatus};

use super::host::normalise;

/// Namespace and name of a Route.
pub(super) type Key = (String, String);

/// The facts of a Route that the table needs; the rest of the object is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFacts {
    namespace: String,
    name: String,
    /// The host in `status.url`, if it has one yet.
    host: Option<String>,
    /// Whether its label keeps it off the outer door. The label alone is enough, because a status
    /// may be older than the label.
    is_private: bool,
    targets: Vec<TargetFacts>,
    /// `None` where it declares none, as most Routes.
    models: Option<Box<ModelFacts>>,
}

/// What the table of models needs of a Route besides.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelFacts {
    declared: Vec<DeclaredModel>,
    created_s: i64,
    trouble: Option<Arc<str>>,
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

/// One address of a Route: its own, or that of a tag.
pub(super) struct Address {
    /// The tag that it is for.
    pub(super) tag: Option<String>,
    /// Each host, and whether the outer door knows it.
    pub(super) hosts: Vec<(String, bool)>,
    /// Revisions, each with its share.
    pub(super) shares: Vec<(u32, RevisionKey)>,
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
            is_private: route.metadata.labels.as_ref().is_some_and(labels::is_cluster_local),
            models: ModelFacts::of(route).map(Box::new),
            namespace,
            name,
            targets,
        })
    }

    /// The models that it declares.
    pub(super) fn models(&self) -> &[DeclaredModel] {
        self.models.as_ref().map_or(&[], |models| &models.declared)
    }

    /// When it was made, in seconds since 1970, and why no revision serves it, as far as that
    /// matters to its models.
    pub(super) fn standing(&self) -> (i64, Option<Arc<str>>) {
        let models = self.models.as_ref();
        models.map_or((0, None), |models| (models.created_s, models.trouble.clone()))
    }

    /// Namespace and name of the Route.
    pub fn key(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    /// Whether the outer door knows it, in a cluster of this domain.
    pub(super) fn is_public(&self, cluster_domain: &str) -> bool {
        let host = self.host.as_deref();
        !self.is_private && host.is_some_and(|host| !is_inside(host, cluster_domain))
    }

    /// Its addresses in a cluster of this domain, the ones that matter most first.
    pub(super) fn addresses(&self, cluster_domain: &str) -> Vec<Address> {
        let hosts = |name: &str, url: Option<&str>| {
            let local = names::cluster_local_hosts(name, &self.namespace, cluster_domain);
            // Where no domain is set for a Route, its URL lies in the cluster's own domain.
            let is_public = |host: &str| !self.is_private && !is_inside(host, cluster_domain);
            let url = url.map(|host| (host.to_owned(), is_public(host)));
            local.map(|host| (host, false)).into_iter().chain(url).collect()
        };
        let main = Address {
            tag: None,
            hosts: hosts(&self.name, self.host.as_deref()),
            shares: self.targets.iter().map(|t| (t.percent, t.revision.clone())).collect(),
        };
        let mut addresses = vec![main];
        for target in &self.targets {
            let Some(tag) = &target.tag else { continue };
            // A tag alone may have no share of the Route's requests.
            let share = (target.percent.max(1), target.revision.clone());
            // During a gradual rollout several Revisions have one tag.
            let same = addresses.iter_mut().find(|known| known.tag.as_ref() == Some(&tag.name));
            if let Some(same) = same {
                same.shares.push(share);
                continue;
            }
            addresses.push(Address {
                tag: Some(tag.name.clone()),
                hosts: hosts(&names::tag(&tag.name, &self.name), tag.host.as_deref()),
                shares: vec![share],
            });
        }
        addresses
    }
}

// === impl ModelFacts ===

impl ModelFacts {
    fn of(route: &Route) -> Option<Self> {
        // Admission refuses names that cannot be; without it, such a Route declares none.
        let declared = models::declared(route.metadata.annotations.as_ref()).unwrap_or_default();
        if declared.is_empty() {
            return None;
        }
        let created = route.metadata.creation_timestamp.as_ref();
        let conditions = route.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let assigned = condition::find(conditions, RouteStatus::ALL_TRAFFIC_ASSIGNED);
        // Unknown is no trouble: a first start takes its time.
        let trouble = assigned.filter(|assigned| assigned.is_false());
        Some(Self {
            declared,
            created_s: created.map_or(0, |time| time.0.as_second()),
            trouble: trouble.and_then(|it| it.message.as_deref()).map(Arc::from),
        })
    }
}

/// The normalised host of a URL. A port in a URL is for clients only and no part of the host.
fn host_of_url(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    normalise(uri.authority()?.as_str()).ok().map(Cow::into_owned)
}

/// Whether a host lies in the cluster's domain, which nobody outside can look up. As Knative's
/// `IsClusterLocal` in pkg/reconciler/route/domains.
pub(crate) fn is_inside(host: &str, cluster_domain: &str) -> bool {
    let rest = host.strip_suffix(cluster_domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
