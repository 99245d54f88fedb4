use axum::http::Request as HttpRequest;
use futures::channel::mpsc;
use http_body_util::BodyExt as _;
use prometheus_client::metrics::counter::Counter;
use tower::ServiceExt as _;

use super::*;
use crate::intake::{Reports, intake};

type Sender = mpsc::UnboundedSender<Result<Bytes, Infallible>>;

fn order(name: &str, pods: &[&str]) -> DrainOrder {
    let pods = pods.iter().map(|&pod| pod.to_owned()).collect();
    DrainOrder { revision: RevisionKey::new("default", name), pods }
}

fn server() -> (Router, Streams, Reports) {
    let (intake, reports) = intake(Counter::default());
    let streams = Streams::default();
    (router(intake, streams.clone()), streams, reports)
}

/// A stream as an activator opens it: where its lines go in, and the response.
async fn connect(router: &Router) -> (Sender, Response) {
    let (lines, body) = mpsc::unbounded();
    let request = HttpRequest::post(STREAM_PATH).body(Body::from_stream(body)).unwrap();
    (lines, router.clone().oneshot(request).await.unwrap())
}

fn say(lines: &Sender, text: &str) {
    lines.unbounded_send(Ok(Bytes::copy_from_slice(text.as_bytes()))).unwrap();
}

async fn heard(response: &mut Response) -> Option<DrainOrder> {
    let frame = response.body_mut().frame().await?.unwrap();
    Some(serde_json::from_slice(&frame.into_data().unwrap()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn reports_go_up_while_orders_come_down() {
    let (router, streams, mut reports) = server();
    let (lines, mut response) = connect(&router).await;
    assert_eq!(response.status(), StatusCode::OK);
    let listening = tokio::spawn(async move {
        let order = heard(&mut response).await;
        (order, response)
    });
    // In two pieces: a line is a line wherever the network cuts it.
    say(&lines, r#"{"activator":"one","#);
    say(&lines, "\"revisions\":[]}\n");
    assert_eq!(reports.next().await.activator, "one");
    streams.drain(order("digits-00001", &["a"]));
    assert_eq!(listening.await.unwrap().0, Some(order("digits-00001", &["a"])));
}

#[tokio::test(start_paused = true)]
async fn who_connects_later_hears_the_orders_that_stand() {
    let (router, streams, _reports) = server();
    streams.drain(order("gone-00001", &["a"]));
    streams.drain(order("kept-00001", &["b"]));
    streams.drain(order("gone-00001", &[]));
    let (_lines, mut response) = connect(&router).await;
    assert_eq!(heard(&mut response).await, Some(order("kept-00001", &["b"])));
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_order_of_a_revision_waits() {
    let (router, streams, _reports) = server();
    let (_lines, mut response) = connect(&router).await;
    streams.drain(order("digits-00001", &["a"]));
    streams.drain(order("digits-00001", &["a", "b"]));
    streams.drain(order("digits-00001", &[]));
    assert_eq!(heard(&mut response).await, Some(order("digits-00001", &[])));
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_activator_with_nonsense_with_a_long_line_and_with_silence() {
    for text in [None, Some("{}{}\n".to_owned()), Some("x".repeat(LINE_BYTES_MAX + 2))] {
        let (router, _streams, _reports) = server();
        let (lines, mut response) = connect(&router).await;
        if let Some(text) = &text {
            say(&lines, text);
        } else {
            drop(lines);
        }
        assert_eq!(heard(&mut response).await, None);
    }
    let (router, _streams, _reports) = server();
    let (_lines, mut response) = connect(&router).await;
    assert_eq!(heard(&mut response).await, None, "paused time runs to the end of the patience");
}

#[tokio::test(start_paused = true)]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let (router, _streams, _reports) = server();
    let mut open = Vec::new();
    for _ in 0..ACTIVATORS_MAX {
        open.push(connect(&router).await);
    }
    let (_lines, response) = connect(&router).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    open.pop();
    let (_lines, response) = connect(&router).await;
    assert_eq!(response.status(), StatusCode::OK);
}
