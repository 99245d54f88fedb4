//! What passes through: bodies both ways as they come, headers, connections that are used again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::fixture::*;

/// Sends the parts of the request back as they come.
fn mirror() -> Handler {
    Arc::new(|request| {
        Box::pin(async move {
            Response::new(request.into_body().map_err(std::io::Error::other).boxed())
        })
    })
}

#[tokio::test(start_paused = true)]
async fn bodies_stream_both_ways_without_being_collected() {
    let world = World::new(json!({}));
    world.start(1, mirror());
    settle().await;
    let (parts, mut receiver) = mpsc::channel::<Bytes>(1);
    let stream = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let body = StreamBody::new(futures::StreamExt::map(stream, |part| {
        Ok::<_, std::convert::Infallible>(Frame::data(part))
    }));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(world.dial())).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/").header("host", HOST).body(body).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    for part in ["one", "two", "three"] {
        parts.send(part.into()).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, part, "came back before the next was sent");
    }
    assert_eq!(world.in_flight(), 1, "in flight until the body ends");
    drop(parts);
    assert!(body.frame().await.is_none());
    settle().await;
    assert_eq!(world.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_connection_serves_one_request_after_another() {
    let world = World::new(json!({}));
    world.start(1, echo("hello"));
    settle().await;
    let probes = world.network.dials.load(Ordering::SeqCst);
    for _ in 0..20 {
        assert_eq!(text(world.get().await).await, "hello");
        settle().await;
    }
    assert_eq!(world.network.dials.load(Ordering::SeqCst), probes + 1);
    // A connection left alone for longer than model servers keep one is not trusted.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(text(world.get().await).await, "hello");
    assert_eq!(world.network.dials.load(Ordering::SeqCst), probes + 2);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_pod_takes_over_gets_new_connections() {
    let world = World::new(json!({}));
    world.start(1, echo("old"));
    settle().await;
    assert_eq!(text(world.get().await).await, "old");
    world.untell(1);
    world.start(1, echo("new"));
    settle().await;
    assert_eq!(text(world.get().await).await, "new");
}

#[tokio::test(start_paused = true)]
async fn the_pod_sees_the_host_and_who_asked_and_nothing_a_client_made_up() {
    let world = World::new(json!({}));
    world.start(
        1,
        Arc::new(|request: Request<_>| {
            let shown = ["host", "x-forwarded-for", "forwarded", "knative-serving-revision"]
                .map(|name| request.headers().get(name).map_or("-", |v| v.to_str().unwrap()))
                .join(" ");
            Box::pin(async move { reply(shown) })
        }),
    );
    settle().await;
    let mut request = get();
    request.headers_mut().insert("knative-serving-revision", "other".parse().unwrap());
    request.headers_mut().insert("host", "Digits.default.example.com:80".parse().unwrap());
    let host = "Digits.default.example.com:80";
    let want = format!("{host} 192.0.2.7 for=192.0.2.7;host={host};proto=http -");
    assert_eq!(text(world.send(request).await).await, want);
}

#[tokio::test(start_paused = true)]
async fn a_held_upload_is_not_asked_for_before_there_is_a_pod() {
    let world = World::new(json!({}));
    let mut connection = world.dial();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    settle().await;
    assert_eq!(world.queued(), 1);
    let mut answer = [0; 12];
    let early = tokio::time::timeout(Duration::from_secs(1), connection.read(&mut answer)).await;
    assert!(early.is_err(), "asked for the body while cold");
    world.start(1, mirror());
    let mut answer = [0; 25];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(b"hello").await.unwrap();
    let mut answer = [0; 15];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test(start_paused = true)]
async fn a_refused_upload_is_drained_when_small_and_else_ends_the_connection() {
    let world = World::new(json!({}));
    for (bytes, closes) in [(100, false), (1_000_000, true)] {
        let body = Full::new(Bytes::from(vec![b'x'; bytes]));
        let request = Request::post("/").header("host", "nobody").body(body).unwrap();
        let response = world.send(request).await;
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers().contains_key("connection"), closes, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_the_load_is_shared() {
    let world = World::new(json!({}));
    let pods: Vec<_> = (1..=3).map(|number| world.start(number, slow(100))).collect();
    settle().await;
    let responses = futures::future::join_all((0..60).map(|_| world.get())).await;
    assert_eq!(responses.len(), 60);
    for pod in pods {
        let served = pod.served.load(Ordering::SeqCst);
        assert!((15..=25).contains(&served), "{served} of 60 in one of three pods");
    }
}
