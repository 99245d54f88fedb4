//! The cost of revisions without requests, and the reports of those that get some.

use std::sync::mpsc;
use std::time::Duration;

use ebb_api::report::{DrainOrder, OrderId, Scope};
use http::{HeaderValue, Request};
use http_body_util::Full;
use serde_json::json;
use tokio::time::sleep;

use super::fixture::*;
use crate::WatchChange;

/// Growth: ten thousand sleeping revisions must not be locked and settled every second.
#[tokio::test(start_paused = true)]
async fn a_tick_does_not_touch_a_revision_that_sleeps() {
    let world = World::new(json!({}));
    world.start(1, echo("hello"));
    settle().await;
    assert_eq!(text(world.get().await).await, "hello");
    world.untell(1);
    settle().await;
    sleep(Duration::from_secs(1)).await;
    world.activator.report();
    assert_eq!(world.notes.reports.lock().last().unwrap().revisions.len(), 1, "its last load");
    sleep(Duration::from_secs(1)).await;
    world.activator.report();
    assert!(world.notes.reports.lock().last().unwrap().revisions.is_empty());
    let revision = world.activator.directory().revision(&key()).unwrap();
    let held = revision.locked();
    let (done, told) = mpsc::channel();
    let activator = world.activator.clone();
    std::thread::spawn(move || {
        activator.report();
        done.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(20)).expect("the tick waits for no lock");
    drop(held);
}

/// Growth: when a revision wakes, its report covers the time since then.
#[tokio::test(start_paused = true)]
async fn the_first_interval_after_a_long_sleep_is_a_short_one() {
    let world = World::new(json!({}));
    world.activator.report();
    sleep(Duration::from_hours(1)).await;
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_millis(500)).await;
        world.activator.report();
        let report = world.notes.reports.lock().last().unwrap().revisions[0].clone();
        assert!((report.interval_s - 0.5).abs() < 0.01, "{report:?}");
        assert!((report.concurrency_mean - 1.0).abs() < 0.01, "{report:?}");
        world.start(1, echo("hello"));
    });
    assert_eq!(text(response).await, "hello");
}

/// Growth: each request is the first that waits, and one report is enough for all.
#[tokio::test(start_paused = true)]
async fn clients_that_come_and_give_up_are_told_at_once_only_now_and_then() {
    let world = World::new(json!({}));
    for _ in 0..100 {
        let gone = tokio::spawn({
            let io = hyper_util::rt::TokioIo::new(world.dial());
            async move {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(io).await.unwrap();
                futures::join!(sender.send_request(get()), connection)
            }
        });
        settle().await;
        assert_eq!(world.queued(), 1);
        gone.abort();
        settle().await;
        assert_eq!(world.queued(), 0);
        sleep(Duration::from_millis(1)).await;
    }
    let reports = world.notes.reports.lock().len();
    assert!((1..=3).contains(&reports), "{reports} reports in 100 ms");
}

/// A report of an interval takes the place of the reports before it. One that was sent at once
/// while it was being made is newer, and must not go under with the rest.
#[tokio::test(start_paused = true)]
async fn what_is_told_while_an_interval_is_reported_is_said_again_behind_it() {
    let world = World::new(json!({}));
    let id = OrderId { epoch: 1, number: 3 };
    let order = DrainOrder { revision: key(), id, pods: vec![uid(1)], called: None };
    let activator = world.activator.clone();
    *world.notes.meanwhile.lock() = Some(Box::new(move || activator.drain(&order)));
    world.activator.report();
    let told = std::mem::take(&mut *world.notes.reports.lock());
    let scopes: Vec<_> = told.iter().map(|report| report.scope).collect();
    assert_eq!(scopes, [Scope::Moment, Scope::Full, Scope::Moment]);
    assert!(told[1].revisions.is_empty());
    assert_eq!(told[2].revisions[0].obeyed, id);
    // The same for a request that begins to wait.
    let revision = world.activator.directory().revision(&key()).unwrap();
    *world.notes.meanwhile.lock() = Some(Box::new(move || {
        assert!(revision.is_news());
    }));
    world.activator.report();
    world.activator.report();
    let told = std::mem::take(&mut *world.notes.reports.lock());
    let scopes: Vec<_> = told.iter().map(|report| report.scope).collect();
    assert_eq!(scopes, [Scope::Full, Scope::Moment, Scope::Full], "and once only");
}

