//! Exchanges that end before their request does: pods that answer early, clients that leave.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fixture::*;
use super::wire::*;
use crate::health::FAILURES_MAX;

/// Begins an upload that will never be whole.
fn half() -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000\r\n\r\nhalf").into()
}

/// A pod may say at once that it will not take a body; its answer reaches the client.
#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_before_the_body_is_read_is_passed_on() {
    let world = World::new(json!({}));
    let refuses: Handler = Arc::new(|_| {
        let mut answer = reply("too large for this model");
        *answer.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        answer.headers_mut().insert("connection", HeaderValue::from_static("close"));
        Box::pin(async move { answer })
    });
    world.start(1, refuses);
    settle().await;
    for _ in 0..2 * FAILURES_MAX {
        let body = Full::new(Bytes::from(vec![0; 1_000_000]));
        let request = Request::post("/").header("host", HOST).body(body).unwrap();
        let response = world.send(request).await;
        assert_eq!(response.status(), 413);
        assert_eq!(text(response).await, "too large for this model");
    }
    assert_eq!(world.metric("ejections_total"), 0);
}

/// A client that leaves in the middle of its upload is no fault of the pod.
#[tokio::test(start_paused = true)]
async fn a_pod_is_not_blamed_for_clients_that_break_off_their_uploads() {
    let world = World::new(json!({}));
    let pods = [world.start(1, measure()), world.start(2, measure())];
    settle().await;
    for _ in 0..4 * FAILURES_MAX {
        let mut connection = world.dial();
        connection.write_all(&half()).await.unwrap();
        settle().await;
        assert_eq!(world.in_flight(), 1);
        drop(connection);
        settle().await;
        assert_eq!(world.in_flight(), 0);
    }
    let served: u32 = pods.iter().map(|pod| pod.served.load(Ordering::SeqCst)).sum();
    assert_eq!(served, 4 * FAILURES_MAX);
    assert_eq!(world.metric("ejections_total"), 0);
    assert_eq!(world.metric("errors_total{reason=\"upstream\"}"), 0);
    let of = |class: &str| {
        let revision = "namespace=\"default\",revision=\"digits-00001\"";
        world.metric(&format!("requests_total{{{revision},code_class=\"{class}\"}}"))
    };
    assert_eq!((of("4xx"), of("5xx")), (u64::from(4 * FAILURES_MAX), 0));
}

/// A client that leaves after the pod has begun to answer is no fault of the pod either.
#[tokio::test(start_paused = true)]
async fn a_pod_is_not_blamed_for_a_client_that_leaves_while_both_talk() {
    let world = World::new(json!({}));
    let talks: Handler = Arc::new(|request: Request<_>| {
        let (parts, body) = by_hand();
        tokio::spawn(async move {
            let _reached = parts.send("first".into()).await;
            let _ended = request.into_body().collect().await;
            drop(parts);
        });
        Box::pin(async move { http::Response::new(body) })
    });
    world.start(1, talks.clone());
    world.start(2, talks);
    settle().await;
    for _ in 0..4 * FAILURES_MAX {
        let mut connection = world.dial();
        connection.write_all(&half()).await.unwrap();
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        drop(connection);
        settle().await;
        assert_eq!(world.in_flight(), 0);
    }
    assert_eq!(world.metric("ejections_total"), 0);
}

/// A model cannot pass for Ebb: the header for Ebb's own errors is taken out of a model's response.
#[tokio::test(start_paused = true)]
async fn a_model_cannot_say_that_ebb_failed() {
    let world = World::new(json!({}));
    world.start(
        1,
        Arc::new(|_| {
            let mut answer = reply("mine");
            *answer.status_mut() = StatusCode::NOT_FOUND;
            answer.headers_mut().insert("ebb-error", HeaderValue::from_static("revision-unknown"));
            Box::pin(async move { answer })
        }),
    );
    let response = world.get().await;
    assert_eq!(response.status(), 404);
    assert!(!response.headers().contains_key("ebb-error"));
    assert_eq!(text(response).await, "mine");
}
