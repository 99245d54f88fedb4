//! Requests that find no pod: held, released in order, never above the limit.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ebb_api::report::{DrainOrder, OrderId, RevisionKey};
use futures::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::fixture::*;
use crate::queue::QueueLimits;
use crate::{Event, Limits, WatchChange};

#[tokio::test(start_paused = true)]
async fn two_hundred_first_requests_share_four_pods_one_at_a_time() {
    let world = World::new(json!({"containerConcurrency": 1}));
    let requests = join_all((0..200).map(|_| world.get()));
    let start = async {
        settle().await;
        assert_eq!(world.queued(), 200);
        (1..=4).map(|number| world.start(number, slow(10))).collect::<Vec<_>>()
    };
    let (responses, pods) = futures::join!(requests, start);
    assert!(responses.iter().all(|response| response.status() == 200));
    for pod in &pods {
        assert_eq!(pod.most.load(Ordering::SeqCst), 1, "two at once in one pod");
        assert_eq!(pod.served.load(Ordering::SeqCst), 50, "uneven");
    }
    drop(responses);
    settle().await;
    assert_eq!((world.queued(), world.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_the_first_pod_takes_the_whole_backlog() {
    let world = World::new(json!({}));
    let requests = join_all((0..50).map(|_| world.get()));
    let start = async {
        settle().await;
        world.start(1, slow(10))
    };
    let (responses, pod) = futures::join!(requests, start);
    assert_eq!(responses.len(), 50);
    assert_eq!(pod.most.load(Ordering::SeqCst), 50);
}

#[tokio::test(start_paused = true)]
async fn the_first_request_is_reported_at_once_and_the_wait_is_told() {
    let world = World::new(json!({}));
    let request = world.get();
    let start = async {
        settle().await;
        let report = world.notes.reports.lock()[0].revisions[0].clone();
        assert_eq!((report.revision, report.queued), (key(), 1));
        assert!(report.interval_s.abs() < f64::EPSILON);
        sleep(Duration::from_millis(300)).await;
        world.tell(1, json!({}));
        sleep(Duration::from_millis(100)).await;
        world.listen(1, echo("hello"));
    };
    let (response, ()) = futures::join!(request, start);
    let timing = response.headers()["server-timing"].to_str().unwrap();
    assert!(timing.starts_with("queue;dur=4") && timing.contains("pod;dur=300"), "{timing}");
    assert_eq!(world.notes.reports.lock().len(), 1, "only the first is news");
    let events = world.notes.events.lock();
    assert_eq!(events[0], Event::Waking { revision: key() });
    let Event::Ready { took, .. } = &events[1] else { panic!("{events:?}") };
    assert!((400..430).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_warm_request_does_not_wait_and_carries_no_timing() {
    let world = World::new(json!({}));
    world.start(1, echo("hello"));
    settle().await;
    let response = world.get().await;
    assert!(!response.headers().contains_key("server-timing"));
    assert_eq!(text(response).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_frees_its_place_at_once() {
    let world = World::new(json!({"containerConcurrency": 1}));
    let gone = tokio::spawn({
        let connection = world.dial();
        async move {
            let io = hyper_util::rt::TokioIo::new(connection);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            futures::join!(sender.send_request(get()), connection)
        }
    });
    settle().await;
    assert_eq!(world.queued(), 1);
    gone.abort();
    settle().await;
    assert_eq!(world.queued(), 0);
    let pod = world.start(1, echo("hello"));
    settle().await;
    assert_eq!(pod.served.load(Ordering::SeqCst), 0, "nobody asked any more");
    assert_eq!(text(world.get().await).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
    let queue = QueueLimits { requests: 2, ..QueueLimits::default() };
    let world = World::with_limits(json!({}), Limits { queue, ..Limits::default() });
    let held = join_all((0..2).map(|_| world.get()));
    let refused = async {
        settle().await;
        let response = world.get().await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["ebb-error"], "queue-full");
        assert_eq!(response.headers()["retry-after"], "1");
        world.start(1, echo("hello"));
    };
    let (held, ()) = futures::join!(held, refused);
    assert!(held.iter().all(|response| response.status() == 200));
}

#[tokio::test(start_paused = true)]
async fn a_drained_pod_gets_nothing_and_serves_again_when_taken_back() {
    let world = World::new(json!({"containerConcurrency": 1}));
    let pod = world.start(1, slow(50));
    settle().await;
    let id = OrderId { epoch: 1, number: 1 };
    let order = |pods: Vec<String>| DrainOrder { revision: key(), id, pods, called: None };
    let (response, ()) = futures::join!(world.get(), async {
        settle().await;
        world.activator.drain(&order(vec![uid(1)]));
        let report = world.notes.reports.lock().last().unwrap().revisions[0].clone();
        assert!(report.pods[0].draining);
        assert_eq!(report.pods[0].in_flight, 1, "what is there goes on");
    });
    assert_eq!(response.status(), 200);
    drop(response);
    settle().await;
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.queued(), 1);
        assert_eq!(pod.served.load(Ordering::SeqCst), 1);
        world.activator.drain(&order(Vec::new()));
    });
    assert_eq!(response.status(), 200);
}

/// The autoscaler lowers nothing while it is told of a pod that it does not know.
#[tokio::test(start_paused = true)]
async fn a_pod_that_leaves_is_reported_until_its_last_request_has_ended() {
    let world = World::new(json!({}));
    world.start(1, slow(2_000));
    settle().await;
    let named = || {
        world.activator.report();
        let report = world.notes.reports.lock().last().unwrap().revisions[0].clone();
        report.pods.iter().map(|pod| pod.in_flight).collect::<Vec<_>>()
    };
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(1)).await;
        world.tell(1, json!({"deleted": "2026-11-25T19:00:00Z"}));
        assert_eq!(named(), [1]);
    });
    assert_eq!(text(response).await, "slow");
    settle().await;
    assert!(named().is_empty());
}

/// The order may be quicker than the watches.
#[tokio::test(start_paused = true)]
async fn an_order_for_a_revision_that_is_not_known_yet_is_obeyed() {
    let world = World::new(json!({}));
    let unknown = RevisionKey::new("default", "unknown-00001");
    let id = OrderId { epoch: 1, number: 1 };
    world.activator.drain(&DrainOrder {
        revision: unknown.clone(),
        id,
        pods: vec![uid(1)],
        called: None,
    });
    let told = world.notes.reports.lock().last().unwrap().revisions[0].clone();
    assert_eq!((told.revision, told.obeyed), (unknown, id));
}

/// The autoscaler that drained a pod may be gone before the scale was lowered or the order called
/// off.
#[tokio::test(start_paused = true)]
async fn a_drained_pod_is_taken_back_only_if_a_request_waits_and_there_is_no_other() {
    let world = World::new(json!({}));
    world.start(1, echo("hello"));
    settle().await;
    let revision = world.activator.revisions().remove(0);
    let id = OrderId { epoch: 1, number: 1 };
    world.activator.drain(&DrainOrder { revision: key(), id, pods: vec![uid(1)], called: None });
    let standing = HashMap::from([(uid(1).into(), address(1))]);
    assert!(revision.held_back().is_none(), "nobody waits");
    assert!(!revision.take_back(&standing, Instant::now()), "nobody waits");
    let (response, ()) = futures::join!(world.get(), async {
        settle().await;
        assert_eq!(world.queued(), 1);
        assert!(revision.held_back().is_some());
        let others = HashMap::from([(uid(2).into(), address(2))]);
        assert!(!revision.take_back(&others, Instant::now()), "it no longer stands");
        let moved = HashMap::from([(uid(1).into(), address(2))]);
        assert!(!revision.take_back(&moved, Instant::now()), "its address may be another's");
        assert!(revision.take_back(&standing, Instant::now()));
    });
    assert_eq!(response.status(), 200);
    assert!(!revision.take_back(&standing, Instant::now()), "it is served already");
}

/// A request that no pod will ever serve must be able to wake the revision, whatever other pods are
/// still there.
#[tokio::test(start_paused = true)]
async fn pods_that_never_serve_again_keep_nobody_from_waking_a_revision() {
    let failing = json!([{
        "name": "user-container", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull"}},
    }]);
    for (what, status, expected) in [
        ("evicted", json!({"phase": "Failed", "reason": "Evicted", "podIP": null}), true),
        ("terminating", json!({"deleted": "2026-11-25T19:00:00Z"}), true),
        ("of an earlier Revision", json!({"revisionUID": "q"}), true),
        ("starting", json!({"phase": "Pending", "podIP": null}), false),
        ("failing", json!({"containerStatuses": failing}), false),
    ] {
        let world = World::new(json!({}));
        let revision = world.activator.revisions().remove(0);
        world.tell(1, status);
        assert!(revision.stranded().is_none(), "{what}: nobody waits");
        let (response, ()) = futures::join!(world.get(), async {
            settle().await;
            assert_eq!(world.queued(), 1, "{what}");
            assert_eq!(revision.stranded().is_some(), expected, "{what}");
            world.start(2, echo("hello"));
            settle().await;
            assert!(revision.stranded().is_none(), "{what}: another serves");
        });
        assert_eq!(response.status(), 200, "{what}");
    }
}

/// An order may be quicker than the watch that tells of the revision and its pods.
#[tokio::test(start_paused = true)]
async fn an_order_for_a_revision_that_is_not_seen_yet_is_kept_and_obeyed() {
    let world = World::new(json!({}));
    let id = OrderId { epoch: 1, number: 3 };
    let other = RevisionKey::new("default", "other-00001");
    let order =
        DrainOrder { revision: other.clone(), id, pods: vec!["x".to_owned()], called: None };
    world.activator.drain(&order);
    let told = || world.notes.reports.lock().last().unwrap().revisions.clone();
    assert_eq!((told()[0].obeyed, told().len()), (id, 1));
    // The order is reported for as long as it stands, though nothing else is known of the revision.
    world.activator.report();
    let kept = told().into_iter().find(|report| report.revision == other).unwrap();
    assert_eq!((kept.obeyed, kept.pods), (id, Vec::new()));
    // An order that is not repeated is forgotten.
    sleep(Duration::from_secs(61)).await;
    world.activator.report();
    world.activator.report();
    assert!(!told().iter().any(|report| report.revision == other));
}

/// The last order of a revision that was deleted and made anew: the autoscaler does not repeat it.
#[tokio::test(start_paused = true)]
async fn an_order_that_is_not_repeated_is_reported_no_longer_and_still_obeyed() {
    let world = World::new(json!({}));
    let id = OrderId { epoch: 1, number: 3 };
    world.activator.drain(&DrainOrder { revision: key(), id, pods: vec![uid(1)], called: None });
    let is_told = || {
        world.activator.report();
        let reports = world.notes.reports.lock();
        reports.last().unwrap().revisions.iter().any(|report| report.revision == key())
    };
    assert!(is_told());
    sleep(Duration::from_secs(61)).await;
    is_told();
    assert!(!is_told(), "it is told once a second for ever");
    let pod = world.start(1, echo("hello"));
    let (answer, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(pod.served.load(Ordering::SeqCst), 0);
        world.activator.drain(&DrainOrder { revision: key(), id, pods: Vec::new(), called: None });
    });
    assert_eq!(answer.status(), 200);
}

