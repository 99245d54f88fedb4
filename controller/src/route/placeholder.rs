//! The core/v1 Service of a Route's name: inside the cluster, `http://NAME.NAMESPACE` then leads
//! to the gateway's inner door, which knows the name. Source: knative/serving
//! pkg/reconciler/route/resources/service.go.

use std::collections::BTreeMap;

use ebb_api::labels;
use ebb_api::serving::Route;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use crate::owner;

/// Port that cluster-local addresses have.
const HTTP_PORT: i32 = 80;

/// The Service, with the Route's own metadata. Knative copies them when it makes the Service, so
/// labels and annotations that the Route loses later stay here.
pub(super) fn build(route: &Route, gateway_host: &str, existing: Option<&Service>) -> Service {
    let name = route.name_any();
    let mut own = existing.map(|existing| existing.labels().clone()).unwrap_or_default();
    own.extend(route.labels().clone());
    own.insert(labels::ROUTE.to_owned(), name.clone());
    let mut notes = existing.map(|existing| existing.annotations().clone()).unwrap_or_default();
    notes.extend(owner::without(route.annotations(), |key| key == owner::LAST_APPLIED));
    Service {
        metadata: owner::child(route, &name, own, notes),
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
    use super::*;

    #[test]
    fn it_points_to_the_gateway_and_carries_the_routes_metadata() {
        let mut route = Route::default();
        route.metadata.name = Some("digits".to_owned());
        route.metadata.labels = Some([(labels::SERVICE.to_owned(), "digits".to_owned())].into());
        let service = build(&route, "activator.ebb.svc.cluster.local", None);
        assert_eq!(service.labels()[labels::ROUTE], "digits");
        assert_eq!(service.labels()[labels::SERVICE], "digits");
        let spec = service.spec.unwrap();
        assert_eq!(spec.type_.as_deref(), Some("ExternalName"));
        assert_eq!(spec.external_name.as_deref(), Some("activator.ebb.svc.cluster.local"));
    }

    #[test]
    fn a_label_that_the_route_loses_stays_and_one_that_it_gains_is_added() {
        let mut route = Route::default();
        route.metadata.name = Some("digits".to_owned());
        route.metadata.labels = Some([("old".to_owned(), "1".to_owned())].into());
        let made = build(&route, "gateway", None);
        route.metadata.labels = Some([("new".to_owned(), "2".to_owned())].into());
        let later = build(&route, "gateway", Some(&made));
        assert_eq!(later.labels()["old"], "1");
        assert_eq!(later.labels()["new"], "2");
    }
}
