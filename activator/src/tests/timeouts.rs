//! The three timeouts of a Revision: `timeoutSeconds` from arrival to the first byte and to the end
//! of a tunnel, `responseStartTimeoutSeconds` from arrival to the first byte, `idleTimeoutSeconds`
//! between two parts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

use super::fixture::*;

/// `count` bytes, one in each `pause`.
fn drips(count: usize, pause: Duration) -> Handler {
    Arc::new(move |_| {
        Box::pin(async move {
            let parts = futures::stream::iter(0..count).then(move |_| async move {
                sleep(pause).await;
                Ok(Frame::data(Bytes::from_static(b"x")))
            });
            Response::new(BodyExt::boxed(StreamBody::new(parts)))
        })
    })
}

#[tokio::test(start_paused = true)]
async fn waiting_counts_against_the_timeout() {
    let world = World::new(json!({"timeoutSeconds": 5}));
    let begun = Instant::now();
    let response = world.get().await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(response.status(), 504);
    assert_eq!(text(response).await, "activator request timeout\n");
    assert_eq!(world.queued(), 0);
}

/// A small body is read to its end, so that the connection serves on; a large one ends it, and the
/// client is told so.
#[tokio::test(start_paused = true)]
async fn a_request_that_waited_in_vain_still_has_its_body() {
    let world = World::new(json!({"timeoutSeconds": 5}));
    for (bytes, closes) in [(1000, false), (100_000, true)] {
        let mut client = world.dial();
        let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {bytes}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&[b'x'; 1000]).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
        assert_eq!(answer.contains("connection: close"), closes, "{bytes} bytes: {answer}");
        let mut said = [0; "activator request timeout\n".len()];
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"activator request timeout\n");
        if closes {
            assert_eq!(client.read(&mut said).await.unwrap(), 0, "it has not ended");
        } else {
            let next = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
            client.write_all(next.as_bytes()).await.unwrap();
            let mut start = [0; "HTTP/1.1 504".len()];
            client.read_exact(&mut start).await.unwrap();
            assert_eq!(&start, b"HTTP/1.1 504");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_must_start_in_time_and_may_then_go_on() {
    let spec = json!({"timeoutSeconds": 60, "responseStartTimeoutSeconds": 2});
    let world = World::new(spec);
    world.start(1, slow(3000));
    settle().await;
    assert_eq!(world.get().await.status(), 504);
    world.untell(1);
    world.start(2, drips(10, Duration::from_secs(1)));
    settle().await;
    let response = world.get().await;
    assert_eq!(text(response).await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_pauses_too_long_is_broken_off_and_never_looks_complete() {
    let world = World::new(json!({"idleTimeoutSeconds": 1}));
    world.start(1, drips(4, Duration::from_millis(1500)));
    settle().await;
    let response = world.get().await;
    assert_eq!(response.status(), 200, "the head came at once");
    assert!(response.into_body().collect().await.is_err());
    settle().await;
    assert_eq!(world.in_flight(), 0);
}

/// `timeoutSeconds` ends an upgraded connection, although bytes flow both ways.
#[tokio::test(start_paused = true)]
async fn a_tunnel_is_closed_at_the_end_of_the_timeout() {
    let world = World::new(json!({"timeoutSeconds": 3}));
    world.start(1, upgraded());
    settle().await;
    let begun = Instant::now();
    let mut tunnel = world.dial();
    let head =
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    tunnel.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tunnel.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    loop {
        if tunnel.write_all(b"x").await.is_err() || tunnel.read_u8().await.is_err() {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(begun.elapsed().as_secs(), 3);
    settle().await;
    assert_eq!(world.in_flight(), 0);
}

/// Agrees to an upgrade and sends every byte back.
fn upgraded() -> Handler {
    Arc::new(|mut request| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
            let (mut from, mut to) = tokio::io::split(io);
            // The other side ends it.
            drop(tokio::io::copy(&mut from, &mut to).await);
        });
        Box::pin(async {
            let mut answer = reply("");
            *answer.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            let headers = answer.headers_mut();
            headers.insert("connection", "upgrade".parse().unwrap());
            headers.insert("upgrade", "echo".parse().unwrap());
            answer
        })
    })
}
