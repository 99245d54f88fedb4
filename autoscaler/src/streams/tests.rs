use axum::http::Request as HttpRequest;
use futures::channel::mpsc;
use http_body_util::BodyExt as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tower::ServiceExt as _;

use ebb_api::report::wire::Encoder;
use ebb_api::report::{OrderId, RevisionReport, Scope};

use super::*;
use crate::intake::{Reports, intake};

type Sender = mpsc::UnboundedSender<Result<Bytes, Infallible>>;

fn order(name: &str, pods: &[&str]) -> DrainOrder {
    let pods = pods.iter().map(|&pod| pod.to_owned()).collect();
    DrainOrder {
        revision: RevisionKey::new("default", name),
        id: OrderId::default(),
        pods,
        called: None,
    }
}

/// The streams of a replica that leads.
fn leading() -> Streams {
    let streams = Streams::default();
    streams.lead(Some(1));
    streams
}

fn server() -> (Router, Streams, Reports) {
    let (intake, reports) = intake(Counter::default());
    let streams = leading();
    (router(intake, streams.clone(), Doorkeeper::open()), streams, reports)
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

/// An answer of a standby, which wakes nothing, would keep the activators from waking anything.
#[tokio::test(start_paused = true)]
async fn only_the_leader_answers_reports() {
    let (router, streams, mut reports) = server();
    streams.lead(None);
    let (lines, mut response) = connect(&router).await;
    let mut encoder = Encoder::new("one");
    say(&lines, &lines_of(&mut encoder, &report(Scope::Moment, 1)));
    let silence = tokio::time::timeout(Duration::from_secs(2), heard(&mut response)).await;
    assert!(silence.is_err(), "a standby answers nothing");
    assert_eq!(reports.next().await, report(Scope::Moment, 1), "and hears everything");
    streams.lead(Some(1));
    say(&lines, &lines_of(&mut encoder, &report(Scope::Moment, 2)));
    assert!(heard(&mut response).await.is_some_and(|answer| answer.ack.is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_later_stream_gets_the_standing_orders() {
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

/// An order of an earlier term is not given to an activator that connects in this one.
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

/// Reports that still arrive on an older stream were made before the newer one began, and no later
/// report would take them back.
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

/// An activator's reports may be forgotten here while its stream lives, which from then on carries
/// only changes.
#[tokio::test(start_paused = true)]
async fn an_activator_that_is_to_begin_anew_loses_its_stream_and_no_other() {
    let (router, streams, mut reports) = server();
    let (one, mut one_response) = connect(&router).await;
    let (two, mut two_response) = connect(&router).await;
    say(&one, &lines_of(&mut Encoder::new("one"), &report(Scope::Full, 1)));
    let other = Report { activator: "two".to_owned(), ..report(Scope::Full, 1) };
    say(&two, &lines_of(&mut Encoder::new("two"), &other));
    assert!(heard(&mut one_response).await.is_some());
    assert!(heard(&mut two_response).await.is_some());
    reports.next().await;
    streams.begin_anew("nobody");
    streams.begin_anew("one");
    streams.drain(order("digits-00001", &["a"]));
    assert_eq!(heard(&mut one_response).await, None, "also where an order waits");
    assert!(heard(&mut two_response).await.is_some());
    // Its next stream is not ended for the same reason.
    let (again, mut response) = connect(&router).await;
    streams.begin_anew("one");
    assert!(heard(&mut response).await.is_some(), "the order that stands");
    say(&again, &lines_of(&mut Encoder::new("one"), &report(Scope::Full, 2)));
    assert!(heard(&mut response).await.is_some());
}

/// An order is repeated every two seconds while it stands, and that is no line of the activator.
#[tokio::test(start_paused = true)]
async fn orders_do_not_make_a_silent_stream_live_longer() {
    let (router, streams, _reports) = server();
    let (_lines, mut response) = connect(&router).await;
    let begun = Instant::now();
    let ordering = tokio::spawn(async move {
        loop {
            streams.drain(order("digits-00001", &["a"]));
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
    while begun.elapsed() < 2 * SILENCE_MAX && heard(&mut response).await.is_some() {}
    assert_eq!(begun.elapsed(), SILENCE_MAX);
    ordering.abort();
}

/// Streams behind an API server to which the token `good` is that of the activator `one`.
fn guarded() -> (Router, Reports) {
    let answer = |request: HttpRequest<kube::client::Body>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let question: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let status = serde_json::json!({
            "authenticated": question["spec"]["token"] == "good",
            "audiences": [identity::AUDIENCE],
            "user": {
                "username": "system:serviceaccount:ebb:ebb-activator",
                "extra": {"authentication.kubernetes.io/pod-name": ["one"]},
            },
        });
        let answer = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "metadata": {}, "spec": {}, "status": status,
        });
        Ok::<_, Infallible>(Response::new(kube::client::Body::from(
            answer.to_string().into_bytes(),
        )))
    };
    let client = kube::Client::new(tower::service_fn(answer), "default");
    let doorkeeper = Doorkeeper::new(client, "ebb", &mut Registry::default());
    let (intake, reports) = intake(Counter::default());
    (router(intake, leading(), doorkeeper), reports)
}

async fn connect_with(router: &Router, token: Option<&str>) -> (Sender, Response) {
    let (lines, body) = mpsc::unbounded();
    let mut request = HttpRequest::post(STREAM_PATH).body(Body::from_stream(body)).unwrap();
    if let Some(token) = token {
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, identity::authorization(token).unwrap());
    }
    (lines, router.clone().oneshot(request).await.unwrap())
}

/// Without a token any client that reached the port could decide what is scaled, under any name.
#[tokio::test(start_paused = true)]
async fn only_an_activator_reports_and_only_for_itself() {
    let (router, mut reports) = guarded();
    for token in [None, Some("bad")] {
        let (_lines, response) = connect_with(&router, token).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{token:?}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "only activators of this cluster are served here\n");
    }
    for (name, is_heard) in [("one", true), ("two", false)] {
        let (lines, mut response) = connect_with(&router, Some("good")).await;
        assert_eq!(response.status(), StatusCode::OK);
        let report = Report { activator: name.to_owned(), ..report(Scope::Full, 1) };
        say(&lines, &lines_of(&mut Encoder::new(name), &report));
        assert_eq!(heard(&mut response).await.is_some(), is_heard, "{name}");
        if is_heard {
            assert_eq!(reports.next().await.activator, name);
        }
    }
    // No report in the other name was taken in.
    assert!(futures::FutureExt::now_or_never(reports.next()).is_none());
}

/// A stream that talks without end keeps no other from being heard.
#[tokio::test(start_paused = true)]
async fn no_stream_is_read_faster_than_so_many_lines_a_second() {
    let (router, _streams, mut reports) = server();
    let (lines, mut response) = connect(&router).await;
    let taking = tokio::spawn(async move { while heard(&mut response).await.is_some() {} });
    let mut encoder = Encoder::new("one");
    let begun = Instant::now();
    for _ in 0..=2 * LINES_PER_SECOND_MAX {
        say(&lines, &lines_of(&mut encoder, &report(Scope::Moment, 1)));
        reports.next().await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    taking.abort();
}
