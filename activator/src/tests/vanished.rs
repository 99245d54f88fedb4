//! Pods that are gone without a word, and connection attempts that fail on this machine.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use nix::errno::Errno;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::fixture::*;
use super::protocols::websocket;

/// Begins to answer, and never ends.
fn endless() -> Handler {
    Arc::new(|_| {
        Box::pin(async move {
            let first = futures::stream::iter([Ok(Frame::data("first".into()))]);
            let parts = first.chain(futures::stream::pending());
            Response::new(BodyExt::boxed(StreamBody::new(parts)))
        })
    })
}

/// Whether the autoscaler is told of no load any more.
async fn is_idle(world: &World) -> bool {
    settle().await;
    world.activator.report();
    sleep(Duration::from_secs(1)).await;
    world.activator.report();
    world.notes.reports.lock().last().unwrap().revisions.is_empty()
}

/// A request in flight in a pod that is gone ends some time after the pod.
#[tokio::test(start_paused = true)]
async fn what_is_left_in_a_removed_pod_is_broken_off_after_the_grace() {
    let world = World::new(json!({}));
    world.start(1, endless());
    settle().await;
    let mut body = world.get().await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    world.untell(1);
    let early = timeout(Duration::from_secs(29), body.frame()).await;
    assert!(early.is_err(), "a pod that is there ends what it has");
    let end = timeout(Duration::from_secs(2), body.frame()).await.unwrap().unwrap();
    assert!(end.is_err(), "a response that is broken off never looks complete");
    assert!(is_idle(&world).await);
}

/// By the time a connection is there, the address of the pod may be that of another.
#[tokio::test(start_paused = true)]
async fn a_connection_to_a_pod_that_is_gone_meanwhile_is_not_used() {
    let world = World::new(json!({}));
    world.start(1, echo("old"));
    settle().await;
    world.listen(1, echo("another model"));
    *world.network.pause.lock() = Duration::from_secs(1);
    let (answer, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_millis(500)).await;
        world.untell(1);
        world.start(2, echo("new"));
    });
    assert_eq!(text(answer).await, "new");
}

/// The Revision was deleted and made anew, under its name: its pods are others now.
#[tokio::test(start_paused = true)]
async fn a_connection_to_a_pod_of_the_revision_that_was_is_not_used() {
    let world = World::new(json!({}));
    let pod = world.start(1, echo("hello"));
    settle().await;
    // The connection of the probe is of no use for requests.
    *world.network.pause.lock() = Duration::from_secs(1);
    let lost = futures::join!(world.get(), async {
        sleep(Duration::from_millis(500)).await;
        let anew = revision_with_uid("anew", json!({}));
        world.activator.change_revisions(crate::WatchChange::Applied(anew));
    });
    assert_ne!(lost.0.status(), 200);
    assert_eq!(pod.served.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_in_a_pod_of_the_revision_that_was_goes_on_to_its_end() {
    let world = World::new(json!({"timeoutSeconds": 300}));
    world.start(1, slow(60_000));
    settle().await;
    let (answer, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(1)).await;
        let anew = revision_with_uid("anew", json!({}));
        world.activator.change_revisions(crate::WatchChange::Applied(anew));
    });
    assert_eq!(answer.status(), 200);
}

/// Formerly the first request after a standstill went to whoever had the pod's address by then.
#[tokio::test(start_paused = true)]
async fn after_a_standstill_nobody_connects_before_the_pods_are_listed_anew() {
    let world = World::new(json!({}));
    world.start(1, echo("old"));
    settle().await;
    world.activator.standstill().beat(Instant::now());
    sleep(Duration::from_secs(35)).await;
    world.listen(1, echo("another model"));
    let (answer, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_millis(500)).await;
        world.untell(1);
        world.start(2, echo("new"));
        world.activator.standstill().listed(1);
    });
    assert_eq!(text(answer).await, "new");
}

/// Formerly the wait for the list counted as a connection that fails, and the pod as lost.
#[tokio::test(start_paused = true)]
async fn a_list_that_takes_longer_than_a_connection_may_is_no_fault_of_the_pod() {
    let world = World::new(json!({}));
    world.start(1, echo("hello"));
    settle().await;
    world.activator.standstill().beat(Instant::now());
    sleep(Duration::from_secs(35)).await;
    let begun = Instant::now();
    let (answer, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(5)).await;
        world.activator.standstill().listed(1);
    });
    assert_eq!(text(answer).await, "hello");
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert_eq!(world.metric("retries_total"), 0);
}

/// A tunnel to a pod that is gone does not hold its slot for a day.
#[tokio::test(start_paused = true)]
async fn a_tunnel_to_a_removed_pod_ends_after_the_grace() {
    let world = World::new(json!({}));
    world.start(1, websocket());
    settle().await;
    let url = format!("ws://{HOST}/");
    let (mut socket, _) = tokio_tungstenite::client_async(&url, world.dial()).await.unwrap();
    let begun = Instant::now();
    world.untell(1);
    assert!(socket.next().await.is_none_or(|message| message.is_err()));
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert!(is_idle(&world).await);
}

/// A machine without files to spare says so, and blames no pod.
#[tokio::test(start_paused = true)]
async fn a_fault_of_this_machine_is_no_fault_of_the_pod() {
    let world = World::new(json!({}));
    world.start(1, echo("hello"));
    settle().await;
    *world.network.fault.lock() = Some(Errno::EMFILE as i32);
    let begun = Instant::now();
    let response = world.get().await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["ebb-error"], "overloaded");
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(begun.elapsed().as_secs(), 2, "as long as any attempt may take");
    assert_eq!(world.metric("overflows_total{bound=\"machine\"}"), 1);
    // A file may be free a moment later.
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_millis(300)).await;
        *world.network.fault.lock() = None;
    });
    assert_eq!(text(response).await, "hello");
    assert_eq!(world.metric("retries_total"), 0, "it was ready all the while");
}

/// Unused connections to HTTP/2 pods do not stay for ever.
#[tokio::test(start_paused = true)]
async fn an_unused_http2_connection_to_a_pod_is_closed() {
    let spec = json!({"containers": [{"name": "c", "image": "i", "ports": [{"name": "h2c"}]}]});
    let world = World::new(spec);
    world.start(1, echo("hello"));
    settle().await;
    assert_eq!(text(world.get().await).await, "hello");
    let dials = world.network.dials.load(Ordering::SeqCst);
    for (seconds, again) in [(30, 0), (70, 1)] {
        for _ in 0..seconds {
            sleep(Duration::from_secs(1)).await;
            world.activator.report();
        }
        assert_eq!(text(world.get().await).await, "hello");
        assert_eq!(world.network.dials.load(Ordering::SeqCst) - dials, again);
    }
}
