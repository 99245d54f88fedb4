//! The connections of the webhook: TLS, HTTP/2 or HTTP/1.1, and a bound of time or bytes on
//! everything that a client could make this process wait for or keep.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::eviction::{CONNECTIONS_MAX, Places};

/// Longest TLS handshake: a round trip or two, and an API server that is short of processor time.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Longest wait for the first request of a connection: an API server connects to send one.
const FIRST: Duration = Duration::from_secs(5);
/// Longest wait for the head of the next request of HTTP/1.1, which API servers speak with webhooks.
/// An API server sends a review on any connection that was idle for less than 90 s, and cannot send
/// it again where the connection closes at that moment: the write that it stands for fails. So the
/// API server has to be the side that closes. A connection that only waits makes room for others
/// (`eviction.rs`).
const IDLE: Duration = Duration::from_mins(2);
/// Largest head; also what is buffered of one connection of HTTP/1.1.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Reviews that one connection may have open: an API server sends as many as it has writers.
const STREAMS_MAX: u32 = 128;
/// Streams that a client reset before they were accepted (CVE-2023-44487): hyper's default, named
/// because it is a promise.
const PENDING_RESETS_MAX: usize = 20;
/// What may be sent of a body before it is read, and of all bodies of one connection.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// Silence after which an HTTP/2 client is asked whether it is there, and how long it may take to
/// answer.
const PING: Duration = Duration::from_secs(10);
/// Pause after accepting failed: errors such as EMFILE last until something is closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection of HTTP/1.1 that only waits is kept at a shutdown. Whatever comes on it is
/// answered and told to be the last, so that the API server is the side that closes; one that was not used
/// for so long is hardly used at the moment of its end. With the pause before the shutdown
/// (`preStop` of the chart) and [`DRAIN`], a pod's usual 30 s suffice.
const LINGER: Duration = Duration::from_secs(15);
/// How long reviews in flight may take to end after it: an API server gives up after 10 s, and a
/// review takes milliseconds.
const DRAIN: Duration = Duration::from_secs(5);

/// A handler of requests.
pub(super) trait Answer: Clone + Send + Sync + 'static {
    /// Answers a request of this caller.
    fn answer(
        &self,
        request: Request<Incoming>,
        caller: Caller,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// The connection that a request came on; its reviews protect it from being closed.
pub(super) struct Caller {
    id: u64,
    places: Arc<Mutex<Places>>,
}

/// A review that was read whole. It protects its connection until it is answered, or until this is
/// dropped because the client gave the review up.
pub(super) struct Asked(Option<Caller>);

/// The webhook's server.
pub(super) struct Server<A> {
    pub(super) listener: TcpListener,
    /// The certificate; a new one is served to later connections.
    pub(super) tls: Arc<ArcSwap<ServerConfig>>,
    pub(super) answers: A,
    /// Connections that had to make room for others.
    pub(super) evicted: Counter,
}

// === impl Caller ===

impl Caller {
    /// A whole review has come.
    pub(super) fn has_asked(self) -> Asked {
        self.places.lock().asked(self.id);
        Asked(Some(self))
    }
}

// === impl Asked ===

impl Asked {
    /// The review is answered.
    pub(super) fn answered(mut self) {
        if let Some(Caller { id, places }) = self.0.take() {
            places.lock().answered(id, Instant::now());
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(Caller { id, places }) = self.0.take() {
            places.lock().gave_up(id);
        }
    }
}

// === impl Server ===

impl<A: Answer> Server<A> {
    /// Serves until `shutdown`, then lets reviews in flight end, and connections that wait linger.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let Self { listener, tls, answers, evicted } = self;
        let places = Arc::new(Mutex::new(Places::new(CONNECTIONS_MAX)));
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "Connection to the webhook not accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let taken = places.lock().take(peer.ip(), Instant::now());
            if taken.has_evicted {
                evicted.inc();
            }
            let caller = Caller { id: taken.id, places: places.clone() };
            let serving = connection(
                stream,
                TlsAcceptor::from(tls.load_full()),
                answers.clone(),
                caller,
                shutdown.clone(),
            );
            let (places, id) = (places.clone(), taken.id);
            tasks.spawn(async move {
                tokio::select! {
                    () = taken.close.cancelled() => {
                        tracing::debug!(client.address = %peer, "Connection closed to make room");
                    }
                    () = serving => {}
                }
                places.lock().leave(id);
            });
        }
        drop(listener);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(LINGER + DRAIN, ended).await.is_err() {
            tracing::warn!("The webhook closed connections with reviews in flight");
        }
    }
}

/// Serves one connection to its end, or to the end of what is in flight after `shutdown`.
async fn connection<A: Answer>(
    stream: TcpStream,
    tls: TlsAcceptor,
    answers: A,
    caller: Caller,
    shutdown: CancellationToken,
) {
    // An answer must not wait for the acknowledgement of the one before.
    drop(stream.set_nodelay(true));
    let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await else { return };
    let is_http2 = is_http2(&stream);
    let http = http(is_http2);
    let has_request = Arc::new(AtomicBool::new(false));
    let is_late = late(has_request.clone());
    let stopping = shutdown.clone();
    let service = service_fn(move |request| {
        has_request.store(true, Ordering::Relaxed);
        let caller = Caller { id: caller.id, places: caller.places.clone() };
        let answers = answers.clone();
        let is_last = stopping.clone();
        async move {
            let mut response = answers.answer(request, caller).await;
            if !is_http2 && is_last.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = is_late => return,
        () = shutdown.cancelled() => {
            // HTTP/2 says which requests are served before it closes.
            let lingers = if is_http2 { Duration::ZERO } else { LINGER };
            if let Ok(ended) = timeout(lingers, serving.as_mut()).await {
                ended
            } else {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "Connection to the webhook ended");
    }
}

/// Ends when a connection's first request has not come within [`FIRST`].
async fn late(has_request: Arc<AtomicBool>) {
    sleep(FIRST).await;
    if has_request.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// The protocol that the handshake agreed on: nothing needs to be read to find out.
fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

fn http(is_http2: bool) -> auto::Builder<TokioExecutor> {
    let http = auto::Builder::new(TokioExecutor::new());
    if is_http2 {
        let mut http = http.http2_only();
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        http
    } else {
        let mut http = http.http1_only();
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(HEAD_BYTES_MAX);
        http
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// A review that the client gave up no longer protects its connection: a flood cannot keep
    /// places by it.
    #[tokio::test]
    async fn a_review_that_is_given_up_protects_its_connection_no_longer() {
        let places = Arc::new(Mutex::new(Places::new(1)));
        let address = IpAddr::from([10, 0, 0, 1]);
        let taken = places.lock().take(address, Instant::now());
        let caller = || Caller { id: taken.id, places: places.clone() };
        let held = caller().has_asked();
        drop(caller().has_asked());
        assert_eq!(places.lock().waiting(taken.id), 1);
        drop(held);
        assert_eq!(places.lock().waiting(taken.id), 0);
        caller().has_asked().answered();
        assert_eq!(places.lock().waiting(taken.id), 0);
    }
}
