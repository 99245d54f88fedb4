use ebb_api::condition::Status;
use ebb_api::serving::{ConfigurationStatus, RevisionStatus};

use super::*;

/// A Revision of Service `digits` with this status of Ready.
pub(in crate::route) fn revision(name: &str, ready: Status) -> Arc<Revision> {
    let mut revision = Revision::default();
    revision.metadata.name = Some(name.to_owned());
    revision.metadata.generation = Some(1);
    revision.metadata.labels = Some([(labels::SERVICE.to_owned(), "digits".to_owned())].into());
    revision.status = Some(RevisionStatus {
        observed_generation: Some(1),
        conditions: condition_list(ready),
        ..RevisionStatus::default()
    });
    Arc::new(revision)
}

/// Configuration `digits` with this status of Ready, latest ready and latest created Revision.
pub(in crate::route) fn configuration(
    ready: Status,
    latest: Option<&str>,
    created: &str,
) -> Arc<Configuration> {
    let mut configuration = Configuration::default();
    configuration.metadata.name = Some("digits".to_owned());
    configuration.status = Some(ConfigurationStatus {
        conditions: condition_list(ready),
        latest_ready_revision_name: latest.map(str::to_owned),
        latest_created_revision_name: Some(created.to_owned()),
        ..ConfigurationStatus::default()
    });
    Arc::new(configuration)
}

/// The objects that a Route refers to.
pub(in crate::route) fn referenced(
    configuration: Arc<Configuration>,
    revisions: &[Arc<Revision>],
) -> Referenced {
    Referenced {
        configurations: [(configuration.name_any(), configuration)].into(),
        revisions: revisions
            .iter()
            .map(|revision| (revision.name_any(), revision.clone()))
            .collect(),
    }
}

/// Route `digits` of Service `digits` with that split.
pub(in crate::route) fn route(traffic: Vec<TrafficTarget>) -> Route {
    let mut route = Route::default();
    route.metadata.name = Some("digits".to_owned());
    route.metadata.namespace = Some("default".to_owned());
    route.metadata.generation = Some(1);
    route.metadata.labels = Some([(labels::SERVICE.to_owned(), "digits".to_owned())].into());
    route.spec.traffic = traffic;
    route
}

/// A target that follows Configuration `digits`.
pub(in crate::route) fn latest(percent: Option<i64>, tag: Option<&str>) -> TrafficTarget {
    TrafficTarget {
        configuration_name: Some("digits".to_owned()),
        latest_revision: Some(true),
        percent,
        tag: tag.map(str::to_owned),
        ..TrafficTarget::default()
    }
}

/// A target that names a Revision.
pub(in crate::route) fn pinned(
    name: &str,
    percent: Option<i64>,
    tag: Option<&str>,
) -> TrafficTarget {
    TrafficTarget {
        revision_name: Some(name.to_owned()),
        latest_revision: Some(false),
        percent,
        tag: tag.map(str::to_owned),
        ..TrafficTarget::default()
    }
}

fn condition_list(status: Status) -> Vec<Condition> {
    vec![Condition { type_: READY.to_owned(), status, ..Condition::default() }]
}

/// The target as it stands in a status.
fn resolved_latest(name: &str, percent: Option<i64>, tag: Option<&str>) -> TrafficTarget {
    TrafficTarget {
        configuration_name: None,
        revision_name: Some(name.to_owned()),
        ..latest(percent, tag)
    }
}

#[test]
fn latest_pinned_and_tagged_targets_are_resolved_in_order() {
    let all = referenced(
        configuration(Status::True, Some("digits-00002"), "digits-00002"),
        &[revision("digits-00001", Status::True), revision("digits-00002", Status::True)],
    );
    for (name, asked, expected) in [
        (
            "all to the latest",
            vec![latest(Some(100), None)],
            vec![resolved_latest("digits-00002", Some(100), None)],
        ),
        (
            "half and half with tags",
            vec![pinned("digits-00001", Some(50), Some("blue")), latest(Some(50), Some("green"))],
            vec![
                pinned("digits-00001", Some(50), Some("blue")),
                resolved_latest("digits-00002", Some(50), Some("green")),
            ],
        ),
        (
            "a tag without a share",
            vec![pinned("digits-00001", Some(100), Some("current")), latest(None, Some("latest"))],
            vec![
                pinned("digits-00001", Some(100), Some("current")),
                resolved_latest("digits-00002", None, Some("latest")),
            ],
        ),
        (
            "the latest beside the same Revision pinned",
            vec![pinned("digits-00002", Some(30), None), latest(Some(70), None)],
            vec![
                pinned("digits-00002", Some(30), None),
                resolved_latest("digits-00002", Some(70), None),
            ],
        ),
        (
            "equal targets are one",
            vec![pinned("digits-00001", Some(30), None), pinned("digits-00001", Some(70), None)],
            vec![pinned("digits-00001", Some(100), None)],
        ),
        (
            "rolled back",
            vec![pinned("digits-00001", Some(100), None)],
            vec![pinned("digits-00001", Some(100), None)],
        ),
    ] {
        assert_eq!(resolve(&route(asked), &all), Ok(expected), "{name}");
    }
}

