use std::collections::BTreeSet;

use ebb_api::serving::{Configuration, Revision, Route, Service};
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::stores::tests::World;

#[test]
fn pauses_double_up_to_a_bound() {
    let pause = |failures| pause_after(failures, false);
    assert_eq!(pause(1), RETRY_MIN);
    assert_eq!(pause(2), RETRY_MIN * 2);
    assert_eq!(pause(11), Duration::from_millis(20 * 1024));
    assert_eq!(pause(12), RETRY_MAX);
    assert_eq!(pause(u32::MAX), RETRY_MAX);
}

/// A refusal is tried again, rarely and not for all objects at once.
#[test]
fn a_lasting_error_is_retried_ever_more_rarely() {
    let pauses = [1, 2, 6, 7, u32::MAX].map(|failures| pause_after(failures, true).as_secs());
    assert_eq!(pauses, [1, 2, 32, 60, 60]);
    let of = |name: &str, failures| {
        let object = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        spread(LASTING_MAX, (&object, failures))
    };
    let all: BTreeSet<_> = (0..100).map(|number| of(&format!("r-{number}"), 9)).collect();
    assert!(all.len() > 50, "{}", all.len());
    assert!(all.iter().all(|pause| *pause > Duration::from_secs(45) && *pause <= LASTING_MAX));
    assert_ne!(of("r-1", 9), of("r-1", 10));
}

/// The writes that an API server was asked for: path and body.
type Writes = Arc<Mutex<Vec<(String, Value)>>>;

/// An API server that stores statuses and answers everything else with `refusal`.
fn refusing(writes: Writes, refusal: Value) -> Client {
    let serve = move |request: Request<Body>| {
        let (writes, refusal) = (writes.clone(), refusal.clone());
        async move {
            let (head, body) = request.into_parts();
            let sent = body.collect_bytes().await.unwrap_or_default();
            let sent: Value = serde_json::from_slice(&sent).unwrap_or_default();
            writes.lock().push((head.uri.path().to_owned(), sent.clone()));
            let is_status = head.method == Method::PATCH && head.uri.path().ends_with("/status");
            let (code, answer) = if is_status {
                let mut answer = sent;
                answer["spec"] =
                    json!({"template": {"spec": {"containers": []}}, "containers": []});
                (200, answer)
            } else {
                let code = refusal["code"].as_u64().and_then(|code| u16::try_from(code).ok());
                (code.expect("a status has a code"), refusal)
            };
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).expect("a response"))
        }
    };
    Client::new(tower::service_fn(serve), "default")
}

/// [`refused_with`] the answer of a quota.
fn refused() -> (World, Arc<Context>, Writes) {
    refused_with(json!({
        "kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": "exceeded quota: none",
    }))
}

/// A context in which Service `a` and its objects are known, and what it asks to be written; an
/// answer other than to a status is `refusal`.
fn refused_with(refusal: Value) -> (World, Arc<Context>, Writes) {
    let writes = Writes::default();
    let mut world = World::new();
    world.add_service("a");
    let (_, config) = watch::channel(Arc::new(Config::default()));
    let metrics =
        ControllerMetrics::register(&mut prometheus_client::registry::Registry::default());
    let client = refusing(writes.clone(), refusal);
    let context = Context::new(client, world.stores.clone(), config, metrics, None, None);
    (world, Arc::new(context), writes)
}

/// The reason of `Ready` in the first status that was written.
fn reason(writes: &Writes) -> Option<String> {
    let writes = writes.lock();
    let (_, status) = writes.iter().find(|(path, _)| path.ends_with("/status"))?;
    let conditions = status["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|it| it["type"] == "Ready")?;
    ready["reason"].as_str().map(str::to_owned)
}

/// Formerly nothing was tried again once the status told of the refusal.
#[tokio::test]
async fn a_refused_deployment_is_reported_and_retried() {
    let (world, context, writes) = refused();
    let revision = world.stores.revisions.get("default", "a-00001").unwrap();
    let error = Revision::reconcile(revision, context).await.unwrap_err();
    assert!(error.is_lasting() && error.refusal() == Some("exceeded quota: none"), "{error}");
    assert_eq!(reason(&writes).as_deref(), Some("FailedCreate"));
}

/// The same for a Revision that the API server refuses to its Configuration.
#[tokio::test]
async fn a_revision_that_is_refused_is_said_and_tried_again() {
    let (mut world, context, writes) = refused();
    let known = world.stores.configurations.get("default", "a").unwrap();
    let mut next = Configuration::clone(&known);
    next.metadata.generation = Some(2);
    world.watches.configurations.feed(next.clone());
    let error = Configuration::reconcile(Arc::new(next), context).await.unwrap_err();
    assert!(error.is_lasting(), "{error}");
    assert_eq!(reason(&writes).as_deref(), Some("RevisionFailed"));
}

/// No event tells that a foreign object has gone out of the way.
#[tokio::test]
async fn a_foreign_child_is_reported_and_retried() {
    let (mut world, context, writes) = refused();
    let known = world.stores.configurations.get("default", "a").unwrap();
    let mut foreign = Configuration::clone(&known);
    foreign.metadata.owner_references = None;
    world.watches.configurations.feed(foreign);
    let known = world.stores.routes.get("default", "a").unwrap();
    let mut foreign = Route::clone(&known);
    foreign.metadata.owner_references = None;
    world.watches.routes.feed(foreign);
    let service = world.stores.services.get("default", "a").unwrap();
    let error = Service::reconcile(service, context).await.unwrap_err();
    assert!(matches!(error, WriteError::Taken { .. }) && error.is_lasting(), "{error}");
    assert_eq!(reason(&writes).as_deref(), Some("NotOwned"));
}

impl World {
    /// Makes Configuration `a` one, of UID `uid-configuration`, that its Service has to change.
    fn feed_older_configuration(&mut self) {
        let known = self.stores.configurations.get("default", "a").unwrap();
        let mut older = Configuration::clone(&known);
        older.metadata.uid = Some("uid-configuration".to_owned());
        older.spec.template.spec.pod.containers[0].image = Some("older".to_owned());
        self.watches.configurations.feed(older);
    }
}

/// Otherwise a forced apply would change an object of somebody else that got the name of a deleted
/// child.
#[tokio::test]
async fn an_apply_names_the_object_that_it_was_made_for() {
    let (mut world, context, writes) = refused();
    world.feed_older_configuration();
    let service = world.stores.services.get("default", "a").unwrap();
    Service::reconcile(service, context).await.unwrap_err();
    let writes = writes.lock();
    let is_configuration = |path: &str| path.ends_with("/configurations/a");
    let (_, applied) = writes.iter().find(|(path, _)| is_configuration(path)).unwrap();
    assert_eq!(applied["metadata"]["uid"], "uid-configuration");
}

/// The API server's answer to the UID of an object that is gone while another has its name.
#[tokio::test]
async fn a_namesake_is_a_conflict_and_no_refusal() {
    let (mut world, context, writes) = refused_with(json!({
        "kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422,
        "message": "metadata.uid: Invalid value: \"u\": field is immutable",
        "details": {"causes": [{"reason": "FieldValueInvalid", "field": "metadata.uid"}]},
    }));
    world.feed_older_configuration();
    let service = world.stores.services.get("default", "a").unwrap();
    let error = Service::reconcile(service, context).await.unwrap_err();
    assert!(error.is_conflict() && !error.is_lasting(), "{error}");
    assert_eq!(reason(&writes), None, "nothing is said of a refusal");
}
