//! HTTP/2 with trailers, and upgraded connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::fixture::*;

fn h2c() -> serde_json::Value {
    json!({"containers": [{"name": "c", "image": "i", "ports": [{"name": "h2c"}]}]})
}

/// As a gRPC server answers: data, then trailers.
pub(super) fn grpc() -> Handler {
    Arc::new(|request: Request<_>| {
        Box::pin(async move {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.headers()["te"], "trailers");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
            let body = StreamBody::new(futures::stream::iter(frames.map(Ok)));
            Response::new(BodyExt::boxed(body))
        })
    })
}

#[tokio::test(start_paused = true)]
async fn http2_goes_through_with_its_trailers() {
    let world = World::new(h2c());
    world.start(1, grpc());
    let io = TokioIo::new(world.dial());
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
            let collected = response.into_body().collect().await.unwrap();
            let status = collected.trailers().unwrap()["grpc-status"].clone();
            (status, collected.to_bytes())
        }
    });
    for (status, bytes) in futures::future::join_all(calls).await {
        assert_eq!((status.to_str().unwrap(), bytes.as_ref()), ("0", b"hello".as_ref()));
    }
    settle().await;
    assert_eq!(world.in_flight(), 0);
}

/// Agrees to a WebSocket and sends every message back.
pub(super) fn websocket() -> Handler {
    Arc::new(|mut request: Request<_>| {
        Box::pin(async move {
            let key = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let io = TokioIo::new(upgrade.await.unwrap());
                let mut socket =
                    tokio_tungstenite::WebSocketStream::from_raw_socket(io, Role::Server, None)
                        .await;
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() || socket.send(message).await.is_err() {
                        break;
                    }
                }
            });
            let mut answer = reply("");
            *answer.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            let headers = answer.headers_mut();
            headers.insert("connection", HeaderValue::from_static("upgrade"));
            headers.insert("upgrade", HeaderValue::from_static("websocket"));
            headers.insert("sec-websocket-accept", key.parse().unwrap());
            answer
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_websocket_goes_through_and_counts_until_it_is_closed() {
    // Once 101 is there, the response has started.
    let spec = json!({"timeoutSeconds": 120, "responseStartTimeoutSeconds": 5});
    let world = World::new(spec);
    let url = format!("ws://{HOST}/");
    let (connected, _) =
        futures::join!(tokio_tungstenite::client_async(&url, world.dial()), async {
            settle().await;
            assert_eq!(world.queued(), 1, "held while there is no pod");
            world.start(1, websocket())
        });
    let (mut socket, response) = connected.unwrap();
    assert_eq!(response.status(), 101);
    for text in ["one", "two"] {
        sleep(Duration::from_secs(30)).await;
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
        assert_eq!(world.in_flight(), 1);
    }
    socket.close(None).await.unwrap();
    drop(socket);
    settle().await;
    assert_eq!(world.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_upgrade_is_an_ordinary_response() {
    let world = World::new(json!({}));
    world.start(1, echo("no websocket here"));
    let mut request = get();
    request.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    request.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    let response = world.send(request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, "no websocket here");
}

#[tokio::test(start_paused = true)]
async fn a_grpc_probe_asks_for_health_over_http2() {
    let world = World::new(json!({"containers": [{
        "name": "c", "image": "i", "ports": [{"name": "h2c"}],
        "readinessProbe": {"grpc": {"port": 8080, "service": "digits"}},
    }]}));
    let born = tokio::time::Instant::now();
    world.start(
        1,
        Arc::new(move |request: Request<hyper::body::Incoming>| {
            Box::pin(async move {
                if request.uri().path() != "/grpc.health.v1.Health/Check" {
                    return reply("hello");
                }
                let question = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(question.as_ref(), b"\0\0\0\0\x08\x0a\x06digits");
                // NOT_SERVING, then SERVING.
                let status = if born.elapsed() < Duration::from_millis(500) { 2 } else { 1 };
                reply(vec![0, 0, 0, 0, 2, 8, status])
            })
        }),
    );
    let response = world.get().await;
    assert!((500..530).contains(&born.elapsed().as_millis()), "{:?}", born.elapsed());
    assert_eq!(text(response).await, "hello");
}
