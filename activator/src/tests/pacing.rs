//! Pods that take what they are sent slowly, not at all, or only to drop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use http::StatusCode;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::fixture::*;
use crate::Limits;
use crate::queue::QueueLimits;

/// Whatever newer requests do, and however often a connection is refused.
#[tokio::test(start_paused = true)]
async fn what_was_never_sent_keeps_its_place_and_is_never_refused() {
    let queue = QueueLimits { requests: 2, ..QueueLimits::default() };
    let limits = Limits { queue, ..Limits::default() };
    let world = World::with_limits(json!({"containerConcurrency": 1}), limits);
    world.start(1, echo("one"));
    settle().await;
    world.hang_up(1);
    *world.network.pause.lock() = Duration::from_millis(10);
    let (first, rest) = futures::join!(world.get(), async {
        sleep(Duration::from_millis(1)).await;
        assert_eq!(world.in_flight(), 1, "the first is on its way");
        let newcomers = join_all([world.get(), world.get()]);
        let (newcomers, ()) = futures::join!(newcomers, async {
            sleep(Duration::from_millis(100)).await;
            assert_eq!(world.queued(), 3, "the first is back although the queue is full");
            for number in 2..8 {
                // Each pod answers its probe, which takes 10 ms, and then nothing more.
                world.start(number, echo("none"));
                sleep(Duration::from_millis(5)).await;
                world.hang_up(number);
                sleep(Duration::from_millis(100)).await;
                world.untell(number);
            }
            assert_eq!(world.queued(), 3);
            world.start(9, slow(100));
        });
        newcomers
    });
    assert_eq!(first.status(), 200);
    assert!(rest.iter().all(|response| response.status() == 200));
}

/// The whole backlog at once would overflow the pod's own.
#[tokio::test(start_paused = true)]
async fn a_backlog_is_dialled_as_fast_as_the_pod_accepts() {
    let world = World::new(json!({}));
    let requests = join_all((0..500).map(|_| world.get()));
    let (responses, pods) = futures::join!(requests, async {
        settle().await;
        assert_eq!(world.queued(), 500);
        let first = world.start(1, slow(10_000));
        sleep(Duration::from_millis(50)).await;
        assert!(world.queued() == 0, "a pod that accepts at once gets all");
        first
    });
    assert!(responses.iter().all(|response| response.status() == 200));
    assert_eq!(pods.most.load(Ordering::SeqCst), 500);
    drop(responses);
    world.untell(1);
    settle().await;
    let requests = join_all((0..500).map(|_| world.get()));
    let (responses, (first, second)) = futures::join!(requests, async {
        settle().await;
        *world.network.pause.lock() = Duration::from_millis(100);
        let first = world.start(2, slow(10));
        // The pod's probe has been answered, and its first requests have not.
        sleep(Duration::from_millis(150)).await;
        assert_eq!(world.network.dialling.load(Ordering::SeqCst), 8);
        assert_eq!(world.queued(), 492, "the others are free to go elsewhere");
        *world.network.pause.lock() = Duration::ZERO;
        (first, world.start(3, slow(10)))
    });
    assert!(responses.iter().all(|response| response.status() == 200));
    assert!(first.served.load(Ordering::SeqCst) >= 8);
    assert!(second.served.load(Ordering::SeqCst) > 100, "its share");
}

/// A pod that answers its probe and refuses requests is not probed and tried without a pause.
#[tokio::test(start_paused = true)]
async fn a_pod_that_always_refuses_is_tried_ever_more_rarely() {
    let world = World::new(json!({"timeoutSeconds": 60}));
    world.network.refuses_requests.store(true, Ordering::SeqCst);
    world.start(1, echo("never"));
    let begun = Instant::now();
    let response = world.get().await;
    assert_eq!(response.status(), 504, "held for as long as it may be");
    assert_eq!(begun.elapsed().as_secs(), 60);
    let dials = world.network.dials.load(Ordering::SeqCst);
    assert!((100..200).contains(&dials), "two a second: {dials}");
}

