//! A backend for the tests: a small HTTP server that says who it is and misbehaves on request.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Most bytes of a body that a receipt repeats: the clients that ask for one send less.
const RECEIPT_BYTES_MAX: usize = 64 * 1024;

/// Answers on `/` with its identity; each other route does what its name says.
#[derive(Parser, Debug)]
struct Options {
    /// Port to listen on.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// Address to listen on: loopback, unless it has a network of its own.
    #[arg(long, env = "EBB_BACKEND_ADDRESS", default_value = "127.0.0.1")]
    address: IpAddr,
    /// How long to wait before listening, in milliseconds.
    #[arg(long, default_value_t = 0)]
    start_delay_ms: u64,
    /// Text that `/` carries, to tell two revisions apart.
    #[arg(long, default_value = "one")]
    text: String,
    /// Exit at once with this status instead of listening.
    #[arg(long)]
    exit_code: Option<i32>,
    /// Never listen.
    #[arg(long)]
    deaf: bool,
    /// Memory to fill before anything else, in MiB.
    #[arg(long, default_value_t = 0)]
    hold_mib: usize,
    /// Ask this URL for its text instead of listening.
    #[arg(long)]
    ask: Option<http::Uri>,
    /// Instead of listening, succeed if a backend listens here: for exec probes.
    #[arg(long)]
    check: bool,
}

#[derive(Debug)]
struct Backend {
    text: String,
    /// Requests inside right now.
    inside: AtomicUsize,
    /// Most requests that were ever inside at once.
    inside_max: AtomicUsize,
}

/// Counts one request while it lives.
struct Inside(Arc<Backend>);

type Body = BoxBody<Bytes, hyper::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(code) = options.exit_code {
        say("about to exit as told");
        std::process::exit(code);
    }
    if options.check {
        return TcpStream::connect((options.address, options.port))
            .await
            .map(drop)
            .map_err(Into::into);
    }
    if let Some(url) = options.ask {
        return ask(url).await;
    }
    // Written to, so that the kernel really gives the memory.
    let held = vec![1_u8; options.hold_mib << 20];
    std::hint::black_box(&held);
    // The first process of a container is not ended by a signal that it does not handle.
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::time::sleep(Duration::from_millis(options.start_delay_ms)).await;
    if options.deaf {
        say("will not listen, as told");
        terminate.recv().await;
        return Ok(());
    }
    let listener = tokio::net::TcpListener::bind((options.address, options.port))
        .await
        .with_context(|| format!("cannot listen on port {}", options.port))?;
    say(&format!("listening on port {}", options.port));
    let backend = Arc::new(Backend {
        text: options.text,
        inside: AtomicUsize::new(0),
        inside_max: AtomicUsize::new(0),
    });
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = terminate.recv() => break,
        };
        let backend = backend.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(backend.clone(), request));
            let served = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
            // An error is ignored: in some tests the client disconnects.
            drop(served);
        });
    }
    while backend.inside.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn ask(url: http::Uri) -> anyhow::Result<()> {
    let client: Client<_, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let body = client.get(url).await?.into_body().collect().await?.to_bytes();
    say(&String::from_utf8_lossy(&body));
    Ok(())
}

async fn answer(
    backend: Arc<Backend>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let inside = Inside::enter(backend);
    let wait = query(&request, "ms").unwrap_or(0);
    let response = match request.uri().path() {
        "/sleep" => {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            text(StatusCode::OK, "slept\n")
        }
        "/exclusive" => exclusive(&inside, wait).await,
        "/status" => {
            let code = query(&request, "code").and_then(|code| u16::try_from(code).ok());
            let status = code.and_then(|code| StatusCode::from_u16(code).ok());
            text(status.unwrap_or(StatusCode::BAD_REQUEST), "as told\n")
        }
        "/receipt" => receipt(request, wait).await,
        "/echo" => Response::new(request.into_body().boxed()),
        "/ticks" => ticks(inside, query(&request, "n").unwrap_or(5), wait),
        "/ws" => websocket(request),
        "/exit" => {
            std::process::exit(i32::try_from(query(&request, "code").unwrap_or(1)).unwrap_or(1))
        }
        _ => who(&inside.0, &request),
    };
    Ok(response)
}

/// Fails when two requests were ever inside at once: the proof that a limit of one was kept.
async fn exclusive(inside: &Inside, wait_ms: u64) -> Response<Body> {
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    match inside.0.inside_max.load(Ordering::SeqCst) {
        1 => text(StatusCode::OK, &format!("{}\n", instance())),
        most => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{most} were inside at once\n")),
    }
}

/// A line after each pause, for streams that must arrive as they are sent.
fn ticks(inside: Inside, count: u64, wait_ms: u64) -> Response<Body> {
    let stream = futures::stream::unfold((0, inside), move |(tick, inside)| async move {
        if tick == count {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let frame = Frame::data(Bytes::from(format!("tick {tick}\n")));
        Some((Ok(frame), (tick + 1, inside)))
    });
    Response::new(BoxBody::new(StreamBody::new(stream)))
}

/// Takes a WebSocket over and sends every message back.
fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return text(StatusCode::BAD_REQUEST, "not a WebSocket handshake\n");
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if !message.is_close() && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, http::HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, http::HeaderValue::from_static("websocket"));
    if let Ok(accept) = derive_accept_key(key.as_bytes()).parse() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// Says which pod got the request, and what it got: so that a client can tell that the answer is to
/// its own request, from the model that it asked.
async fn receipt(request: Request<Incoming>, wait_ms: u64) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, RECEIPT_BYTES_MAX).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "more than a receipt holds, or cut off\n");
    };
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    let variable = |name| std::env::var(name).unwrap_or_default();
    let receipt = json!({
        "service": variable("K_SERVICE"),
        "revision": variable("K_REVISION"),
        "instance": instance(),
        "method": parts.method.as_str(),
        "query": parts.uri.query().unwrap_or_default(),
        "body": String::from_utf8_lossy(&body.to_bytes()),
    });
    text(StatusCode::OK, &receipt.to_string())
}

fn who(backend: &Backend, request: &Request<Incoming>) -> Response<Body> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let body = json!({
        "text": backend.text,
        "instance": instance(),
        "revision": variable("K_REVISION"),
        "service": variable("K_SERVICE"),
        "configuration": variable("K_CONFIGURATION"),
        "port": variable("PORT"),
        "version": format!("{:?}", request.version()),
        "path": request.uri().path(),
        "inside": backend.inside.load(Ordering::SeqCst),
        "headers": readable(request.headers()),
    });
    text(StatusCode::OK, &body.to_string())
}

/// An identity that no other replica has, be it a process or a container.
fn instance() -> String {
    // A container has its pod's name; the processes of one machine have numbers.
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    format!("{host}:{}", std::process::id())
}

fn readable(headers: &HeaderMap) -> serde_json::Value {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn query(request: &Request<Incoming>, name: &str) -> Option<u64> {
    let pairs = request.uri().query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1.parse().ok()
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// One line to standard output, where `kubectl logs` finds it.
fn say(line: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // A log that nobody reads is no reason to stop.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

impl Inside {
    fn enter(backend: Arc<Backend>) -> Self {
        let now = backend.inside.fetch_add(1, Ordering::SeqCst) + 1;
        backend.inside_max.fetch_max(now, Ordering::SeqCst);
        Self(backend)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}
