//! Two activators that know each other: one owns the revision, and both get requests for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ebb_daemon::identity::{Doorkeeper, Shown};
use futures::future::join_all;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

use super::fixture::*;
use super::protocols::{grpc, websocket};
use crate::ring::{Point, Ring};
use crate::{Limits, PeerOptions, WatchChange, greeting};

const PORT: u16 = 8082;

pub(super) struct Pair {
    pub(super) owner: World,
    pub(super) other: World,
    owner_is_a: bool,
}

impl Pair {
    /// Both activators know both, and a revision of `spec`.
    pub(super) fn new(spec: &Value) -> Self {
        Self::guarded(spec, &Doorkeeper::open())
    }

    /// The same, where each lets in the callers that `doorkeeper` admits. They show no token.
    fn guarded(spec: &Value, doorkeeper: &Doorkeeper) -> Self {
        let network = Arc::default();
        let options = PeerOptions {
            namespace: "ebb".into(),
            selector: "a=b".into(),
            port: PORT,
            shown: Shown::nothing(),
            doorkeeper: doorkeeper.clone(),
        };
        let world = |id: &str| {
            let (spec, peers) = (spec.clone(), Some(options.clone()));
            let world = World::on(Arc::clone(&network), spec, Limits::default(), id, peers);
            network.activators.lock().insert(place(id), world.activator.clone());
            world
        };
        let (a, b) = (world("a"), world("b"));
        for world in [&a, &b] {
            world
                .activator
                .change_peers(WatchChange::Replaced(vec![activator("a"), activator("b")]));
        }
        let ring = Ring::new(["a", "b"].map(|id| (id.to_owned(), id)));
        let owner_is_a = ring.owner(Point::of(&key())) == Some(&"a");
        let (owner, other) = if owner_is_a { (a, b) } else { (b, a) };
        Self { owner, other, owner_is_a }
    }

    /// A pod that both activators know.
    pub(super) async fn start(&self, number: u8, handler: Handler) -> Arc<FakePod> {
        let pod = self.owner.start(number, handler);
        self.other.tell(number, json!({}));
        settle().await;
        pod
    }

    /// Nobody can reach the owner any more, and the API has not noticed.
    fn lose_owner(&self) {
        self.owner.network.activators.lock().remove(&self.owner_place());
    }

    /// The owner can be reached again.
    fn find_owner(&self) {
        let owner = self.owner.activator.clone();
        self.owner.network.activators.lock().insert(self.owner_place(), owner);
    }

    fn owner_place(&self) -> std::net::SocketAddr {
        place(if self.owner_is_a { "a" } else { "b" })
    }
}

fn place(id: &str) -> std::net::SocketAddr {
    let number = if id == "a" { 1 } else { 2 };
    ([10, 0, 1, number], PORT).into()
}

fn activator(id: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": id, "namespace": "ebb", "uid": format!("uid-{id}")},
        "status": {
            "podIP": place(id).ip().to_string(),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))
    .unwrap()
}

/// The same pod once it is asked to end.
fn leaving(id: &str) -> Pod {
    let mut pod = activator(id);
    pod.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    pod
}

pub(super) fn one_at_a_time() -> Value {
    json!({"containerConcurrency": 1})
}

