//! Clients that read events and have to wait: comments keep their connections, and what goes wrong
//! later is told by an event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::fixture::*;
use super::peers::Pair;
use crate::WatchChange;

const ASKED: &str = ": waiting for the model: asked, 5 s\n\n";
pub(super) const HELLO: &str = "data: hello\n\n";

pub(super) fn asking() -> Request<Full<Bytes>> {
    let request = Request::post("/").header("host", HOST).header("accept", "text/event-stream");
    request.body(Full::default()).unwrap()
}

/// One event, and another a second later.
pub(super) fn events() -> Handler {
    Arc::new(|_| {
        Box::pin(async {
            let parts = futures::stream::iter([0, 1]).then(async |seconds| {
                sleep(Duration::from_secs(seconds)).await;
                Ok(Frame::data(Bytes::from_static(HELLO.as_bytes())))
            });
            let body = http_body_util::combinators::BoxBody::new(StreamBody::new(Box::pin(parts)));
            Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
        })
    })
}

fn answers(status: StatusCode) -> Handler {
    Arc::new(move |_| {
        Box::pin(async move {
            let mut response = reply("too long");
            *response.status_mut() = status;
            response
        })
    })
}

/// The error that the last event of a stream tells of.
fn error_of(stream: &str) -> Value {
    let mut events = stream.split_inclusive("\n\n").skip_while(|event| event.starts_with(": "));
    let event = events.next().unwrap().strip_prefix("event: error\n").unwrap();
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str::<Value>(data).unwrap()["error"].clone()
}

async fn open_stream(world: &World) -> Response<Incoming> {
    let begun = Instant::now();
    let response = world.send(asking()).await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(!response.headers().contains_key("content-length"));
    response
}

