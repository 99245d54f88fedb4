//! What goes wrong: pods that fail, connections that are refused or break, time that runs out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::fixture::*;

fn crashed(restarts: u32) -> Value {
    json!({"podIP": null, "containerStatuses": [{
        "name": "user-container", "image": "", "imageID": "", "ready": false,
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 3, "message": "no such model\nmore"}},
    }]})
}

#[tokio::test(start_paused = true)]
async fn waiting_requests_learn_why_no_pod_can_start() {
    let world = World::new(json!({}));
    let (response, ()) = futures::join!(world.get(), async {
        settle().await;
        world.tell(1, crashed(1));
    });
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["ebb-error"], "cannot-start");
    let want = "revision default/digits-00001 cannot start: ExitCode3: no such model\n";
    assert_eq!(text(response).await, want);
    // The next request is refused at once, and still counts as demand.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.get().await.status(), 503);
    assert_eq!(world.notes.reports.lock().last().unwrap().revisions[0].queued, 1);
    // With a second pod a request may be served, so it waits.
    let (response, ()) = futures::join!(world.get(), async {
        world.start(2, echo("hello"));
    });
    assert_eq!(text(response).await, "hello");
}

/// Kubelet starts a container again at once after its first crash.
#[tokio::test(start_paused = true)]
async fn one_crash_is_no_verdict() {
    let world = World::new(json!({}));
    let ended = json!({"containerStatuses": [{
        "name": "user-container", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 3, "message": "no such model\nmore"}},
    }]});
    let (response, ()) = futures::join!(world.get(), async {
        settle().await;
        world.tell(1, ended.clone());
        sleep(Duration::from_secs(2)).await;
        assert_eq!(world.queued(), 1, "held");
        world.start(1, echo("hello"));
    });
    assert_eq!(text(response).await, "hello");
    // A failure that lasts is a verdict, even if Kubernetes does not call it one.
    world.hang_up(1);
    world.tell(1, json!({"podIP": null}));
    world.tell(1, ended);
    sleep(Duration::from_secs(11)).await;
    world.activator.report();
    assert_eq!(world.get().await.headers()["ebb-error"], "cannot-start");
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_tried_again_on_another_pod() {
    let world = World::new(json!({"containerConcurrency": 1}));
    world.start(1, echo("one"));
    settle().await;
    world.hang_up(1);
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(world.queued(), 1, "held, not failed: nothing was sent");
        world.start(2, echo("two"));
    });
    assert_eq!(text(response).await, "two");
    // The first pod is probed until it answers again.
    world.listen(1, echo("one"));
    sleep(Duration::from_millis(300)).await;
    world.untell(2);
    assert_eq!(text(world.get().await).await, "one");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_sent_is_never_sent_again() {
    let world = World::new(json!({}));
    let dies: Handler = Arc::new(|_| Box::pin(async { panic!("the model dies") }));
    let pod = world.start(1, dies);
    world.start(2, echo("two"));
    settle().await;
    world.untell(2);
    let response = world.get().await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["ebb-error"], "upstream");
    assert_eq!(pod.served.load(Ordering::SeqCst), 1);
    drop(response);
    settle().await;
    assert_eq!(world.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_terminating_pod_gets_nothing_new() {
    let world = World::new(json!({}));
    let pod = world.start(1, echo("one"));
    settle().await;
    world.tell(1, json!({"deleted": "2026-01-01T00:00:00Z"}));
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(1)).await;
        world.start(2, echo("two"));
    });
    assert_eq!(text(response).await, "two");
    assert_eq!(pod.served.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn kubernetes_takes_a_pod_out_and_back() {
    let ready = |status: &str| json!({"conditions": [{"type": "Ready", "status": status}]});
    let world = World::new(json!({}));
    world.start(1, echo("one"));
    world.tell(1, ready("True"));
    world.tell(1, ready("False"));
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.queued(), 1);
        world.tell(1, ready("True"));
    });
    assert_eq!(text(response).await, "one");
}

#[tokio::test(start_paused = true)]
async fn an_exec_probe_waits_for_kubernetes() {
    let world = World::new(json!({"containers": [{
        "name": "c", "image": "i", "readinessProbe": {"exec": {"command": ["true"]}},
    }]}));
    world.start(1, echo("one"));
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(5)).await;
        assert_eq!(world.queued(), 1);
        world.tell(1, json!({"conditions": [{"type": "Ready", "status": "True"}]}));
    });
    assert_eq!(text(response).await, "one");
}

#[tokio::test(start_paused = true)]
async fn an_http_probe_must_succeed_with_its_path_and_headers() {
    let world = World::new(json!({"containers": [{
        "name": "c", "image": "i", "readinessProbe": {"httpGet": {
            "port": 0, "path": "/ready", "httpHeaders": [{"name": "x-key", "value": "k"}],
        }},
    }]}));
    let born = Instant::now();
    world.start(
        1,
        Arc::new(move |request: Request<_>| {
            let probe = request.uri().path() == "/ready" && request.headers()["x-key"] == "k";
            let mut answer = reply("hello");
            if probe && born.elapsed() < Duration::from_millis(700) {
                *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            }
            Box::pin(async move { answer })
        }),
    );
    let response = world.get().await;
    assert!((700..730).contains(&born.elapsed().as_millis()), "{:?}", born.elapsed());
    assert_eq!(text(response).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_for_us_is_refused() {
    let world = World::new(json!({}));
    let of = |method: &str, host: &str| {
        Request::builder()
            .method(method)
            .uri("/")
            .header("host", host)
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    for (method, host, status, kind) in [
        ("GET", "nobody.example.com", 404, "host-unknown"),
        ("GET", "10.0.0.1", 404, "host-unknown"),
        ("GET", "user@digits.default", 400, "malformed"),
        ("GET", "digits.default:0", 400, "malformed"),
        ("TRACE", HOST, 405, "method-refused"),
    ] {
        let response = world.send(of(method, host)).await;
        assert_eq!(response.status(), status, "{method} {host}");
        assert_eq!(response.headers()["ebb-error"], kind, "{method} {host}");
    }
    let mut odd = get();
    odd.headers_mut().insert("expect", "miracles".parse().unwrap());
    assert_eq!(world.send(odd).await.status(), 417);
}

#[tokio::test(start_paused = true)]
async fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let world = World::new(json!({}));
    world.start(1, echo("hello"));
    settle().await;
    for head in [
        "POST / HTTP/1.1\r\nhost: @\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: @\r\ncontent-length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: @\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: @\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: @\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: @\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: @\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: @\r\nhost: @\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : @\r\n\r\n",
    ] {
        let mut connection = world.dial();
        connection.write_all(head.replace('@', HOST).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let closed = timeout(Duration::from_secs(1), connection.read_to_end(&mut answer)).await;
        closed.unwrap_or_else(|_| panic!("kept: {head}")).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_and_a_silent_client_are_cut_off() {
    let world = World::new(json!({}));
    world.start(1, slow(20_000));
    let begun = Instant::now();
    let mut connection = world.dial();
    connection.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let mut rest = Vec::new();
    connection.read_to_end(&mut rest).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 10);
    // A slow model is no slow client.
    assert_eq!(text(world.get().await).await, "slow");
}
