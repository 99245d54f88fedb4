//! HTTP/1.1, h2c, WebSocket, streams both ways and timeouts, through real sockets.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::{backend, service};
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

async fn deployed(manifest: &str, name: &str) -> anyhow::Result<Ebb> {
    let ebb = Ebb::start().await?;
    ebb.kubectl().apply(manifest).await?;
    ebb.kubectl().wait_ready(name).await?;
    Ok(ebb)
}

#[tokio::test]
async fn the_backend_sees_the_headers_of_the_runtime_contract() -> anyhow::Result<()> {
    let ebb = deployed(&backend("hello", &[]), "hello").await?;
    let answer = ebb.client().get(&ebb.host("hello"), "/").await?;
    let seen = answer.json()?["headers"].clone();
    assert_eq!(seen["host"].as_str(), Some(ebb.host("hello").as_str()));
    assert_eq!(seen["x-forwarded-proto"], "http");
    let client = seen["x-forwarded-for"].as_str().and_then(|value| value.parse::<IpAddr>().ok());
    assert!(client.is_some_and(|client| client.is_loopback() == ebb.gateway.ip().is_loopback()));
    assert!(seen["forwarded"].as_str().is_some_and(|value| value.contains("proto=http")), "{seen}");
    assert_eq!(answer.field("version"), "HTTP/1.1");
    Ok(())
}

#[tokio::test]
async fn h2c_is_spoken_to_clients_with_prior_knowledge_and_to_backends_that_name_it()
-> anyhow::Result<()> {
    let port = "ports: [{name: h2c, containerPort: 8080}], command";
    let manifest = backend("modern", &[]).replace("command", port);
    let ebb = deployed(&manifest, "modern").await?;
    ebb.kubectl().apply(&backend("plain", &[])).await?;
    ebb.kubectl().wait_ready("plain").await?;
    let (client, modern, plain) = (ebb.client(), ebb.host("modern"), ebb.host("plain"));
    assert_eq!(client.get_h2c(&modern, "/").await?.field("version"), "HTTP/2.0");
    assert_eq!(client.get_h2c(&plain, "/").await?.field("version"), "HTTP/1.1");
    assert_eq!(client.get(&modern, "/").await?.field("version"), "HTTP/2.0");
    Ok(())
}

#[tokio::test]
async fn a_websocket_is_passed_through() -> anyhow::Result<()> {
    let ebb = deployed(&backend("hello", &[]), "hello").await?;
    let mut request = format!("ws://{}/ws", ebb.gateway).into_client_request()?;
    request.headers_mut().insert(header::HOST, ebb.host("hello").parse()?);
    let stream = tokio::net::TcpStream::connect(ebb.gateway).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await?;
        let echoed = socket.next().await.expect("an answer")?;
        assert_eq!(echoed, Message::text(text));
    }
    socket.close(None).await?;
    Ok(())
}

#[tokio::test]
async fn a_response_arrives_as_it_is_sent() -> anyhow::Result<()> {
    let ebb = deployed(&backend("hello", &[]), "hello").await?;
    let stream = tokio::net::TcpStream::connect(ebb.gateway).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/ticks?n=3&ms=300")
        .header(header::HOST, ebb.host("hello"))
        .body(String::new())?;
    let began = tokio::time::Instant::now();
    let mut response = sender.send_request(request).await?;
    let first = response.frame().await.expect("a frame")?;
    assert_eq!(first.into_data().ok(), Some(Bytes::from("tick 0\n")));
    let first_at = began.elapsed();
    while let Some(frame) = response.frame().await {
        frame?;
    }
    let whole = began.elapsed();
    assert!(whole >= first_at + Duration::from_millis(500), "{first_at:?} of {whole:?}");
    connection.abort();
    Ok(())
}

#[tokio::test]
async fn a_request_streams_and_is_echoed_before_it_ends() -> anyhow::Result<()> {
    let ebb = deployed(&backend("hello", &[]), "hello").await?;
    let stream = tokio::net::TcpStream::connect(ebb.gateway).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let (feed, body) = futures::channel::mpsc::unbounded::<Result<Frame<Bytes>, anyhow::Error>>();
    let request = Request::post("/echo")
        .header(header::HOST, ebb.host("hello"))
        .body(StreamBody::new(body))?;
    feed.unbounded_send(Ok(Frame::data(Bytes::from("first"))))?;
    let mut response = sender.send_request(request).await?;
    let first = response.frame().await.expect("a frame")?.into_data().ok();
    assert_eq!(first, Some(Bytes::from("first")));
    feed.unbounded_send(Ok(Frame::data(Bytes::from("second"))))?;
    let second = response.frame().await.expect("a frame")?.into_data().ok();
    assert_eq!(second, Some(Bytes::from("second")));
    drop(feed);
    assert!(response.frame().await.is_none());
    connection.abort();
    Ok(())
}

#[tokio::test]
async fn a_request_past_its_timeout_is_answered_504() -> anyhow::Result<()> {
    let manifest = service("slow", "ebb-backend", &[], "", "timeoutSeconds: 1");
    let ebb = deployed(&manifest, "slow").await?;
    let answer = ebb.client().get(&ebb.host("slow"), "/sleep?ms=5000").await?;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.text.trim(), "activator request timeout");
    assert_eq!(ebb.client().get(&ebb.host("slow"), "/sleep?ms=1").await?.status, 200);
    Ok(())
}
