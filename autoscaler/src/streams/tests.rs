use axum::http::Request as HttpRequest;
use futures::channel::mpsc;
use http_body_util::BodyExt as _;
use prometheus_client::metrics::counter::Counter;
use tower::ServiceExt as _;

use ebb_api::report::wire::Encoder;
use ebb_api::report::{OrderId, RevisionReport, Scope};

use super::*;
use crate::intake::{Reports, intake};

type Sender = mpsc::UnboundedSender<Result<Bytes, Infallible>>;

fn order(name: &str, pods: &[&str]) -> DrainOrder {
    let pods = pods.iter().map(|&pod| pod.to_owned()).collect();
    DrainOrder { revision: RevisionKey::new("default", name), id: OrderId::default(), pods }
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

/// The next answer.
async fn heard(response: &mut Response) -> Option<Answer> {
    let frame = response.body_mut().frame().await?.unwrap().into_data().unwrap();
    Some(Answer::decode(std::str::from_utf8(&frame).unwrap().trim_end()).unwrap())
}

fn ordered(order: DrainOrder) -> Answer {
    Answer { ack: None, order: Some(order) }
}

fn report(scope: Scope, queued: u32) -> Report {
    let revision = RevisionKey::new("default", "digits-00001");
    let said = RevisionReport { revision, queued, ..RevisionReport::default() };
    Report { activator: "one".to_owned(), scope, revisions: vec![said] }
}

fn lines_of(encoder: &mut Encoder, report: &Report) -> String {
    String::from_utf8(encoder.encode(report)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn reports_go_up_while_orders_come_down() {
    let (router, streams, mut reports) = server();
    let (lines, mut response) = connect(&router).await;
    assert_eq!(response.status(), StatusCode::OK);
    let listening = tokio::spawn(async move {
        let answer = heard(&mut response).await;
        (answer, response)
    });
    // In two pieces: a line is a line wherever the network cuts it.
    let text = lines_of(&mut Encoder::new("one"), &report(Scope::Moment, 3));
    let (first, second) = text.split_at(20);
    say(&lines, first);
    say(&lines, second);
    assert_eq!(reports.next().await, report(Scope::Moment, 3));
    let (answer, mut response) = listening.await.unwrap();
    assert_eq!(answer, Some(Answer { ack: Some(1), order: None }));
    streams.drain(order("digits-00001", &["a"]));
    assert_eq!(heard(&mut response).await, Some(ordered(order("digits-00001", &["a"]))));
}

#[tokio::test(start_paused = true)]
async fn who_connects_later_hears_the_orders_that_stand() {
    let (router, streams, _reports) = server();
    streams.drain(order("gone-00001", &["a"]));
    streams.drain(order("kept-00001", &["b"]));
    streams.drain(order("gone-00001", &[]));
    let (_lines, mut response) = connect(&router).await;
    assert_eq!(heard(&mut response).await, Some(ordered(order("kept-00001", &["b"]))));
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_order_of_a_revision_waits() {
    let (router, streams, _reports) = server();
    let (_lines, mut response) = connect(&router).await;
    streams.drain(order("digits-00001", &["a"]));
    streams.drain(order("digits-00001", &["a", "b"]));
    streams.drain(order("digits-00001", &[]));
    assert_eq!(heard(&mut response).await, Some(ordered(order("digits-00001", &[]))));
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

/// S8: what stood in an earlier term is not said to who connects in this one.
#[tokio::test(start_paused = true)]
async fn a_new_term_begins_without_the_orders_of_the_last() {
    let (router, streams, _reports) = server();
    streams.drain(order("digits-00001", &["a"]));
    streams.lead(None);
    streams.lead(Some(2));
    streams.drain(order("other-00001", &["b"]));
    let (_lines, mut response) = connect(&router).await;
    assert_eq!(heard(&mut response).await, Some(ordered(order("other-00001", &["b"]))));
}

/// What an older stream still brings was said before the newer one began, and nothing that comes
/// later would take it back.
#[tokio::test(start_paused = true)]
async fn a_newer_stream_of_an_activator_ends_the_older_one() {
    let (router, _streams, mut reports) = server();
    let (old, mut old_response) = connect(&router).await;
    let mut encoder = Encoder::new("one");
    say(&old, &lines_of(&mut encoder, &report(Scope::Full, 1)));
    assert!(heard(&mut old_response).await.is_some());
    assert_eq!(reports.next().await.revisions[0].queued, 1);
    let (new, mut response) = connect(&router).await;
    say(&new, &lines_of(&mut Encoder::new("one"), &report(Scope::Full, 0)));
    assert!(heard(&mut response).await.is_some());
    assert_eq!(reports.next().await.revisions[0].queued, 0);
    say(&old, &lines_of(&mut encoder, &report(Scope::Moment, 2)));
    assert_eq!(heard(&mut old_response).await, None);
}