/// A leader that was deposed does not know it at once.
#[tokio::test(start_paused = true)]
async fn an_order_of_a_deposed_leader_is_not_obeyed() {
    let world = World::new(json!({}));
    let order = |epoch, pods: &[&str]| DrainOrder {
        revision: key(),
        id: OrderId { epoch, number: 1 },
        pods: pods.iter().map(|&pod| pod.to_owned()).collect(),
        called: None,
    };
    world.activator.drain(&order(2, &[]));
    let told = world.notes.reports.lock().len();
    world.activator.drain(&order(1, &["x"]));
    assert_eq!(world.notes.reports.lock().len(), told, "it gets no answer either");
    world.activator.drain(&order(2, &["x"]));
    assert_eq!(world.notes.reports.lock().len(), told + 1);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_revision_answers_those_who_wait_at_once() {
    let world = World::new(json!({}));
    let (response, ()) = futures::join!(world.get(), async {
        settle().await;
        assert!(world.metrics().contains("digits-00001"));
        world.activator.change_revisions(crate::WatchChange::Deleted(revision(json!({}))));
        assert!(!world.metrics().contains("digits-00001"), "its series are gone");
    });
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["ebb-error"], "revision-gone");
}

#[tokio::test(start_paused = true)]
async fn the_second_report_says_how_much_was_held() {
    let world = World::new(json!({}));
    let begun = Instant::now();
    let (_response, ()) = futures::join!(world.get(), async {
        settle().await;
        sleep(Duration::from_secs(1)).await;
        world.activator.report();
        world.start(1, echo("hello"));
    });
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let report = world.notes.reports.lock()[1].revisions[0].clone();
    assert_eq!(report.queued, 1);
    assert!((report.concurrency_mean - 1.0).abs() < 0.01, "{report:?}");
    assert!((report.requests_per_second - 1.0).abs() < 0.01, "{report:?}");
}

/// After an outage of the API server the watches come back one by one.
#[tokio::test(start_paused = true)]
async fn a_client_waits_for_a_revision_that_a_late_watch_has_not_brought_yet() {
    for (has_failed, status) in [(false, 404), (true, 200)] {
        let world = World::new(json!({}));
        world.activator.change_revisions(WatchChange::Replaced(Vec::new()));
        if has_failed {
            world.activator.directory().arrivals.watch_failed(Instant::now());
        }
        let (answer, ()) = futures::join!(world.get(), async {
            sleep(Duration::from_secs(5)).await;
            world.activator.change_revisions(WatchChange::Applied(revision(json!({}))));
            world.start(1, echo("hello"));
        });
        assert_eq!(answer.status(), status);
    }
}