/// A monitor that looks every ten seconds kept a model awake for ever.
#[tokio::test(start_paused = true)]
async fn a_probe_neither_wakes_a_model_nor_is_its_load() {
    let world = World::new(json!({}));
    let mut known = revision(json!({}));
    let notes = [("paths", "/health"), ("agents", "robot")];
    let notes = notes.map(|(key, text)| (format!("serving.ebb.dev/no-wake-{key}"), text.into()));
    known.metadata.annotations = Some(notes.into());
    world.activator.change_revisions(WatchChange::Applied(known));
    let asks = [("/health", "curl"), ("/", "Mozilla (UptimeRobot/2.0)")];
    let ask = |(path, agent): (&str, &str)| {
        let request = Request::get(path).header("host", HOST).header("user-agent", agent);
        world.send(request.body(Full::default()).unwrap())
    };
    let asleep = HeaderValue::from_static("asleep");
    for it in asks {
        let response = ask(it).await;
        assert_eq!((response.status().as_u16(), &response.headers()["ebb-error"]), (503, &asleep));
    }
    sleep(Duration::from_secs(1)).await;
    assert!(world.notes.reports.lock().is_empty() && world.notes.events.lock().is_empty());
    world.start(1, slow(400));
    settle().await;
    world.activator.report();
    for it in asks {
        assert_eq!(text(ask(it).await).await, "slow", "with a pod it is served");
    }
    sleep(Duration::from_millis(200)).await;
    world.activator.report();
    let report = world.notes.reports.lock().last().unwrap().revisions[0].clone();
    assert!(report.concurrency_mean <= 0.0 && report.requests_per_second <= 0.0, "{report:?}");
    assert_eq!(text(ask(("/", "curl")).await).await, "slow");
    world.activator.report();
    let report = world.notes.reports.lock().last().unwrap().revisions[0].clone();
    assert!(report.concurrency_mean > 0.5, "{report:?}");
}

/// A revision whose last pod sleeps instead of being stopped.
fn with_standby() -> World {
    let world = World::new(json!({}));
    let mut revision = revision(json!({}));
    revision.metadata.annotations =
        Some([("serving.ebb.dev/standby".to_owned(), "process".to_owned())].into());
    world.activator.change_revisions(WatchChange::Applied(revision));
    world
}

fn order(number: u64, pods: Vec<String>) -> DrainOrder {
    DrainOrder { revision: key(), id: OrderId { epoch: 1, number }, pods, called: None }
}

/// An activator that is new sees the mark before it hears of an order, and an order that calls the pod
/// back is quicker than the watch that shows the mark removed.
#[tokio::test(start_paused = true)]
async fn a_pod_whose_model_sleeps_gets_nothing_until_an_order_calls_it_back() {
    let world = with_standby();
    world.listen(1, echo("hello"));
    world.tell(1, json!({"asleep": "2026-11-27T19:00:00Z"}));
    settle().await;
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(5)).await;
        assert_eq!((world.queued(), world.in_flight()), (1, 0));
        let revision = world.activator.revisions().remove(0);
        assert!(revision.held_back().is_none(), "nor while no autoscaler answers");
        assert!(revision.report_now().pods[0].draining);
        world.activator.drain(&order(1, vec![uid(1)]));
        sleep(Duration::from_secs(5)).await;
        assert_eq!((world.queued(), world.in_flight()), (1, 0));
        assert!(revision.held_back().is_none(), "nor after an order that drains it");
        // A new leader has not seen the mark yet.
        world.activator.drain(&order(2, Vec::new()));
        sleep(Duration::from_secs(5)).await;
        assert_eq!((world.queued(), world.in_flight()), (1, 0));
        world.activator.drain(&DrainOrder { called: Some(uid(1)), ..order(3, Vec::new()) });
    });
    assert_eq!(text(response).await, "hello");
    // As the order of the next leader, which knows of no call.
    world.activator.drain(&order(4, Vec::new()));
    assert_eq!(text(world.get().await).await, "hello");
    // It sleeps again, and its mark is a new one.
    world.activator.drain(&DrainOrder { called: Some(uid(1)), ..order(5, vec![uid(1)]) });
    world.activator.drain(&order(6, Vec::new()));
    world.tell(1, json!({"asleep": "2026-11-27T20:00:00Z"}));
    let waiting = tokio::time::timeout(Duration::from_secs(5), world.get());
    assert!(waiting.await.is_err(), "it waits");
}

#[tokio::test(start_paused = true)]
async fn clients_reach_no_path_that_lets_a_model_sleep_or_wakes_it() {
    let world = with_standby();
    world.start(1, echo("hello"));
    settle().await;
    for (path, status) in [
        ("/sleep?level=1", 404),
        ("//sleep/", 404),
        ("/%2573leep", 404),
        ("/wake_up", 404),
        ("/v1/../is_sleeping", 404),
        ("/sleep%0A", 404),
        ("/v1/sleep", 404),
        ("/v1/sleep/it", 200),
    ] {
        let mut request = get();
        *request.uri_mut() = path.parse().unwrap();
        let response = world.send(request).await;
        assert_eq!(response.status(), status, "{path}");
        let error = response.headers().get("ebb-error").map(HeaderValue::as_bytes);
        assert_eq!(error.is_some(), status == 404, "{path}: {error:?}");
    }
    let plain = World::new(json!({}));
    plain.start(1, echo("hello"));
    settle().await;
    let mut request = get();
    *request.uri_mut() = "/sleep?level=1".parse().unwrap();
    assert_eq!(plain.send(request).await.status(), 200, "a path as any other");
}
