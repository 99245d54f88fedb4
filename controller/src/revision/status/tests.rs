use serde_json::json;

use super::*;

const FAILED_PULL: &str = "ErrImagePull";

struct Scene {
    replicas: i32,
    available: i32,
    /// Replicas that must be reached once.
    first: i32,
    /// Conditions that the Deployment controller reports.
    said: serde_json::Value,
    pod: serde_json::Value,
    /// When the pod was made.
    made: Option<Timestamp>,
}

fn scene(replicas: i32, available: i32) -> Scene {
    Scene { replicas, available, first: 1, said: json!([]), pod: json!({}), made: None }
}

fn waiting(reason: &str) -> serde_json::Value {
    json!({"containerStatuses": [{"name": "user-container", "ready": false, "restartCount": 0,
        "image": "", "imageID": "", "state": {"waiting": {"reason": reason, "message": "why"}}}]})
}

fn crashed() -> serde_json::Value {
    json!({"containerStatuses": [{"name": "user-container", "ready": false, "restartCount": 0,
        "image": "", "imageID": "", "state": {"terminated": {"exitCode": 5, "message": "boom"}}}]})
}

fn observed(scene: Scene) -> Observed {
    let deployment = json!({
        "spec": {"replicas": scene.replicas, "selector": {}, "template": {},
            "progressDeadlineSeconds": 60},
        "status": {"availableReplicas": scene.available,
            "conditions": scene.said},
    });
    let mut pod = json!({"metadata": {"name": "p", "creationTimestamp": scene.made}});
    pod["status"] = scene.pod;
    Observed::made(
        Arc::new(serde_json::from_value(deployment).unwrap()),
        vec![Arc::new(serde_json::from_value(pod).unwrap())],
        scene.first,
    )
}

fn revision() -> Revision {
    let mut revision = Revision::default();
    revision.metadata.generation = Some(1);
    revision.spec.pod.containers = vec![Container {
        image: Some("example.com/digits@sha256:1".to_owned()),
        ..Container::default()
    }];
    revision
}

/// The revision after a reconcile in this scene.
fn after(revision: Revision, scene: Scene) -> Revision {
    after_s(0, revision, scene)
}

/// The revision after a reconcile in this scene at this second. The autoscaler has asked for as
/// many replicas as the scene has.
fn after_s(seconds: i64, mut revision: Revision, scene: Scene) -> Revision {
    if let Some(status) = &mut revision.status {
        status.desired_replicas = Some(scene.replicas);
    }
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
    revision.status = Some(of(&revision, &observed(scene), now));
    revision
}

fn told(revision: &Revision, type_: &str) -> (Status, String, String) {
    let status = revision.status.as_ref().unwrap();
    let condition = condition::find(&status.conditions, type_).unwrap().clone();
    (condition.status, condition.reason.unwrap_or_default(), condition.message.unwrap_or_default())
}

#[test]
fn a_revision_deploys_until_its_initial_scale_was_reached() {
    let several = |available| Scene { first: 2, ..scene(2, available) };
    let starting = after(revision(), several(0));
    for type_ in [RESOURCES, HEALTHY, ACTIVE, READY] {
        let expected = (Status::Unknown, "Deploying".to_owned(), String::new());
        assert_eq!(told(&starting, type_), expected, "{type_}");
    }
    let available = after(starting.clone(), several(1));
    assert_eq!(told(&available, READY).0, Status::Unknown);
    assert_eq!(told(&available, ACTIVE).0, Status::Unknown);

    let ready = after(available, several(2));
    assert_eq!(told(&ready, READY).0, Status::True);
    assert_eq!(told(&ready, ACTIVE).0, Status::True);
    let status = ready.status.clone().unwrap();
    assert_eq!((status.actual_replicas, status.desired_replicas), (Some(2), Some(2)));
    assert_eq!(
        status.container_statuses,
        [ContainerStatus {
            name: Some("user-container".to_owned()),
            image_digest: Some("example.com/digits@sha256:1".to_owned()),
        }]
    );
    assert_eq!(news(&starting.status.unwrap(), &status), News::Urgent);
    // It is enough to reach the initial scale once.
    let fewer = after(ready, Scene { replicas: 1, ..several(1) });
    assert_eq!(told(&fewer, READY).0, Status::True);
}

#[test]
fn load_before_the_first_readiness_does_not_hold_it_up() {
    let ready = after(after(revision(), scene(1, 0)), scene(5, 1));
    assert_eq!(told(&ready, READY).0, Status::True);
}

