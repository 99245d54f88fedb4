//! The core/v1 Services of a Route's name and of each of its tags: inside the cluster,
//! `http://NAME.NAMESPACE` then leads to the gateway's inner door, which knows the name. The label of
//! visibility on one of them is its own: it hides that host alone from the outer door. Source:
//! knative/serving pkg/reconciler/route/resources/service.go and route/visibility.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebb_api::labels;
use ebb_api::serving::Route;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use super::claims;
use crate::cache::By;
use crate::owner;
use crate::stores::Stores;

/// Port that cluster-local addresses have.
const HTTP_PORT: i32 = 80;

/// The Services of a Route, wanted and there.
#[derive(Debug, Default)]
pub(crate) struct Placeholders {
    /// By name: those that the Route wants and that are there.
    wanted: BTreeMap<String, Option<Arc<Service>>>,
    /// Those of tags that the Route has no more.
    pub(super) orphans: Vec<Arc<Service>>,
}

// === impl Placeholders ===

impl Placeholders {
    /// What the stores know of them. A tag that is in force counts as wanted until it is not: its host
    /// is served.
    pub(super) fn of(route: &Route, stores: &Stores) -> Self {
        let (namespace, name) = (route.namespace().unwrap_or_default(), route.name_any());
        let in_force = route.status.iter().flat_map(|status| &status.traffic);
        let tags = claims::tag_hosts(route, route.spec.traffic.iter().chain(in_force));
        let find = |name: String| {
            let found = stores.placeholders.get(&namespace, &name);
            (name, found)
        };
        let wanted: BTreeMap<_, _> = std::iter::once(name.clone()).chain(tags).map(find).collect();
        let mut orphans = stores.placeholders.marked(&namespace, By::Route, &name);
        orphans.retain(|it| !wanted.contains_key(&it.name_any()) && owner::controls(route, &**it));
        Self { wanted, orphans }
    }

    /// Names of hosts that a label hides from the outer door.
    pub(super) fn hidden(&self, route: &Route) -> BTreeSet<String> {
        let is_hidden = |found: &Arc<Service>| {
            owner::controls(route, &**found) && labels::is_cluster_local(found.labels())
        };
        let found = self.wanted.values().flatten().filter(|found| is_hidden(found));
        found.map(|found| found.name_any()).collect()
    }

    /// Each Service as it should be, and as it is.
    pub(super) fn build(
        &self,
        route: &Route,
        gateway_host: &str,
    ) -> Vec<(Service, Option<Arc<Service>>)> {
        let one = |(name, found): (&String, &Option<Arc<Service>>)| {
            (build(route, name, gateway_host, found.as_deref()), found.clone())
        };
        self.wanted.iter().map(one).collect()
    }
}

