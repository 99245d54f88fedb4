//! The client against a server on loopback that accepts, and then falls silent.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tower::Service as _;

use super::*;

const SHORT: Patience = Patience {
    answer: Duration::from_millis(200),
    silence: Duration::from_millis(200),
    watch: Duration::from_secs(1),
};

async fn server() -> (TcpListener, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    (listener, client(&Config::new(uri.parse().unwrap()), SHORT).unwrap())
}

/// Reads the head of a request and returns its first line.
async fn head(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.contains("\r\n\r\n") {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "the client closed after {text:?}");
        text.push_str(str::from_utf8(&part[..read]).unwrap());
    }
    text.lines().next().unwrap().to_owned()
}

/// Without timeouts a connection into a black hole would hold a wake for a quarter of an hour.
#[tokio::test]
async fn a_request_that_nobody_answers_ends_and_the_next_takes_another_connection() {
    let (listener, client) = server().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let (first, mut silent) = tokio::join!(api.get("a"), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream
    });
    let error = first.unwrap_err();
    let chain = format!("{:#}", anyhow::Error::from(error));
    assert!(chain.contains("did not answer within 0.2 s"), "{chain}");
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0, "the connection is not used again");
    let (second, ()) = tokio::join!(api.get("a"), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    second.unwrap();
}

/// Whoever asks has pauses of their own, and may have something better to do.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_refused_again_and_again_ends_within_seconds() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let refusing = tower::service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let answer =
            Response::builder().status(503).header("retry-after", "60").body(Body::empty());
        std::future::ready(answer.map_err(BoxError::from))
    });
    let api: Api<ConfigMap> = Api::default_namespaced(over(BoxCloneService::new(refusing)));
    let began = Instant::now();
    api.get("a").await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(asked.load(Ordering::Relaxed), 7, "it was not tried again");
}

/// An answer that begins and never ends.
#[tokio::test]
async fn an_answer_that_stops_half_way_ends() {
    let (listener, client) = server().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
        stream
    };
    let (answer, _stream) = tokio::join!(api.get("a"), answering);
    answer.unwrap_err();
}

/// With kube's own timeout a watch would notice a stall only after 290 s, and begin again with a
/// list.
#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_goes_on_from_where_it_was() {
    let (listener, client) = server().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(head(&mut stream).await.contains("limit="), "a list");
        let body = r#"{"apiVersion":"v1","kind":"ConfigMapList","metadata":{"resourceVersion":"7"},"items":[]}"#;
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut asked = Vec::new();
        for version in [8, 9] {
            asked.push(head(&mut stream).await);
            let event = format!(
                r#"{{"type":"ADDED","object":{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"at-{version}","resourceVersion":"{version}"}}}}}}"#
            );
            let answer = format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{event}\n\r\n",
                event.len() + 1
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            if version == 8 {
                // Silent until the client has had enough and comes again.
                stream = listener.accept().await.unwrap().0;
            }
        }
        (asked, stream)
    });
    let began = Instant::now();
    let events = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
    let names: Vec<_> = events
        .filter_map(async |event| event.ok())
        .take(2)
        .map(|map| map.metadata.name)
        .collect()
        .await;
    assert_eq!(names, [Some("at-8".to_owned()), Some("at-9".to_owned())]);
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    let (asked, _stream) = serving.await.unwrap();
    for (line, version) in asked.iter().zip([7, 8]) {
        assert!(line.contains(&format!("resourceVersion={version}")), "{line}");
        assert!(line.contains("timeoutSeconds=1") && !line.contains("290"), "{line}");
    }
}

/// The socket options by which the kernel gives up a connection whose other end is gone.
#[tokio::test]
async fn a_connection_is_probed_and_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let stream = connector().call(uri.parse().unwrap()).await.unwrap().into_inner();
    let socket = stream.as_fd();
    assert!(getsockopt(&socket, sockopt::KeepAlive).unwrap());
    assert_eq!(getsockopt(&socket, sockopt::TcpKeepIdle).unwrap(), 1);
    assert_eq!(getsockopt(&socket, sockopt::TcpKeepInterval).unwrap(), 1);
    assert_eq!(getsockopt(&socket, sockopt::TcpUserTimeout).unwrap(), 2_000);
}

#[test]
fn only_a_watch_is_shortened() {
    let minute = Duration::from_mins(1);
    let short = |uri: &str| shortened(&uri.parse().unwrap(), minute).map(|uri| uri.to_string());
    let watch = "/api/v1/pods?&watch=true&timeoutSeconds=290&labelSelector=a%3Db";
    let expected = "/api/v1/pods?watch=true&labelSelector=a%3Db&timeoutSeconds=60";
    assert_eq!(short(watch).as_deref(), Some(expected));
    assert_eq!(
        short("https://h/a?watch=1").as_deref(),
        Some("https://h/a?watch=1&timeoutSeconds=60")
    );
    for other in ["/api/v1/pods", "/api/v1/pods?limit=500", "/api/v1/pods?labelSelector=watch"] {
        assert_eq!(short(other), None, "{other}");
    }
}