#[test]
fn an_initial_scale_of_zero_is_reached_at_once() {
    let none = after(revision(), Scene { first: 0, ..scene(0, 0) });
    assert_eq!(told(&none, READY).0, Status::True);
    assert_eq!(told(&none, ACTIVE).1, "NoTraffic");
}

#[test]
fn a_first_start_that_nobody_needs_any_more_is_no_success() {
    let starting = after(revision(), scene(1, 0));
    let gone = after_s(5, starting, scene(0, 0));
    assert_eq!(told(&gone, ACTIVE).1, "NoTraffic");
    assert_eq!(told(&gone, READY).0, Status::Unknown);
}

#[test]
fn scale_to_zero_keeps_it_ready_and_makes_it_inactive() {
    let ready = after(revision(), scene(1, 1));
    let idle = after(ready.clone(), scene(0, 0));
    assert_eq!(told(&idle, READY).0, Status::True);
    assert_eq!(told(&idle, ACTIVE).1, "NoTraffic");
    let before = ready.status.unwrap();
    assert_eq!(news(&before, idle.status.as_ref().unwrap()), News::Detail);

    let waking = after_s(100, idle, scene(1, 0));
    assert_eq!(told(&waking, READY).0, Status::True);
    assert_eq!(told(&waking, ACTIVE).1, "Queued");
    let late = after_s(200, waking.clone(), scene(0, 0));
    assert_eq!(told(&late, ACTIVE).1, "TimedOut");
    assert_eq!(told(&late, READY).0, Status::True);
    let called_off = after_s(110, waking, scene(0, 0));
    assert_eq!(told(&called_off, ACTIVE).1, "NoTraffic");
}

/// A pod that was made at one second and ready at another.
fn started(made: i64, ready: i64) -> Scene {
    let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": at(ready)});
    let mut scene = scene(1, 1);
    scene.pod = json!({"conditions": [ready]});
    scene.made = Some(at(made));
    scene
}

#[test]
fn each_start_that_goes_well_is_measured() {
    let known = |revision: &Revision| Starts::of(revision).to_string();
    let deploying = after_s(10, revision(), scene(1, 0));
    assert_eq!(known(&deploying), "");
    let ready = after_s(17, deploying, started(9, 16));
    assert_eq!(known(&ready), "7");
    assert_eq!(known(&after_s(18, ready.clone(), started(9, 16))), "7", "once");
    let idle = after_s(60, ready, scene(0, 0));
    // A quick one, of which nobody wrote that it began.
    let awake = after_s(105, idle, started(100, 103));
    assert_eq!(known(&awake), "7,3");
    let mut failing = scene(1, 0);
    failing.pod = crashed();
    let failed = after_s(200, after_s(150, awake, scene(0, 0)), failing);
    assert_eq!(known(&after_s(230, failed, started(200, 229))), "7,3", "somebody helped");
    // What an earlier Revision knew goes on.
    let mut next = revision();
    next.metadata.annotations.get_or_insert_default().insert(STARTS.to_owned(), "3".to_owned());
    let next = after_s(5, after_s(0, next, scene(1, 0)), started(0, 5));
    assert_eq!(known(&next), "3,5");
}

#[test]
fn what_is_wrong_with_a_pod_is_said_at_once() {
    for (pod, type_, reason, message) in [
        (waiting(FAILED_PULL), RESOURCES, FAILED_PULL, "why"),
        (crashed(), HEALTHY, "ExitCode5", "Container failed with: boom"),
    ] {
        let mut scene = scene(1, 0);
        scene.pod = pod;
        let failed = after(revision(), scene);
        let expected = (Status::False, reason.to_owned(), message.to_owned());
        assert_eq!(told(&failed, type_), expected);
        assert_eq!(told(&failed, READY), expected);
        let notices = notices(&RevisionStatus::default(), failed.status.as_ref().unwrap());
        assert_eq!(notices[0].note, format!("{reason}: {message}"));
    }
}

#[test]
fn a_wake_that_fails_shows_and_the_next_that_works_heals() {
    let ready = after(revision(), scene(1, 1));
    let mut failing = scene(1, 0);
    failing.pod = crashed();
    let failed = after(ready, failing);
    assert_eq!(told(&failed, READY).1, "ExitCode5");
    // The pods are gone again; the failure is still what happened last.
    let idle = after(failed, scene(0, 0));
    assert_eq!(told(&idle, READY).1, "ExitCode5");
    let waking = after(idle, scene(1, 0));
    assert_eq!(told(&waking, READY).1, "ExitCode5");
    let healed = after(waking, scene(1, 1));
    assert_eq!(told(&healed, READY).0, Status::True);
}

