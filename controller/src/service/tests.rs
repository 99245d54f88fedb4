use ebb_api::condition::{Condition, READY, Status};
use ebb_api::config::Config;
use ebb_api::serving::{Configuration, ConfigurationStatus};
use kube::Client;
use tokio::sync::watch;

use super::*;
use crate::metrics::ControllerMetrics;
use crate::stores::tests::World;

/// A Service that names its next Revision `revision`, and its Configuration, whose message says in
/// words of its own why it has no Revision.
fn named(revision: &str) -> (Service, Configuration) {
    let mut service = Service::default();
    service.metadata.name = Some("named".to_owned());
    service.metadata.namespace = Some("default".to_owned());
    service.metadata.uid = Some("uid-named".to_owned());
    service.spec.template.metadata.get_or_insert_default().name = Some(revision.to_owned());
    let mut configuration = build::configuration(&service);
    configuration.metadata.uid = Some("uid-configuration".to_owned());
    configuration.metadata.generation = Some(1);
    let failed = Condition {
        type_: READY.to_owned(),
        status: Status::False,
        reason: Some("RevisionFailed".to_owned()),
        message: Some("the name is in use".to_owned()),
        ..Condition::default()
    };
    configuration.status = Some(ConfigurationStatus {
        observed_generation: Some(1),
        conditions: vec![failed],
        ..ConfigurationStatus::default()
    });
    (service, configuration)
}

/// The state of the Route beside a foreign Revision `other-00001`, when the Service names its next
/// Revision `revision` and the API server takes no write; `None` if a write was tried.
async fn route_beside(revision: &str) -> Option<Fate<ebb_api::serving::Route>> {
    let mut world = World::new();
    world.add_service("other");
    let (service, configuration) = named(revision);
    world.watches.configurations.feed(configuration);
    let (_, config) = watch::channel(Arc::new(Config::default()));
    let metrics =
        ControllerMetrics::register(&mut prometheus_client::registry::Registry::default());
    let refuse = |_| async { Err::<http::Response<kube::client::Body>, _>("no write is due") };
    let client = Client::new(tower::service_fn(refuse), "default");
    let context = Context::new(client, world.stores.clone(), config, metrics, None, None);
    apply(&service, &build(&service), &context).await.ok().map(|children| children.route)
}

/// A taken name was once recognised by the words of the Configuration's message.
#[tokio::test]
async fn a_name_that_is_taken_holds_the_route_whatever_the_configuration_says_of_it() {
    assert!(matches!(route_beside("other-00001").await, Some(Fate::NameTaken)));
    assert!(route_beside("named-blue").await.is_none(), "a free name: the Route is written");
}
