//! The children of a Service. Source of what flows where: knative/serving
//! pkg/reconciler/service/resources.

use std::collections::BTreeMap;

use ebb_api::serving::{
    Configuration, ConfigurationSpec, Route, RouteSpec, Service, TrafficTarget,
};
use ebb_api::{annotations, labels};
use kube::ResourceExt as _;

use crate::owner;

/// Both children.
pub(super) struct Desired {
    pub(super) configuration: Configuration,
    pub(super) route: Route,
}

/// Whether the author named the next Revision.
pub(super) fn is_named(service: &Service) -> bool {
    template_name(service).is_some()
}

/// The name that the author gave to the next Revision.
pub(super) fn template_name(service: &Service) -> Option<&str> {
    let metadata = service.spec.template.metadata.as_ref()?;
    metadata.name.as_deref().filter(|name| !name.is_empty())
}

/// The Configuration of a Service.
pub(super) fn configuration(service: &Service) -> Configuration {
    let name = service.name_any();
    let mut own = own_labels(service);
    own.insert(labels::SERVICE_UID.to_owned(), service.uid().unwrap_or_default());
    let mut notes = owner::without(service.annotations(), |key| {
        key == owner::LAST_APPLIED || annotations::ROLLOUT_DURATION.0.contains(&key)
    });
    // Revisions are then born active: the Route of this name will send them requests, and
    // labelling them afterwards would be one more write each.
    notes.insert(annotations::ROUTES.to_owned(), name.clone());
    let spec = ConfigurationSpec { template: service.spec.template.clone() };
    let mut configuration = Configuration::new(&name, spec);
    configuration.metadata = owner::child(service, &name, own, notes);
    configuration
}

/// The Route of a Service.
pub(super) fn route(service: &Service) -> Route {
    let name = service.name_any();
    let notes = owner::without(service.annotations(), |key| key == owner::LAST_APPLIED);
    let spec = RouteSpec { traffic: traffic(service) };
    let mut route = Route::new(&name, spec);
    route.metadata = owner::child(service, &name, own_labels(service), notes);
    route
}

fn own_labels(service: &Service) -> BTreeMap<String, String> {
    let mut own = service.labels().clone();
    own.insert(labels::SERVICE.to_owned(), service.name_any());
    own
}

/// The split with the defaults that admission fills in, so that a Service made while the webhook
/// was down works too.
fn traffic(service: &Service) -> Vec<TrafficTarget> {
    let latest = TrafficTarget {
        latest_revision: Some(true),
        percent: Some(100),
        ..TrafficTarget::default()
    };
    let mut traffic = service.spec.traffic.clone();
    if traffic.is_empty() {
        traffic.push(latest);
    }
    for target in &mut traffic {
        let pinned = target.revision_name.as_deref().is_some_and(|name| !name.is_empty());
        if !pinned {
            target.configuration_name = Some(service.name_any());
        }
        target.latest_revision.get_or_insert(!pinned);
        // The field belongs to a status only, whatever the author wrote there.
        target.url = None;
    }
    traffic
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        let mut service = Service::default();
        service.metadata.name = Some("digits".to_owned());
        service.metadata.namespace = Some("default".to_owned());
        service.metadata.uid = Some("u".to_owned());
        service.metadata.labels = Some([("team".to_owned(), "a".to_owned())].into());
        service.metadata.annotations = Some(
            [
                (owner::LAST_APPLIED, "{}"),
                ("serving.knative.dev/rollout-duration", "60s"),
                ("serving.knative.dev/creator", "me"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        );
        service
    }

    #[test]
    fn metadata_flows_down_without_what_is_not_the_childs() {
        let configuration = configuration(&service());
        let notes = configuration.annotations();
        assert_eq!(
            notes.keys().map(String::as_str).collect::<Vec<_>>(),
            ["serving.knative.dev/creator", annotations::ROUTES]
        );
        assert_eq!(configuration.labels()["team"], "a");
        assert_eq!(configuration.labels()[labels::SERVICE], "digits");
        assert_eq!(configuration.labels()[labels::SERVICE_UID], "u");

        let route = route(&service());
        assert_eq!(
            route.annotations().keys().map(String::as_str).collect::<Vec<_>>(),
            ["serving.knative.dev/creator", "serving.knative.dev/rollout-duration"]
        );
        assert_eq!(route.labels()[labels::SERVICE], "digits");
    }

    #[test]
    fn all_traffic_goes_to_the_latest_revision_unless_said_otherwise() {
        let route = route(&service());
        assert_eq!(
            route.spec.traffic,
            [TrafficTarget {
                configuration_name: Some("digits".to_owned()),
                latest_revision: Some(true),
                percent: Some(100),
                ..TrafficTarget::default()
            }]
        );
    }

    #[test]
    fn only_targets_without_a_revision_follow_the_configuration() {
        let mut service = service();
        service.spec.traffic = vec![
            TrafficTarget {
                revision_name: Some("digits-00001".to_owned()),
                percent: Some(90),
                ..TrafficTarget::default()
            },
            TrafficTarget {
                percent: Some(10),
                tag: Some("next".to_owned()),
                url: Some("http://lie".to_owned()),
                ..TrafficTarget::default()
            },
        ];
        let traffic = route(&service).spec.traffic;
        assert_eq!(traffic[0].configuration_name, None);
        assert_eq!(traffic[0].latest_revision, Some(false));
        assert_eq!(traffic[1].configuration_name.as_deref(), Some("digits"));
        assert_eq!(traffic[1].latest_revision, Some(true));
        assert_eq!(traffic[1].url, None);
    }
}