/// A counter or gauge of an activator.
pub(super) fn metric(world: &World, name: &str) -> u64 {
    let (text, name) = (world.metrics(), format!("ebb_activator_{name} "));
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_for_both_together_and_no_slot_stays_free() {
    let pair = Pair::new(&one_at_a_time());
    let pod = pair.start(1, slow(10)).await;
    let begun = Instant::now();
    let owned = join_all((0..50).map(|_| pair.owner.get()));
    let forwarded = join_all((0..50).map(|_| pair.other.get()));
    let loads = async {
        sleep(Duration::from_millis(5)).await;
        (pair.owner.queued(), pair.other.queued(), pair.other.in_flight())
    };
    let (owned, forwarded, loads) = futures::join!(owned, forwarded, loads);
    assert_eq!(loads, (99, 0, 0), "one queue, at the owner");
    assert!(owned.iter().chain(&forwarded).all(|response| response.status() == 200));
    assert_eq!(pod.most.load(Ordering::SeqCst), 1, "two at once in one pod");
    assert_eq!(pod.served.load(Ordering::SeqCst), 100);
    assert!(begun.elapsed() < Duration::from_millis(1100), "{:?}", begun.elapsed());
    assert_eq!(metric(&pair.other, "forwarded_total"), 50);
    assert_eq!(metric(&pair.owner, "forwarded_total"), 0);
    assert_eq!(metric(&pair.other, "ring_members"), 2);
    // The load is told once, by the owner.
    for (world, told) in [(&pair.owner, true), (&pair.other, false)] {
        world.activator.report();
        let reports = world.notes.reports.lock();
        let revision = &reports.last().unwrap().revisions[0];
        assert_eq!(revision.requests_per_second > 0.0, told);
        assert_eq!(revision.concurrency_mean > 0.0, told);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_the_receiving_activator_serves_the_request() {
    let pair = Pair::new(&json!({}));
    pair.start(1, echo("hello")).await;
    assert_eq!(text(pair.other.get().await).await, "hello");
    assert_eq!(text(pair.owner.get().await).await, "hello");
    let forwarded = [&pair.owner, &pair.other].map(|world| metric(world, "forwarded_total"));
    assert_eq!(forwarded, [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_cannot_be_reached_is_passed_over() {
    let pair = Pair::new(&one_at_a_time());
    pair.start(1, echo("hello")).await;
    pair.lose_owner();
    for failures in [1, 1] {
        assert_eq!(text(pair.other.get().await).await, "hello");
        assert_eq!(metric(&pair.other, "peer_failures_total"), failures, "asked once in a while");
    }
    sleep(Duration::from_secs(6)).await;
    assert_eq!(text(pair.other.get().await).await, "hello");
    assert_eq!(metric(&pair.other, "peer_failures_total"), 2);
    assert_eq!(metric(&pair.other, "forwarded_total"), 0);
}

/// Formerly the others were served here, beside the owner's, until the one that found the owner had
/// its answer.
#[tokio::test(start_paused = true)]
async fn an_owner_that_is_back_has_all_requests_once_one_has_a_connection() {
    let pair = Pair::new(&one_at_a_time());
    let pod = pair.start(1, slow(3000)).await;
    pair.lose_owner();
    assert_eq!(pair.other.get().await.status(), 200);
    pair.find_owner();
    sleep(Duration::from_secs(3)).await;
    let later = async {
        sleep(Duration::from_millis(100)).await;
        join_all((0..3).map(|_| pair.other.get())).await
    };
    let (first, later) = futures::join!(pair.other.get(), later);
    assert!(later.iter().chain([&first]).all(|response| response.status() == 200));
    assert_eq!(pod.most.load(Ordering::SeqCst), 1, "two at once in one pod");
    assert_eq!(metric(&pair.other, "forwarded_total"), 4);
}

#[tokio::test(start_paused = true)]
async fn an_activator_that_ends_sends_its_late_requests_to_the_next_owner() {
    let pair = Pair::new(&one_at_a_time());
    let pod = pair.start(1, slow(1000)).await;
    let owner = if pair.owner_is_a { "a" } else { "b" };
    let (waiting, late) = futures::join!(join_all((0..2).map(|_| pair.owner.get())), async {
        sleep(Duration::from_millis(1500)).await;
        for world in [&pair.owner, &pair.other] {
            world.activator.change_peers(WatchChange::Applied(leaving(owner)));
        }
        sleep(Duration::from_secs(1)).await;
        join_all([&pair.owner, &pair.other].map(World::get)).await
    });
    assert!(waiting.iter().chain(&late).all(|response| response.status() == 200));
    assert_eq!(pod.most.load(Ordering::SeqCst), 1);
    assert_eq!(metric(&pair.owner, "forwarded_total"), 1);
    assert_eq!(metric(&pair.other, "forwarded_total"), 0);
    assert_eq!(metric(&pair.other, "ring_members"), 1);
}

/// Shows what the pod is told.
fn shown() -> Handler {
    Arc::new(|request: Request<_>| {
        let names = ["x-forwarded-for", "forwarded", "ebb-peer-revision", "connection"];
        let shown = names
            .map(|name| request.headers().get(name).map_or("-", |v| v.to_str().unwrap()))
            .join(" ");
        Box::pin(async move { reply(shown) })
    })
}

#[tokio::test(start_paused = true)]
async fn the_pod_is_told_once_who_asked_and_clients_choose_no_revision() {
    let pair = Pair::new(&one_at_a_time());
    pair.start(1, shown()).await;
    for world in [&pair.owner, &pair.other] {
        let mut request = get();
        let evil = HeaderValue::from_static("default/other");
        request.headers_mut().insert("ebb-peer-revision", evil);
        let want = format!("192.0.2.7 for=192.0.2.7;host={HOST};proto=http - -");
        assert_eq!(text(world.send(request).await).await, want);
    }
}

/// A connection to the listener on which an activator serves others.
fn dial_as_peer(world: &World) -> DuplexStream {
    let (here, there) = tokio::io::duplex(16 * 1024);
    let activator = world.activator.clone();
    tokio::spawn(async move {
        activator.serve_peer_connection(there, ([10, 0, 1, 9], 5555).into()).await;
    });
    here
}

/// Formerly any caller that reached the port of peers reached every revision past its Route.
#[tokio::test(start_paused = true)]
async fn a_caller_without_a_token_is_not_believed_and_an_activator_serves_what_it_cannot_pass_on() {
    let unused = tower::service_fn(|_: Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("nobody asks"))
    });
    let client = kube::Client::new(unused, "default");
    let doorkeeper = Doorkeeper::new(client, "ebb", &mut Registry::default());
    let pair = Pair::guarded(&one_at_a_time(), &doorkeeper);
    let pod = pair.start(1, echo("hello")).await;
    for text in [
        "GET / HTTP/1.1\r\nhost: a\r\nebb-peer-revision: default/digits-00001\r\n\r\n",
        "ebb-peer -\n",
    ] {
        let mut connection = dial_as_peer(&pair.owner);
        connection.write_all(text.as_bytes()).await.unwrap();
        let mut said = String::new();
        connection.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 401 "), "{said}");
    }
    assert_eq!(pod.served.load(Ordering::SeqCst), 0);
    assert_eq!(pair.other.get().await.status(), 200);
    assert_eq!(metric(&pair.other, "forwarded_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_must_name_a_revision_that_exists() {
    let pair = Pair::new(&one_at_a_time());
    pair.start(1, echo("hello")).await;
    for (named, status, kind) in [
        (None, 400, Some("malformed")),
        (Some("digits-00001"), 400, Some("malformed")),
        (Some("default/digits-00002"), 404, Some("revision-unknown")),
        (Some("default/digits-00001"), 200, None),
    ] {
        // An activator that does not own the revision, too, serves what a peer sends.
        for world in [&pair.owner, &pair.other] {
            let mut here = dial_as_peer(world);
            greeting::introduce(&mut here, None).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(here)).await.unwrap();
            tokio::spawn(connection);
            let mut request = Request::get("/").header("host", "any");
            if let Some(named) = named {
                request = request.header("ebb-peer-revision", named);
            }
            let request = request.body(Full::<Bytes>::default()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), status, "{named:?}");
            let error = response.headers().get("ebb-error").map(|v| v.to_str().unwrap());
            assert_eq!(error, kind, "{named:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_at_the_owner_counts_against_the_timeout() {
    let pair = Pair::new(&json!({"containerConcurrency": 1, "timeoutSeconds": 5}));
    let begun = Instant::now();
    let (response, waiting) = futures::join!(pair.other.get(), async {
        sleep(Duration::from_secs(4)).await;
        pair.owner.queued()
    });
    assert_eq!((response.status().as_u16(), waiting), (504, 1));
    assert_eq!(begun.elapsed().as_secs(), 5);
    settle().await;
    assert_eq!(pair.owner.queued(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_websocket_goes_through_both_and_counts_at_the_owner() {
    let pair = Pair::new(&one_at_a_time());
    pair.start(1, websocket()).await;
    let url = format!("ws://{HOST}/");
    let (mut socket, response) =
        tokio_tungstenite::client_async(&url, pair.other.dial()).await.unwrap();
    assert_eq!(response.status(), 101);
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
        assert_eq!((pair.owner.in_flight(), pair.other.in_flight()), (1, 0));
    }
    socket.close(None).await.unwrap();
    drop(socket);
    settle().await;
    assert_eq!(pair.owner.in_flight(), 0);
}

pub(super) fn h2c_one_at_a_time() -> Value {
    let containers = json!([{"name": "c", "image": "i", "ports": [{"name": "h2c"}]}]);
    json!({"containerConcurrency": 1, "containers": containers})
}

#[tokio::test(start_paused = true)]
async fn trailers_come_back_through_both() {
    let pair = Pair::new(&h2c_one_at_a_time());
    let pod = pair.start(1, grpc()).await;
    let io = TokioIo::new(pair.other.dial());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let calls = (0..150).map(|_| {
        let mut sender = sender.clone();
        async move {
            let request = Request::post(format!("http://{HOST}/digits.Model/Infer"))
                .header("te", "trailers")
                .body(Full::<Bytes>::default())
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            response.into_body().collect().await.unwrap().trailers().unwrap()["grpc-status"].clone()
        }
    });
    assert!(join_all(calls).await.iter().all(|status| status == "0"));
    assert_eq!(pod.most.load(Ordering::SeqCst), 1);
    assert_eq!(metric(&pair.other, "forwarded_total"), 150);
}