/// The Service, with the Route's own metadata but for its visibility. Knative copies them when it makes
/// the Service, so labels and annotations that the Route loses later stay here.
fn build(route: &Route, name: &str, gateway_host: &str, existing: Option<&Service>) -> Service {
    let mut own = existing.map(|existing| existing.labels().clone()).unwrap_or_default();
    own.extend(route.labels().clone());
    // That label is somebody else's: applied by Ebb as well, it would stay when they take it away.
    own.remove(labels::VISIBILITY);
    own.insert(labels::ROUTE.to_owned(), route.name_any());
    let mut notes = existing.map(|existing| existing.annotations().clone()).unwrap_or_default();
    notes.extend(owner::without(route.annotations(), |key| key == owner::LAST_APPLIED));
    Service {
        metadata: owner::child(route, name, own, notes),
        spec: Some(ServiceSpec {
            type_: Some("ExternalName".to_owned()),
            external_name: Some(gateway_host.to_owned()),
            ports: Some(vec![ServicePort {
                name: Some("http2".to_owned()),
                app_protocol: Some("kubernetes.io/h2c".to_owned()),
                port: HTTP_PORT,
                target_port: Some(IntOrString::Int(HTTP_PORT)),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            session_affinity: Some("None".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A Service of that name beside the Route, for an error that names it.
pub(super) fn named(route: &Route, name: &str) -> Service {
    Service {
        metadata: owner::child(route, name, BTreeMap::new(), BTreeMap::new()),
        ..Service::default()
    }
}

#[cfg(test)]
mod tests {
    use ebb_api::serving::{RouteStatus, TrafficTarget};

    use super::*;
    use crate::stores::tests::World;

    fn route(labels: &[(&str, &str)]) -> Route {
        let mut route = Route::default();
        route.metadata.name = Some("digits".to_owned());
        route.metadata.namespace = Some("default".to_owned());
        route.metadata.uid = Some("u".to_owned());
        let owned = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        route.metadata.labels = Some(owned.collect());
        route
    }

    fn tagged(tag: &str) -> Vec<TrafficTarget> {
        vec![TrafficTarget { tag: Some(tag.to_owned()), ..TrafficTarget::default() }]
    }

    fn built(route: &Route, existing: Option<&Service>) -> Service {
        build(route, "digits", "activator.ebb.svc.cluster.local", existing)
    }

    #[test]
    fn it_points_to_the_gateway_and_carries_the_routes_metadata() {
        let service = built(&route(&[(labels::SERVICE, "digits")]), None);
        assert_eq!(service.labels()[labels::ROUTE], "digits");
        assert_eq!(service.labels()[labels::SERVICE], "digits");
        let spec = service.spec.unwrap();
        assert_eq!(spec.type_.as_deref(), Some("ExternalName"));
        assert_eq!(spec.external_name.as_deref(), Some("activator.ebb.svc.cluster.local"));
    }

    #[test]
    fn a_label_that_the_route_loses_stays_and_one_that_it_gains_is_added() {
        let made = built(&route(&[("old", "1")]), None);
        let later = built(&route(&[("new", "2")]), Some(&made));
        assert_eq!(later.labels()["old"], "1");
        assert_eq!(later.labels()["new"], "2");
    }

    /// The Route may be shown again later; what somebody hid stays hidden.
    #[test]
    fn visibility_is_each_ones_own() {
        let private = (labels::VISIBILITY, labels::VISIBILITY_CLUSTER_LOCAL);
        let mut made = built(&route(&[private]), None);
        assert!(!made.labels().contains_key(labels::VISIBILITY));
        made.labels_mut().insert(private.0.to_owned(), private.1.to_owned());
        let applied = built(&route(&[]), Some(&made));
        assert!(!applied.labels().contains_key(labels::VISIBILITY), "it is not Ebb's to apply");
    }

    #[tokio::test]
    async fn each_tag_has_one_and_goes_with_it() {
        let mut world = World::new();
        let mut route = route(&[]);
        route.spec.traffic = tagged("new");
        route.status = Some(RouteStatus { traffic: tagged("leaving"), ..RouteStatus::default() });
        let mut add = |name: &str, is_own: bool, is_hidden: bool| {
            let mut service = build(&route, name, "gateway", None);
            service.metadata.namespace = Some("default".to_owned());
            if !is_own {
                service.metadata.owner_references = None;
            }
            if is_hidden {
                let value = labels::VISIBILITY_CLUSTER_LOCAL.to_owned();
                service.labels_mut().insert(labels::VISIBILITY.to_owned(), value);
            }
            world.watches.placeholders.feed(service);
        };
        add("digits", true, false);
        add("leaving-digits", true, true);
        add("gone-digits", true, true);
        add("lent-digits", false, true);
        let known = Placeholders::of(&route, &world.stores);
        let wanted: Vec<_> =
            known.wanted.iter().map(|(name, found)| (&**name, found.is_some())).collect();
        assert_eq!(wanted, [("digits", true), ("leaving-digits", true), ("new-digits", false)]);
        let orphans: Vec<_> = known.orphans.iter().map(|it| it.name_any()).collect();
        assert_eq!(orphans, ["gone-digits"]);
        assert_eq!(known.hidden(&route), ["leaving-digits".to_owned()].into());
    }
}