#[tokio::test(start_paused = true)]
async fn comments_come_every_five_seconds_until_the_events_do() {
    let world = World::new(json!({}));
    let response = open_stream(&world).await;
    let begun = Instant::now();
    let (stream, ()) = futures::join!(text(response), async {
        sleep(Duration::from_secs(3)).await;
        world.tell(1, json!({"phase": "Pending", "podIP": null}));
        sleep(Duration::from_secs(4)).await;
        world.tell(1, json!({"phase": "Running"}));
        sleep(Duration::from_secs(5)).await;
        assert_eq!(world.queued(), 1);
        world.start(1, events());
    });
    let pending = ": waiting for the model: pending, 10 s\n\n";
    let loading = ": waiting for the model: loading, 15 s\n\n";
    assert_eq!(stream, [ASKED, pending, loading, HELLO, HELLO].concat());
    assert_eq!(begun.elapsed().as_secs(), 13);
    settle().await;
    assert_eq!((world.queued(), world.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_gets_them_too() {
    let world = World::new(json!({}));
    let io = TokioIo::new(world.dial());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut request = asking();
    request.headers_mut().remove("host");
    *request.uri_mut() = format!("http://{HOST}/").parse().unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (stream, ()) = futures::join!(text(response), async {
        sleep(Duration::from_secs(7)).await;
        world.start(1, events());
    });
    let later = ASKED.replace('5', "10");
    assert_eq!(stream, [ASKED, &later, HELLO, HELLO].concat());
}

/// Its window has no room for a single byte, so that nobody asks its response for more.
#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_keeps_no_slot_from_others() {
    let world = World::new(json!({"containerConcurrency": 1}));
    let io = TokioIo::new(world.dial());
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = asking();
    request.headers_mut().remove("host");
    *request.uri_mut() = format!("http://{HOST}/").parse().unwrap();
    let _unread = sender.send_request(request).await.unwrap();
    let pod = world.start(1, answers(StatusCode::OK));
    settle().await;
    assert_eq!(pod.served.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!((world.queued(), world.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_for_long_or_reads_no_events_gets_the_status_of_the_pod() {
    let world = World::new(json!({}));
    let (response, ()) = futures::join!(world.send(asking()), async {
        sleep(Duration::from_secs(4)).await;
        world.start(1, answers(StatusCode::BAD_REQUEST));
    });
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(text(response).await, "too long");
    let world = World::new(json!({"timeoutSeconds": 20}));
    assert_eq!(world.get().await.status(), StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_200_is_an_event_and_counts_as_what_it_is() {
    let world = World::new(json!({"timeoutSeconds": 20}));
    let late = open_stream(&world).await;
    let error = error_of(&text(late).await);
    assert_eq!(error["message"], "activator request timeout");
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("timeout")));
    assert_eq!(world.queued(), 0);
    let counted = world.metrics();
    assert!(counted.contains("errors_total{reason=\"timeout\"} 1"), "{counted}");
    assert!(counted.contains("code_class=\"5xx\"} 1"), "{counted}");

    let refused = open_stream(&world).await;
    let (stream, _pod) =
        futures::join!(text(refused), async { world.start(1, answers(StatusCode::BAD_REQUEST)) });
    assert_eq!(error_of(&stream)["message"], "too long");
    assert!(world.metrics().contains("code_class=\"4xx\"} 1"));
}

/// Its pod ends in the middle of its second event.
#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_after_the_200_ends_with_an_error() {
    let world = World::new(json!({}));
    let response = open_stream(&world).await;
    let breaks: Handler = Arc::new(|_| {
        Box::pin(async {
            let parts = futures::stream::iter([0, 1]).then(async |second| {
                sleep(Duration::from_secs(second)).await;
                // A handler cannot fail, and what it panics ends the connection.
                assert_eq!(second, 0, "the pod ends");
                Ok(Frame::data(Bytes::from_static(b"data: hel")))
            });
            let body = http_body_util::combinators::BoxBody::new(StreamBody::new(Box::pin(parts)));
            Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
        })
    });
    world.start(1, breaks);
    let stream = text(response).await;
    let (before, error) = stream.split_once("data: hel\n\n").unwrap();
    assert_eq!(before, ASKED);
    assert_eq!(error_of(error)["code"], "upstream");
    assert!(world.metrics().contains("code_class=\"5xx\"} 1"), "{}", world.metrics());
}

/// Proxies may stop sending the body of a request whose response has begun.
#[tokio::test(start_paused = true)]
async fn a_long_body_that_is_on_its_way_keeps_its_response_from_beginning() {
    let world = World::new(json!({"timeoutSeconds": 20}));
    let mut request = asking();
    *request.body_mut() = Full::from(vec![b'x'; 40_000]);
    assert_eq!(world.send(request).await.status(), StatusCode::GATEWAY_TIMEOUT);
}

/// The head that goes out early names no coding.
#[tokio::test(start_paused = true)]
async fn a_pod_is_not_asked_to_compress_what_follows_comments() {
    let world = World::new(json!({}));
    let mut request = asking();
    request.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let tells: Handler = Arc::new(|request| {
        let asked = request.headers().contains_key("accept-encoding");
        Box::pin(async move {
            let mut response = reply(format!("data: {asked}\n\n"));
            let media = "text/event-stream".parse().unwrap();
            response.headers_mut().insert("content-type", media);
            response
        })
    });
    let (response, ()) = futures::join!(world.send(request), async {
        sleep(Duration::from_secs(7)).await;
        world.start(1, tells);
    });
    assert_eq!(text(response).await, format!("{ASKED}data: false\n\n"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gives_up_its_place() {
    let world = World::new(json!({}));
    let response = open_stream(&world).await;
    assert_eq!(world.queued(), 1);
    drop(response);
    settle().await;
    assert_eq!(world.queued(), 0);
    assert!(world.metrics().contains("code_class=\"4xx\"} 1"), "{}", world.metrics());
}

/// The owner of a revision holds the request, and the other passes the comments on.
#[tokio::test(start_paused = true)]
async fn comments_come_by_way_of_another_activator() {
    // Without a start timeout the wait would end after the shortest time.
    let spec = json!({"containerConcurrency": 1, "idleTimeoutSeconds": 3});
    let pair = Pair::new(&spec);
    for world in [&pair.owner, &pair.other] {
        let mut revision = revision(spec.clone());
        let notes = revision.metadata.annotations.get_or_insert_default();
        notes.insert("serving.ebb.dev/start-timeout".to_owned(), "1m".to_owned());
        world.activator.change_revisions(WatchChange::Applied(revision));
    }
    let response = open_stream(&pair.other).await;
    assert_eq!((pair.owner.queued(), pair.other.queued()), (1, 0));
    let (stream, _pod) = futures::join!(text(response), async {
        sleep(Duration::from_secs(7)).await;
        pair.start(1, events()).await
    });
    let later = ASKED.replace('5', "10");
    assert_eq!(stream, [ASKED, &later, HELLO, HELLO].concat());
}

#[tokio::test(start_paused = true)]
async fn with_a_start_timeout_the_wait_is_apart_from_the_time_of_the_model() {
    let told = |start: &str, starts: &str| {
        let world = World::new(json!({"timeoutSeconds": 10}));
        let mut revision = revision(json!({"timeoutSeconds": 10}));
        let notes = revision.metadata.annotations.get_or_insert_default();
        notes.insert("serving.ebb.dev/start-timeout".to_owned(), start.to_owned());
        notes.insert("serving.ebb.dev/starts".to_owned(), starts.to_owned());
        world.activator.change_revisions(WatchChange::Applied(revision));
        world
    };
    let begun = Instant::now();
    let response = told("1m", "").get().await;
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["ebb-error"], "start-timeout");
    assert!(response.headers().contains_key("retry-after"));

    for (takes_ms, status) in [(9_000, 200), (11_000, 504)] {
        let world = told("1m", "");
        let (response, ()) = futures::join!(world.get(), async {
            sleep(Duration::from_secs(55)).await;
            world.start(1, slow(takes_ms));
        });
        assert_eq!(response.status(), status, "{takes_ms}");
    }
    let error = text(open_stream(&told("6s", "")).await).await;
    assert!(error.contains("event: error\nretry: 10000\ndata: "), "{error}");
    assert_eq!(error_of(&error)["code"], "start-timeout");
    let response = told("6s", "3,40").get().await;
    assert_eq!(response.headers()["retry-after"], "40", "as long as a start usually takes");
}

#[tokio::test(start_paused = true)]
async fn an_automatic_start_timeout_goes_on_from_step_to_step() {
    let world = |starts: &str| {
        let world = World::new(json!({"timeoutSeconds": 100, "containerConcurrency": 1}));
        let mut revision = revision(json!({"timeoutSeconds": 100, "containerConcurrency": 1}));
        let known = [("start-timeout", "auto"), ("starts", starts)];
        let known = known.map(|(key, text)| (format!("serving.ebb.dev/{key}"), text.to_owned()));
        revision.metadata.annotations = Some(known.into());
        world.activator.change_revisions(WatchChange::Applied(revision));
        world
    };
    let ended = async |world: &World, steps: &[(u64, Value)]| {
        let begun = Instant::now();
        let (response, ()) = futures::join!(world.get(), async {
            for (at_s, status) in steps {
                tokio::time::sleep_until(begun + Duration::from_secs(*at_s)).await;
                world.tell(1, status.clone());
            }
        });
        assert_eq!(response.headers()["ebb-error"], "start-timeout");
        begun.elapsed().as_secs()
    };
    // Three times five seconds without a step, from the arrival and from each step.
    assert_eq!(ended(&world("4,5"), &[]).await, 15);
    assert_eq!(ended(&world(""), &[]).await, 600, "nothing is known yet");
    let pending = json!({"phase": "Pending", "podIP": null});
    let running = json!({"phase": "Running", "conditions": []});
    assert_eq!(ended(&world("5"), &[(10, pending.clone())]).await, 610);
    assert_eq!(ended(&world("5"), &[(10, pending), (300, running)]).await, 315);
    // Behind a busy pod nothing starts.
    let busy = world("5");
    busy.start(1, slow(60_000));
    settle().await;
    let (first, second) = futures::join!(busy.get(), busy.get());
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let (_first, _second, waited) = futures::join!(busy.get(), busy.get(), ended(&busy, &[]));
    assert_eq!(waited, 100, "as long as the revision gives to a response");
    // After a start that takes longer than that, those behind the first wait as long from then on.
    let late = world("60,60");
    let (first, second, ()) = futures::join!(late.get(), late.get(), async {
        sleep(Duration::from_secs(150)).await;
        late.start(1, slow(60_000));
    });
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
}

/// A browser loads the page again and again, and gets the model's at last.
#[tokio::test(start_paused = true)]
async fn a_browser_gets_a_page_until_there_is_a_pod() {
    let world = World::new(json!({}));
    let navigating = || {
        let request = Request::get("/").header("host", HOST).header("accept", "text/html");
        request.header("sec-fetch-mode", "navigate").body(Full::<Bytes>::default()).unwrap()
    };
    let (waited, ()) = futures::join!(world.send(navigating()), async {
        sleep(Duration::from_secs(30)).await;
        world.start(1, events());
    });
    assert_eq!(waited.status(), StatusCode::OK, "without the annotation it waits");
    let world = World::new(json!({}));
    let mut known = revision(json!({}));
    let notes = known.metadata.annotations.get_or_insert_default();
    notes.insert("serving.ebb.dev/waiting-page".to_owned(), "true".to_owned());
    world.activator.change_revisions(WatchChange::Applied(known));
    let began = Instant::now();
    for lasts in [1, 4] {
        let page = world.send(navigating()).await;
        assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(page.headers()["cache-control"], "no-store");
        let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        let text = text(page).await;
        assert!(text.contains(&format!("<p>{lasts} s so far.</p>")), "{text}");
        assert_eq!((world.queued(), began.elapsed().as_secs()), (0, lasts));
        sleep(Duration::from_secs(2)).await;
    }
    assert!(!world.notes.reports.lock().is_empty(), "it wakes the model");
    for _ in 0..30 {
        assert_eq!(world.send(navigating()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        sleep(Duration::from_secs(2)).await;
    }
    let page = text(world.send(navigating()).await).await;
    assert!(page.contains("<p>97 s so far.</p>"), "one start, however often it came: {page}");
    let (response, ()) = futures::join!(world.send(navigating()), async {
        sleep(Duration::from_millis(700)).await;
        world.start(1, slow(5_000));
    });
    assert_eq!(text(response).await, "slow");
    let busy = World::new(json!({"containerConcurrency": 1}));
    let mut known = revision(json!({"containerConcurrency": 1}));
    let notes = known.metadata.annotations.get_or_insert_default();
    notes.insert("serving.ebb.dev/waiting-page".to_owned(), "true".to_owned());
    busy.activator.change_revisions(WatchChange::Applied(known));
    busy.start(1, slow(5_000));
    settle().await;
    let (first, second) = futures::join!(busy.get(), busy.send(navigating()));
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
}
