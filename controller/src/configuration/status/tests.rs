use super::*;
use crate::configuration::build;
use ebb_api::serving::RevisionStatus;
use ebb_api::starts::Starts;

fn configuration(generation: i64, ready: Option<&str>) -> Configuration {
    let mut configuration = Configuration::default();
    configuration.metadata.name = Some("digits".to_owned());
    configuration.metadata.uid = Some("u".to_owned());
    configuration.metadata.generation = Some(generation);
    configuration.status = Some(ConfigurationStatus {
        observed_generation: Some(generation - 1),
        latest_created_revision_name: ready.map(str::to_owned),
        latest_ready_revision_name: ready.map(str::to_owned),
        ..ConfigurationStatus::default()
    });
    configuration
}

fn revision(generation: i64, status: Status, message: &str) -> Arc<Revision> {
    let mut revision = build::revision(
        &configuration(generation, None),
        "",
        &Starts::default(),
        Timestamp::UNIX_EPOCH,
    );
    revision.metadata.generation = Some(1);
    revision.status = Some(RevisionStatus {
        observed_generation: Some(1),
        conditions: vec![Condition {
            type_: READY.to_owned(),
            status,
            message: Some(message.to_owned()),
            ..Condition::default()
        }],
        ..RevisionStatus::default()
    });
    Arc::new(revision)
}

fn status_of(configuration: &Configuration, revisions: &[Arc<Revision>]) -> ConfigurationStatus {
    let newest = Newest::Made(revisions.last().unwrap().clone());
    of(configuration, &newest, revisions, Timestamp::UNIX_EPOCH)
}

fn ready(status: &ConfigurationStatus) -> (Status, String, String) {
    let ready = condition::find(&status.conditions, READY).unwrap().clone();
    (ready.status, ready.reason.unwrap_or_default(), ready.message.unwrap_or_default())
}

#[test]
fn the_first_revision_makes_it_ready() {
    let configuration = configuration(1, None);
    let waiting = status_of(&configuration, &[revision(1, Status::Unknown, "")]);
    assert_eq!(ready(&waiting).0, Status::Unknown);
    assert_eq!(waiting.latest_created_revision_name.as_deref(), Some("digits-00001"));
    assert_eq!(waiting.latest_ready_revision_name, None);

    let done = status_of(&configuration, &[revision(1, Status::True, "")]);
    assert_eq!(ready(&done).0, Status::True);
    assert_eq!(done.latest_ready_revision_name.as_deref(), Some("digits-00001"));
    assert_eq!(done.observed_generation, Some(1));
    assert_eq!(news(&waiting, &done), News::Urgent);
    assert_eq!(notices(&waiting, &done), []);
    let mut later = done.clone();
    later.latest_ready_revision_name = Some("digits-00002".to_owned());
    assert_eq!(
        notices(&done, &later),
        [Notice::normal(
            "LatestReadyUpdate",
            "LatestReadyRevisionName updated to \"digits-00002\"".to_owned()
        )]
    );
}

#[test]
fn the_old_revision_keeps_serving_when_the_new_one_fails() {
    let configuration = configuration(2, Some("digits-00001"));
    let revisions =
        [revision(1, Status::True, ""), revision(2, Status::False, "Container failed with: boom")];
    let status = status_of(&configuration, &revisions);
    assert_eq!(status.latest_ready_revision_name.as_deref(), Some("digits-00001"));
    assert_eq!(status.latest_created_revision_name.as_deref(), Some("digits-00002"));
    assert_eq!(
        ready(&status),
        (
            Status::False,
            "RevisionFailed".to_owned(),
            "Revision \"digits-00002\" failed with message: Container failed with: boom."
                .to_owned()
        )
    );
    let told = notices(&ConfigurationStatus::default(), &status);
    assert!(told.iter().any(|notice| notice.reason == "LatestCreatedFailed" && notice.warning));
}

#[test]
fn a_revision_between_the_two_may_become_the_latest_ready() {
    let configuration = configuration(3, Some("digits-00001"));
    let revisions = [
        revision(1, Status::True, ""),
        revision(2, Status::True, ""),
        revision(3, Status::Unknown, ""),
    ];
    let status = status_of(&configuration, &revisions);
    assert_eq!(status.latest_ready_revision_name.as_deref(), Some("digits-00002"));
    assert_eq!(ready(&status).0, Status::Unknown);
}

#[test]
fn a_rollback_is_a_new_revision_and_wins_over_the_newer_template() {
    let configuration = configuration(3, Some("digits-00002"));
    let revisions = [
        revision(1, Status::True, ""),
        revision(2, Status::True, ""),
        revision(3, Status::True, ""),
    ];
    let status = status_of(&configuration, &revisions);
    assert_eq!(status.latest_ready_revision_name.as_deref(), Some("digits-00003"));
    assert_eq!(ready(&status).0, Status::True);
}

#[test]
fn a_failed_wake_shows_and_heals() {
    let mut configuration = configuration(1, Some("digits-00001"));
    let failed = status_of(&configuration, &[revision(1, Status::False, "no node")]);
    assert_eq!(ready(&failed).0, Status::False);
    assert_eq!(failed.latest_ready_revision_name.as_deref(), Some("digits-00001"));
    configuration.status = Some(failed);
    let healed = status_of(&configuration, &[revision(1, Status::True, "")]);
    assert_eq!(ready(&healed).0, Status::True);
}

#[test]
fn a_revision_that_cannot_be_made_fails_it() {
    let taken = "revisions.serving.knative.dev \"digits-blue\" already exists".to_owned();
    let status =
        of(&configuration(1, None), &Newest::Impossible(taken.clone()), &[], Timestamp::UNIX_EPOCH);
    let said = format!("Revision creation failed with message: {taken}.");
    assert_eq!(ready(&status), (Status::False, "RevisionFailed".to_owned(), said));
    assert_eq!(status.latest_created_revision_name, None);
}