/// A pod that drops every request, and the connection with it, for as long as `broken`.
fn flaky(broken: &Arc<AtomicBool>, name: &'static str) -> Handler {
    let broken = Arc::clone(broken);
    Arc::new(move |_| {
        assert!(!broken.load(Ordering::SeqCst), "the model dies");
        Box::pin(async move { reply(name) })
    })
}

/// Such a pod frees its slots at once, so that it always is the least loaded.
#[tokio::test(start_paused = true)]
async fn a_pod_that_fails_fast_is_left_out_and_tried_again_later() {
    for limit in [0, 4] {
        let world = World::new(json!({"containerConcurrency": limit}));
        let broken = Arc::new(AtomicBool::new(true));
        world.start(1, flaky(&broken, "one"));
        world.start(2, slow(20));
        world.start(3, slow(20));
        settle().await;
        let mut lost = 0;
        let round = async |lost: &mut u32| {
            for response in join_all((0..6).map(|_| world.get())).await {
                *lost += u32::from(response.status() == StatusCode::BAD_GATEWAY);
            }
        };
        // Time passes with the good answers only.
        while lost < 5 {
            round(&mut lost).await;
        }
        for _ in 0..10 {
            let before = lost;
            round(&mut lost).await;
            assert_eq!(lost, before, "limit {limit}");
        }
        assert!(lost <= 10, "limit {limit}: {lost} requests lost"); // Five, and one round.
        let text = world.metrics();
        assert!(text.contains("ebb_activator_ejections_total 1"), "{text}");
        broken.store(false, Ordering::SeqCst);
        sleep(Duration::from_secs(2)).await;
        world.activator.report();
        let mut back = false;
        for _ in 0..50 {
            back |= text_of(&world).await == "one";
        }
        assert!(back, "taken back");
    }
}

async fn text_of(world: &World) -> String {
    text(world.get().await).await
}

/// A failure of all pods is no pod's fault, and the only pod is better than none.
#[tokio::test(start_paused = true)]
async fn at_most_half_of_the_pods_are_left_out() {
    let world = World::new(json!({}));
    let broken = Arc::new(AtomicBool::new(true));
    for number in 1..=4 {
        world.start(number, flaky(&broken, "any"));
    }
    settle().await;
    for _ in 0..200 {
        assert_eq!(world.get().await.status(), 502, "answered, not held");
    }
    settle().await;
    let ready = || world.activator.snapshot()[0].ready_pods();
    assert_eq!(ready(), 2);
    // The pods that were not left out go: the others must serve.
    let left: Vec<_> = world.activator.snapshot()[0].pods.clone();
    for pod in left.iter().filter(|pod| pod.ready) {
        world.untell(pod.uid.trim_start_matches("uid-").parse().unwrap());
    }
    assert_eq!(ready(), 1, "one is needed");
    broken.store(false, Ordering::SeqCst);
    assert_eq!(text_of(&world).await, "any");
}

/// A status that says that the pod is broken counts; a status that says that the request is broken
/// does not.
#[tokio::test(start_paused = true)]
async fn a_gateway_error_of_the_pod_is_a_failure_and_a_500_is_none() {
    for (status, ejections) in
        [(StatusCode::SERVICE_UNAVAILABLE, 1), (StatusCode::INTERNAL_SERVER_ERROR, 0)]
    {
        let world = World::new(json!({}));
        world.start(
            1,
            Arc::new(move |_| {
                let mut answer = reply("no");
                *answer.status_mut() = status;
                Box::pin(async move { answer })
            }),
        );
        world.start(2, echo("two"));
        settle().await;
        for _ in 0..100 {
            drop(text_of(&world).await);
        }
        let want = format!("ebb_activator_ejections_total {ejections}");
        assert!(world.metrics().contains(&want), "{status}");
    }
}
