//! What the whole process takes on: bytes that requests hold, connections, tunnels.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::fixture::*;
use super::protocols::websocket;
use super::wire::*;
use crate::Limits;
use crate::route::Door;

fn post<B>(body: B) -> Request<B> {
    Request::post(format!("http://{HOST}/")).body(body).unwrap()
}

fn client() -> http2::Builder<TokioExecutor> {
    http2::Builder::new(TokioExecutor::new())
}

fn is_overloaded(response: &Response<Incoming>) -> bool {
    is_refused(response, "overloaded")
}

fn is_queue_full(response: &Response<Incoming>) -> bool {
    is_refused(response, "queue-full")
}

fn is_refused(response: &Response<Incoming>, error: &str) -> bool {
    let headers = response.headers();
    response.status() == 503 && headers["ebb-error"] == error && headers["retry-after"] == "1"
}

/// The bytes that a held request may send take no room from the others on its connection.
#[tokio::test(start_paused = true)]
async fn an_upload_goes_on_beside_a_held_one_on_the_same_connection() {
    let world = World::new(json!({"containerConcurrency": 1}));
    world.start(1, measure());
    settle().await;
    let mut sender = world.connect_h2(&client()).await;
    let (parts, body) = by_hand();
    let served = tokio::spawn(sender.send_request(post(body)));
    settle().await;
    assert_eq!(world.in_flight(), 1);
    let large = Full::new(Bytes::from(vec![0; 2_000_000])).map_err(|never| match never {});
    let held = tokio::spawn(sender.send_request(post(large.boxed())));
    settle().await;
    assert_eq!(world.queued(), 1);
    for _ in 0..20 {
        let sent = parts.send(vec![0; 10_000].into());
        timeout(Duration::from_secs(1), sent).await.expect("kept out by the held body").unwrap();
    }
    drop(parts);
    let response = timeout(Duration::from_secs(1), served).await.unwrap().unwrap().unwrap();
    assert_eq!(text(response).await, "200000");
    assert_eq!(text(held.await.unwrap().unwrap()).await, "2000000");
}

/// The bytes that all connections together may hold are bounded, and refused requests are told when
/// to come back.
#[tokio::test(start_paused = true)]
async fn requests_beyond_the_budget_of_bytes_are_refused_and_the_others_served() {
    let limits = Limits { held_bytes: 1024 * 1024, ..Limits::default() };
    let world = World::with_limits(json!({}), limits);
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(world.connect_h2(&client()).await);
    }
    let body = || Full::new(Bytes::from(vec![0; 300_000]));
    let sent = clients.iter_mut().map(|sender| tokio::spawn(sender.send_request(post(body()))));
    let sent: Vec<_> = sent.collect();
    settle().await;
    // The revision may have half of three quarters; each request takes 64 KiB for its body and some
    // 8 KiB more.
    assert_eq!(world.queued(), 5);
    assert!(world.metric("held_bytes") <= 384 * 1024);
    assert_eq!(world.metric("overflows_total{bound=\"revision-bytes\"}"), 25);
    assert_eq!(world.metric("overflows_total{bound=\"held-bytes\"}"), 0);
    world.start(1, measure());
    let answers = join_all(sent).await.into_iter().map(|answer| answer.unwrap().unwrap());
    let (refused, served): (Vec<_>, Vec<_>) = answers.partition(is_queue_full);
    assert_eq!((refused.len(), served.len()), (25, 5));
    for response in served {
        assert_eq!(text(response).await, "300000");
    }
    settle().await;
    assert_eq!(world.metric("held_bytes"), 0);
}

/// A request that waits holds its head, too.
#[tokio::test(start_paused = true)]
async fn heads_count_as_bodies_do() {
    let limits = Limits { held_bytes: 100 * 1024, ..Limits::default() };
    let world = World::with_limits(json!({}), limits);
    let waiting = join_all((0..20).map(|_| world.get()));
    let (answers, ()) = futures::join!(waiting, async {
        settle().await;
        assert_eq!(world.queued(), 4);
        world.start(1, echo("hello"));
    });
    assert_eq!(answers.iter().filter(|answer| is_queue_full(answer)).count(), 16);
    assert_eq!(world.metric("held_bytes"), 0);
    assert_eq!(world.get().await.status(), 200, "warm requests hold nothing");
}

/// A flood of requests for unknown hosts holds no more than any other, and leaves as much free.
#[tokio::test(start_paused = true)]
async fn requests_for_unknown_hosts_are_counted_while_they_wait_for_news() {
    let limits = Limits { held_bytes: 100 * 1024, ..Limits::default() };
    let world = World::with_limits(json!({}), limits);
    let unknown = || {
        let mut request = get();
        request.headers_mut().insert("host", "nobody.example.com".parse().unwrap());
        request
    };
    let waiting = join_all((0..20).map(|_| world.send(unknown())));
    let (answers, ()) = futures::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(world.metric("held_bytes") > 0);
        assert_eq!(world.metric("overflows_total{bound=\"revision-bytes\"}"), 16);
    });
    assert_eq!(answers.iter().filter(|answer| is_queue_full(answer)).count(), 16);
    assert_eq!(answers.iter().filter(|answer| answer.status() == 404).count(), 4);
    assert_eq!(world.metric("held_bytes"), 0);
}

