//! Clients that are slow in sending, in taking, or in saying anything. And slow models, which are
//! no client's fault.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::fixture::*;
use super::wire::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// `count` parts of `length` bytes, each after `pause` seconds.
fn parts(count: usize, length: usize, pause: u64) -> Handler {
    Arc::new(move |_| {
        Box::pin(async move {
            let parts = futures::stream::iter(0..count).then(move |_| async move {
                sleep(Duration::from_secs(pause)).await;
                Ok(Frame::data(Bytes::from(vec![b'x'; length])))
            });
            Response::new(BodyExt::boxed(StreamBody::new(parts)))
        })
    })
}

fn to_h2() -> Request<Full<Bytes>> {
    Request::get(format!("http://{HOST}/")).body(Full::default()).unwrap()
}

/// The rest of a long response in the buffers is not cut off when the model is done.
#[tokio::test(start_paused = true)]
async fn a_response_of_many_minutes_keeps_its_tail() {
    let world = World::new(json!({}));
    world.start(1, parts(8, 40_000, 100));
    settle().await;
    let mut connection = world.dial();
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while answer.len() < 7 * 40_000 {
        let read = connection.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "after {} bytes", answer.len());
        answer.extend(&buffer[..read]);
    }
    // The last part comes, and the client takes it a little later.
    sleep(Duration::from_secs(110)).await;
    connection.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"\r\n0\r\n\r\n"), "{} bytes and no end", answer.len());
}

/// A client that takes nothing and answers pings does not hold its slot for ever.
#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_takes_is_reset_and_its_connection_goes_on() {
    let world = World::new(json!({}));
    world.start(1, parts(10, 100_000, 0));
    settle().await;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let mut sender = world.connect_h2(builder.initial_stream_window_size(20_000)).await;
    let stuck = sender.send_request(to_h2()).await.unwrap();
    sleep(Duration::from_secs(29)).await;
    assert_eq!(world.in_flight(), 1);
    sleep(Duration::from_secs(32)).await;
    assert_eq!(world.in_flight(), 0);
    assert_eq!(world.metric("cut_clients_total{side=\"download\"}"), 1);
    assert!(stuck.into_body().collect().await.is_err(), "a cut response never looks complete");
    let other = sender.send_request(to_h2()).await.unwrap();
    assert_eq!(text(other).await.len(), 1_000_000);
}

/// A client that gives no room for an answer of Ebb itself does not hold its stream for ever
/// either.
#[tokio::test(start_paused = true)]
async fn an_answer_of_ours_that_nobody_takes_is_reset() {
    let world = World::new(json!({}));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let mut sender = world.connect_h2(builder.initial_stream_window_size(0)).await;
    let request = Request::get("http://nobody.example.com/").body(Full::<Bytes>::default());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 404);
    sleep(Duration::from_secs(31)).await;
    assert_eq!(world.metric("cut_clients_total{side=\"download\"}"), 1);
    assert!(response.into_body().collect().await.is_err());
}

/// A client that takes a byte now and then holds its slot no longer than one that takes none.
#[tokio::test(start_paused = true)]
async fn a_response_that_is_taken_byte_by_byte_is_cut_off() {
    let world = World::new(json!({}));
    world.start(1, parts(10, 100_000, 0));
    settle().await;
    let mut connection = world.dial();
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut byte = [0];
    for _ in 0..4 {
        sleep(Duration::from_secs(29)).await;
        connection.read_exact(&mut byte).await.unwrap();
    }
    assert_eq!(world.in_flight(), 0);
    assert_eq!(world.metric("cut_clients_total{side=\"download\"}"), 1);
}

/// A model that sends something once in a minute does not make its client slow.
#[tokio::test(start_paused = true)]
async fn a_slow_model_makes_no_slow_client() {
    let world = World::new(json!({}));
    world.start(1, parts(5, 10, 60));
    settle().await;
    assert_eq!(text(world.get().await).await.len(), 50);
    let mut sender = world.connect_h2(&http2::Builder::new(TokioExecutor::new())).await;
    assert_eq!(text(sender.send_request(to_h2()).await.unwrap()).await.len(), 50);
}