#[test]
fn the_old_revision_serves_while_the_latest_fails() {
    let all = referenced(
        configuration(Status::False, Some("digits-00001"), "digits-00002"),
        &[revision("digits-00001", Status::True), revision("digits-00002", Status::False)],
    );
    assert_eq!(
        resolve(&route(vec![latest(Some(100), None)]), &all),
        Ok(vec![resolved_latest("digits-00001", Some(100), None)])
    );
}

#[test]
fn the_latest_ready_revision_serves_even_if_its_last_wake_failed() {
    let all = referenced(
        configuration(Status::False, Some("digits-00001"), "digits-00001"),
        &[revision("digits-00001", Status::False)],
    );
    assert!(resolve(&route(vec![latest(Some(100), None)]), &all).is_ok());
}

#[test]
fn what_cannot_be_resolved_is_told_in_knatives_words() {
    let mut foreign = Revision::clone(&revision("other-00001", Status::True));
    foreign.metadata.labels = Some([(labels::SERVICE.to_owned(), "other".to_owned())].into());
    let revisions = [
        revision("digits-00001", Status::Unknown),
        revision("digits-00002", Status::False),
        Arc::new(foreign),
    ];
    let unknown = configuration(Status::Unknown, None, "digits-00001");
    let failing = configuration(Status::False, None, "digits-00001");
    for (configuration, target, failed, reason, message) in [
        (
            &unknown,
            latest(Some(100), None),
            false,
            "RevisionMissing",
            "Configuration \"digits\" is waiting for a Revision to become ready.",
        ),
        (
            &failing,
            latest(Some(100), None),
            true,
            "RevisionMissing",
            "Configuration \"digits\" does not have any ready Revision.",
        ),
        (
            &unknown,
            pinned("digits-00001", Some(100), None),
            false,
            "RevisionMissing",
            "Revision \"digits-00001\" is not yet ready.",
        ),
        (
            &unknown,
            pinned("digits-00002", Some(100), None),
            true,
            "RevisionMissing",
            "Revision \"digits-00002\" failed to become ready.",
        ),
        (
            &unknown,
            pinned("nowhere", Some(100), None),
            true,
            "RevisionMissing",
            "Revision \"nowhere\" referenced in traffic not found.",
        ),
        (
            &unknown,
            pinned("other-00001", Some(100), None),
            true,
            "RevisionNotOwned",
            "Revision \"other-00001\" is not owned by Service \"digits\".",
        ),
    ] {
        let all = referenced(configuration.clone(), &revisions);
        let expected = Problem { failed, reason, message: message.to_owned() };
        assert_eq!(resolve(&route(vec![target]), &all), Err(expected));
    }
    let nothing = Referenced::default();
    let problem = resolve(&route(vec![latest(Some(100), None)]), &nothing).unwrap_err();
    assert_eq!(problem.reason, "ConfigurationMissing");
    assert_eq!(problem.message, "Configuration \"digits\" referenced in traffic not found.");
}

#[test]
fn a_failure_outweighs_what_is_still_on_its_way() {
    let all = referenced(
        configuration(Status::Unknown, None, "digits-00001"),
        &[revision("digits-00002", Status::False)],
    );
    let asked = vec![pinned("digits-00002", Some(50), None), latest(Some(50), None)];
    assert!(resolve(&route(asked), &all).unwrap_err().failed);
}

/// Admission refuses such a split, but a webhook can be down.
#[test]
fn shares_of_any_size_are_summed_up() {
    let mut resolved = vec![pinned("digits-00001", Some(i64::MAX), None)];
    merge(&mut resolved, pinned("digits-00001", Some(1), None));
    assert_eq!(resolved, [pinned("digits-00001", Some(i64::MAX), None)]);
}