/// An upgraded connection still counts as a connection.
#[tokio::test(start_paused = true)]
async fn a_tunnel_keeps_its_place_among_the_connections() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let world = World::with_limits(json!({}), limits);
    world.start(1, websocket());
    settle().await;
    let url = format!("ws://{HOST}/");
    let (mut socket, _) = tokio_tungstenite::client_async(&url, world.dial()).await.unwrap();
    settle().await;
    assert_eq!(world.metric("connections"), 1);
    assert!(is_overloaded(&world.get().await));
    assert_eq!(world.metric("overflows_total{bound=\"connections\"}"), 1);
    socket.close(None).await.unwrap();
    drop(socket);
    settle().await;
    assert_eq!((world.metric("connections"), world.metric("tunnels")), (0, 0));
    let again = tokio_tungstenite::client_async(&url, world.dial()).await;
    assert_eq!(again.unwrap().1.status(), 101);
}

/// Clients at the outer door leave an eighth of the connections to the inner one.
#[tokio::test(start_paused = true)]
async fn the_outer_door_leaves_places_to_the_inner_one() {
    let limits = Limits { connections: 8, ..Limits::default() };
    let world = World::with_limits(json!({}), limits);
    world.start(1, echo("hello"));
    settle().await;
    let outside: Vec<_> = (0..7).map(|_| world.dial()).collect();
    settle().await;
    assert!(is_overloaded(&world.get().await));
    let inside = world.dial_at(Door::Inner);
    settle().await;
    assert_eq!(world.metric("connections"), 8);
    assert!(is_overloaded(&world.send_at(Door::Inner, get()).await));
    drop(inside);
    settle().await;
    assert_eq!(world.send_at(Door::Inner, get()).await.status(), 200);
    drop(outside);
}

/// Connections beyond the limit are told so, however many come at once; silent ones keep no others
/// from being accepted.
#[tokio::test]
async fn silent_connections_beyond_the_limit_hold_up_no_others() {
    let limits = Limits { connections: 8, ..Limits::default() };
    let world = World::with_limits(json!({}), limits);
    world.start(1, echo("hello"));
    settle().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let accepting = world.activator.serve(listener, Door::Outer, shutdown.clone());
    let coming = async {
        let connect = || async { TcpStream::connect(address).await.unwrap() };
        let mut held = join_all((0..7).map(|_| connect())).await;
        eventually(|| world.metric("connections") == 7).await;
        let talk = async || {
            let mut client = connect().await;
            let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        for answer in join_all((0..200).map(|_| talk())).await {
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        let silent = join_all((0..80).map(|_| connect())).await;
        eventually(|| world.metric("overflows_total{bound=\"connections\"}") == 280).await;
        held.pop();
        eventually(|| world.metric("connections") < 7).await;
        let answer = talk().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop((silent, held));
        shutdown.cancel();
    };
    timeout(Duration::from_secs(20), async { futures::join!(accepting, coming) }).await.unwrap();
}

/// Waits until `is_so` holds, in real time: sockets of the machine know no other.
async fn eventually(is_so: impl Fn() -> bool) {
    for _ in 0..100 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is not so after a second");
}

#[tokio::test(start_paused = true)]
async fn tunnels_leave_connections_to_requests() {
    let limits = Limits { tunnels: 1, ..Limits::default() };
    let world = World::with_limits(json!({}), limits);
    world.start(1, websocket());
    settle().await;
    let url = format!("ws://{HOST}/");
    let (socket, _) = tokio_tungstenite::client_async(&url, world.dial()).await.unwrap();
    let mut request = get();
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    assert!(is_overloaded(&world.send(request).await));
    assert_eq!(world.metric("overflows_total{bound=\"tunnels\"}"), 1);
    drop(socket);
}

/// One address can be kept from taking all places, if that is asked for.
#[tokio::test(start_paused = true)]
async fn one_address_has_no_more_connections_than_it_may() {
    let limits = Limits { connections_per_address: NonZeroUsize::new(2), ..Limits::default() };
    let world = World::with_limits(json!({}), limits);
    world.start(1, echo("hello"));
    settle().await;
    let held = (world.dial(), world.dial());
    settle().await;
    assert!(is_overloaded(&world.get().await));
    assert_eq!(world.metric("overflows_total{bound=\"connections-per-address\"}"), 1);
    drop(held);
    settle().await;
    assert_eq!(world.get().await.status(), 200);
}