/// An upload must come at some pace.
#[tokio::test(start_paused = true)]
async fn an_upload_of_a_byte_in_half_a_minute_gives_its_slot_back() {
    let world = World::new(json!({}));
    world.start(1, measure());
    settle().await;
    let mut connection = world.dial();
    let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    let begun = Instant::now();
    for _ in 0..3 {
        // The connection is closed before the last byte is sent.
        let _closed = connection.write_all(b"x").await;
        sleep(Duration::from_secs(29)).await;
    }
    assert_eq!(world.in_flight(), 0);
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("ebb-error: body-slow"), "{answer}");
    assert_eq!(world.metric("cut_clients_total{side=\"upload\"}"), 1);
    assert!(begun.elapsed() < Duration::from_secs(100));
}

/// A client and a pod that talk to each other may think for as long as they like, and so may a gRPC
/// client.
#[tokio::test(start_paused = true)]
async fn a_conversation_is_no_slow_upload() {
    let mirror: Handler = Arc::new(|request| {
        Box::pin(async move {
            Response::new(request.into_body().map_err(std::io::Error::other).boxed())
        })
    });
    let world = World::new(json!({}));
    world.start(1, mirror);
    world.start(2, measure());
    settle().await;
    let send = async |request| {
        let io = TokioIo::new(world.dial());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    world.untell(2);
    let (parts, body) = by_hand();
    let request = Request::post("/").header("host", HOST).body(body).unwrap();
    let mut answer = send(request).await.into_body();
    for _ in 0..3 {
        sleep(Duration::from_secs(100)).await;
        parts.send("part".into()).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
    }
    drop(parts);
    world.untell(1);
    world.tell(2, json!({}));
    let (parts, body) = by_hand();
    let request = Request::post("/").header("host", HOST);
    let request = request.header("content-type", "application/grpc+proto").body(body).unwrap();
    let (answer, ()) = futures::join!(send(request), async {
        sleep(Duration::from_secs(100)).await;
        parts.send("part".into()).await.unwrap();
        drop(parts);
    });
    assert_eq!(text(answer).await, "4");
}

/// A connection that is opened ahead of need is no slow head.
#[tokio::test(start_paused = true)]
async fn a_fresh_connection_may_wait_for_its_first_request() {
    let world = World::new(json!({}));
    world.start(1, echo("hello"));
    let mut connection = world.dial();
    sleep(Duration::from_secs(50)).await;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 15];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

/// Four letters make no HTTP/2. In HTTP/2, too, a head has ten seconds.
#[tokio::test(start_paused = true)]
async fn half_a_head_is_cut_off_in_either_protocol() {
    let world = World::new(json!({}));
    let headers = [0, 0, 20, 1, 0, 0, 0, 0, 1, 0x82];
    for sent in [b"PRI ".to_vec(), [PREFACE, SETTINGS, &headers].concat()] {
        let begun = Instant::now();
        let mut connection = world.dial();
        connection.write_all(&sent).await.unwrap();
        let mut rest = Vec::new();
        let _reset = timeout(Duration::from_secs(100), connection.read_to_end(&mut rest)).await;
        assert_eq!(begun.elapsed().as_secs(), 10, "{sent:?}");
    }
}

/// HTTP/2 is recognised, however its preface is cut.
#[tokio::test(start_paused = true)]
async fn an_http2_connection_whose_first_bytes_come_apart_may_be_silent() {
    let world = World::new(json!({}));
    let mut connection = world.dial();
    for part in [&PREFACE[..2], &PREFACE[2..], SETTINGS] {
        connection.write_all(part).await.unwrap();
        settle().await;
    }
    sleep(Duration::from_secs(15)).await;
    let mut told = vec![0; 1024];
    let _settings = connection.read(&mut told).await.unwrap();
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    connection.write_all(&ping).await.unwrap();
    sleep(Duration::from_secs(15)).await;
    let mut rest = vec![0; 1024];
    let read = connection.read(&mut rest).await.unwrap();
    assert!(rest[..read].windows(8).any(|bytes| bytes == &ping[9..]), "cut off, not answered");
}

/// An idle HTTP/2 connection ends, though its client answers every ping.
#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_ends_in_good_order() {
    let world = World::new(json!({}));
    world.start(1, echo("hello"));
    settle().await;
    let mut sender = world.connect_h2(&http2::Builder::new(TokioExecutor::new())).await;
    assert_eq!(text(sender.send_request(to_h2()).await.unwrap()).await, "hello");
    sleep(Duration::from_mins(10)).await;
    assert!(!sender.is_closed());
    assert_eq!(world.metric("connections"), 1);
    sleep(Duration::from_mins(1)).await;
    assert!(sender.is_closed());
    assert_eq!(world.metric("connections"), 0);
}