#[test]
fn the_two_words_for_a_missing_image_are_one_trouble() {
    let mut first = scene(1, 0);
    first.pod = waiting(FAILED_PULL);
    let mut second = scene(1, 0);
    second.pod = waiting("ImagePullBackOff");
    let failed = after(revision(), first);
    let later = after(failed.clone(), second);
    assert_eq!(failed.status, later.status);
}

#[test]
fn a_new_trouble_replaces_the_old_one() {
    let mut first = scene(1, 0);
    first.pod = waiting(FAILED_PULL);
    let mut second = scene(1, 0);
    second.pod = crashed();
    let failed = after(after(revision(), first), second);
    assert_eq!(told(&failed, READY).1, "ExitCode5");
    assert_eq!(told(&failed, RESOURCES).0, Status::Unknown);
}

#[test]
fn a_port_that_never_opens_is_told_with_the_pods_own_words() {
    let mut late = scene(1, 0);
    late.said = json!([{"type": "Progressing", "status": "False",
        "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing."}]);
    late.pod = json!({"conditions": [{"type": "Ready", "status": "False",
        "message": "nothing listens on port 8080"}]});
    assert_eq!(
        told(&after(revision(), late), READY),
        (
            Status::False,
            "ProgressDeadlineExceeded".to_owned(),
            "has timed out progressing. nothing listens on port 8080".to_owned()
        )
    );
}

#[test]
fn an_initial_scale_that_was_never_reached_is_told_when_the_pods_are_gone() {
    let starting = after(revision(), scene(1, 0));
    assert_eq!(
        told(&after_s(90, starting, scene(0, 0)), RESOURCES),
        (
            Status::False,
            "ProgressDeadlineExceeded".to_owned(),
            "Initial scale was never achieved".to_owned()
        )
    );
}

#[test]
fn a_foreign_child_is_named() {
    let foreign = Observed::occupied(Occupied {
        kind: "Deployment",
        name: "digits-00001-deployment".to_owned(),
    });
    let mut revision = revision();
    revision.status = Some(of(&revision, &foreign, Timestamp::UNIX_EPOCH));
    assert_eq!(
        told(&revision, RESOURCES),
        (
            Status::False,
            "NotOwned".to_owned(),
            "There is an existing Deployment \"digits-00001-deployment\" that we do not own."
                .to_owned()
        )
    );
}

#[test]
fn a_pod_that_a_quota_forbids_is_told_of_at_once_and_forgotten_when_it_comes() {
    let mut forbidden = scene(1, 0);
    forbidden.said = json!([{"type": "ReplicaFailure", "status": "True",
        "reason": "FailedCreate", "message": "exceeded quota: none"}]);
    forbidden.pod = json!({});
    let mut revision = revision();
    let status = of(&revision, &observed(forbidden), Timestamp::UNIX_EPOCH);
    let ready = condition::find(&status.conditions, READY).unwrap();
    assert!(ready.is_false());
    assert_eq!(ready.reason.as_deref(), Some("FailedCreate"));
    assert_eq!(ready.message.as_deref(), Some("exceeded quota: none"));
    revision.status = Some(status);
    let status = of(&revision, &observed(scene(1, 1)), Timestamp::UNIX_EPOCH);
    assert!(condition::find(&status.conditions, RESOURCES).unwrap().is_true());
}

#[test]
fn a_start_is_told_of_while_it_goes_on_and_no_longer() {
    let told =
        |revision: &Revision| revision.status.as_ref().unwrap().annotations.get(START).cloned();
    let waits = || Scene { pod: json!({"phase": "Pending"}), ..scene(1, 0) };
    let starting = after(revision(), waits());
    assert!(told(&starting).unwrap().contains("\"phase\":\"pending\""));
    // A reconcile that comes later finds nothing new: the status settles.
    let again = after_s(30, starting.clone(), waits());
    assert_eq!(again.status, starting.status);
    assert_eq!(news(starting.status.as_ref().unwrap(), again.status.as_ref().unwrap()), News::None);
    let ready = after_s(40, again, scene(1, 1));
    assert_eq!(told(&ready), None);
    let asleep = after_s(90, ready, scene(0, 0));
    assert_eq!(told(&asleep), None);
    let woken = after_s(100, asleep, scene(1, 0));
    assert!(told(&woken).is_some(), "each start, not the first alone");
    let given_up = after_s(120, woken.clone(), scene(0, 0));
    assert_eq!(told(&given_up), None);
    let mut occupied = woken;
    let by = Occupied { kind: "Deployment", name: "digits".to_owned() };
    occupied.status = Some(of(&occupied, &Observed::occupied(by), Timestamp::UNIX_EPOCH));
    assert_eq!(told(&occupied), None);
}
