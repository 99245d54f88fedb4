//! How bodies are framed, and fields that HTTP/2 and HTTP/1 write differently.

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fixture::*;
use super::wire::*;

/// The first `length` bytes that come back for `sent` on a connection of its own.
async fn answer(world: &World, sent: &str, length: usize) -> String {
    let mut connection = world.dial();
    connection.write_all(sent.replace('@', HOST).as_bytes()).await.unwrap();
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A body is a body whatever the method.
#[tokio::test(start_paused = true)]
async fn a_chunked_body_of_a_get_reaches_the_pod() {
    let world = World::new(json!({}));
    world.start(1, measure());
    settle().await;
    let mut connection = world.dial();
    let request = "GET / HTTP/1.1\r\nhost: @\r\nconnection: close\r\n\
                   transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    connection.write_all(request.replace('@', HOST).as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\n5"), "{answer}");
}

/// A coding that would have to be decoded here is refused, because the pod would not know of it. A
/// length that is given twice is refused, even where both say the same.
#[tokio::test(start_paused = true)]
async fn codings_that_are_not_known_and_lengths_that_are_given_twice_are_refused() {
    let world = World::new(json!({}));
    world.start(1, measure());
    settle().await;
    for (fields, body, status) in [
        ("transfer-encoding: gzip, chunked", "0\r\n\r\n", 501),
        ("transfer-encoding: gzip\r\ntransfer-encoding: chunked", "0\r\n\r\n", 400),
        ("transfer-encoding: chunked, chunked", "0\r\n\r\n", 400),
        ("content-length: 5\r\ncontent-length: 5", "hello", 400),
        ("content-length: 5\r\ntransfer-encoding: chunked", "0\r\n\r\n", 400),
        ("transfer-encoding: chunked\r\ncontent-length: 5", "0\r\n\r\n", 400),
        ("transfer-encoding: chunked", "0\r\n\r\n", 200),
        ("content-length: 5", "hello", 200),
    ] {
        let request = format!("POST / HTTP/1.1\r\nhost: @\r\n{fields}\r\n\r\n{body}");
        let want = format!("HTTP/1.1 {status}");
        assert_eq!(answer(&world, &request, want.len()).await, want, "{fields}");
    }
}

/// RFC 9113 8.2.3.
#[tokio::test(start_paused = true)]
async fn cookie_crumbs_of_http2_are_one_field_in_http1() {
    let world = World::new(json!({}));
    world.start(
        1,
        Arc::new(|request: Request<_>| {
            let cookies = request.headers().get_all("cookie").iter();
            let shown: Vec<_> = cookies.map(|cookie| cookie.to_str().unwrap()).collect();
            let shown = shown.join("|");
            Box::pin(async move { reply(shown) })
        }),
    );
    settle().await;
    let mut sender = world.connect_h2(&http2::Builder::new(TokioExecutor::new())).await;
    let mut request =
        Request::get(format!("http://{HOST}/")).body(Full::<Bytes>::default()).unwrap();
    for crumb in ["a=1", "b=2", "c=3"] {
        request.headers_mut().append("cookie", HeaderValue::from_static(crumb));
    }
    assert_eq!(text(sender.send_request(request).await.unwrap()).await, "a=1; b=2; c=3");
}
