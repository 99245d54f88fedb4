use ebb_api::serving::Addressable;

use super::*;

fn service() -> Service {
    let mut service = Service::default();
    service.metadata.name = Some("digits".to_owned());
    service.metadata.uid = Some("u".to_owned());
    service.metadata.generation = Some(2);
    service
}

fn ready(status: Status, reason: &str) -> Vec<Condition> {
    vec![Condition {
        type_: READY.to_owned(),
        status,
        reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        ..Condition::default()
    }]
}

fn configuration(status: Status, reason: &str) -> Arc<Configuration> {
    let mut configuration = build::configuration(&service());
    configuration.metadata.generation = Some(3);
    configuration.status = Some(ConfigurationStatus {
        observed_generation: Some(3),
        conditions: ready(status, reason),
        latest_created_revision_name: Some("digits-00003".to_owned()),
        latest_ready_revision_name: Some("digits-00002".to_owned()),
    });
    Arc::new(configuration)
}

fn route(status: Status, reason: &str, revision: &str) -> Arc<Route> {
    let mut route = build::route(&service());
    route.metadata.generation = Some(1);
    route.status = Some(RouteStatus {
        observed_generation: Some(1),
        conditions: ready(status, reason),
        url: Some("http://digits.default.example.com".to_owned()),
        address: Some(Addressable {
            url: Some("http://digits.default.svc.cluster.local".to_owned()),
        }),
        traffic: vec![TrafficTarget {
            revision_name: Some(revision.to_owned()),
            latest_revision: Some(true),
            percent: Some(100),
            ..TrafficTarget::default()
        }],
        ..RouteStatus::default()
    });
    Arc::new(route)
}

fn status_of(configuration: Fate<Configuration>, route: Fate<Route>) -> ServiceStatus {
    let children = Children { configuration, route };
    of(&service(), &children, Timestamp::UNIX_EPOCH)
}

/// Status, reason and message of a condition.
fn told(status: &ServiceStatus, type_: &str) -> (Status, String, String) {
    let condition = condition::find(&status.conditions, type_).unwrap().clone();
    (condition.status, condition.reason.unwrap_or_default(), condition.message.unwrap_or_default())
}

#[test]
fn a_service_is_ready_when_both_children_are_and_traffic_has_moved() {
    let status = status_of(
        Fate::Ours(configuration(Status::True, "")),
        Fate::Ours(route(Status::True, "", "digits-00002")),
    );
    assert!(status.conditions.iter().all(Condition::is_true));
    assert_eq!(status.conditions.len(), 3);
    assert_eq!(status.observed_generation, Some(2));
    assert_eq!(status.url.as_deref(), Some("http://digits.default.example.com"));
    assert_eq!(status.latest_ready_revision_name.as_deref(), Some("digits-00002"));
    assert_eq!(status.traffic.len(), 1);
}

#[test]
fn traffic_that_is_still_at_the_old_revision_is_not_migrated() {
    let status = status_of(
        Fate::Ours(configuration(Status::True, "")),
        Fate::Ours(route(Status::True, "", "digits-00001")),
    );
    assert_eq!(
        told(&status, ServiceStatus::ROUTES_READY),
        (
            Status::Unknown,
            "TrafficNotMigrated".to_owned(),
            "Traffic is not yet migrated to the latest revision.".to_owned()
        )
    );
    assert_eq!(told(&status, READY).0, Status::Unknown);
}

#[test]
fn a_stale_child_is_out_of_date_and_its_old_word_does_not_count() {
    let mut stale = Configuration::clone(&configuration(Status::True, ""));
    stale.metadata.generation = Some(4);
    let mut stale_route = Route::clone(&route(Status::True, "", "digits-00002"));
    stale_route.metadata.generation = Some(2);
    let status = status_of(Fate::Ours(Arc::new(stale)), Fate::Ours(Arc::new(stale_route)));
    for (type_, kind) in [
        (ServiceStatus::CONFIGURATIONS_READY, "Configuration"),
        (ServiceStatus::ROUTES_READY, "Route"),
    ] {
        let text =
            format!("The {kind} is still working to reflect the latest desired specification.");
        let expected = (Status::Unknown, "OutOfDate".to_owned(), text);
        assert_eq!(told(&status, type_), expected);
    }
    assert_eq!(status.latest_created_revision_name, None);
}

#[test]
fn foreign_children_are_named() {
    let status = status_of(Fate::Foreign, Fate::Foreign);
    assert_eq!(
        told(&status, ServiceStatus::CONFIGURATIONS_READY),
        (
            Status::False,
            "NotOwned".to_owned(),
            "There is an existing Configuration \"digits\" that we do not own.".to_owned()
        )
    );
    assert_eq!(told(&status, ServiceStatus::ROUTES_READY).1, "NotOwned");
    assert_eq!(told(&status, READY).0, Status::False);
}

#[test]
fn a_failure_of_the_configuration_is_the_services() {
    let status = status_of(
        Fate::Ours(configuration(Status::False, "RevisionFailed")),
        Fate::Ours(route(Status::True, "", "digits-00002")),
    );
    assert_eq!(told(&status, READY).1, "RevisionFailed");
    assert_eq!(status.latest_ready_revision_name.as_deref(), Some("digits-00002"));
    assert_eq!(news(&ServiceStatus::default(), &status), News::Urgent);
    assert_eq!(news(&status, &status.clone()), News::None);
}

#[test]
fn a_taken_revision_name_stops_the_route() {
    let mut service = service();
    service.spec.template.metadata.get_or_insert_default().name = Some("digits-blue".to_owned());
    let taken = configuration(Status::False, "RevisionFailed");
    let children = Children { configuration: Fate::Ours(taken), route: Fate::NameTaken };
    let status = of(&service, &children, Timestamp::UNIX_EPOCH);
    assert_eq!(
        told(&status, ServiceStatus::ROUTES_READY),
        (
            Status::False,
            "RevisionNameTaken".to_owned(),
            "The revision name \"digits-blue\" is taken by a conflicting Revision, so traffic \
             will not be migrated"
                .to_owned()
        )
    );
}
