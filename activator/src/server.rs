//! Listening, and one task for each connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use http::{HeaderValue, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::guard::{Activity, GuardedIo};
use crate::headers::ClientEnd;
use crate::proxy::{Caller, Client, Proxy};
use crate::queue::QueueLimits;
use crate::route::Door;

/// Largest request head; also what is buffered of one connection.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most header fields in a request.
const HEADERS_MAX: usize = 128;
/// Streams that one HTTP/2 client may have open.
const H2_STREAMS_MAX: u32 = 1024;
/// Streams that a client reset before we accepted them (CVE-2023-44487); hyper's default, named
/// because it is a promise.
const H2_PENDING_RESETS_MAX: usize = 20;
/// The same for another activator, which opens 100 (`upstream.rs`).
const PEER_STREAMS_MAX: u32 = 128;
/// What another activator may send of a body that is not read yet. The connection has room for
/// this much of each stream: bodies of requests that wait must not keep those of others out, for
/// which the first may be waiting.
const PEER_WINDOW_BYTES: u32 = 64 * 1024;
/// Silence after which an HTTP/2 client is asked whether it is there, and how long it may take to
/// answer: connections that a middlebox forgot would stay for ever.
const H2_PING: Duration = Duration::from_secs(30);
/// Pause after accepting failed: EMFILE and its kind last until something is closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections at once; a file descriptor each, and as much again for the way to the pods.
const CONNECTIONS_MAX: usize = 50_000;
/// Longest orderly end, Knative's activator's grace period.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(10);

/// How long idle connections of HTTP/1 stay open when a shutdown begins. To close one at once
/// would lose what its client is sending at that moment; who sends something until then is told
/// with the answer that it was the last.
const LINGER: Duration = Duration::from_secs(2);

/// Limits of an activator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How much may wait for one revision.
    pub queue: QueueLimits,
    /// Client connections at once; more wait in the listener's backlog.
    pub connections: usize,
    /// How long requests in flight may take to end after a shutdown has begun.
    pub drain: Duration,
}

/// How to be asked to stop: each connection has a channel of its own, because one shared by all
/// would be locked at every wakeup of each.
type Stops = Mutex<HashMap<u64, oneshot::Sender<()>>>;

impl Default for Limits {
    fn default() -> Self {
        Self { queue: QueueLimits::default(), connections: CONNECTIONS_MAX, drain: DRAIN_TIMEOUT }
    }
}

/// Who a server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Anybody who can connect to this door.
    Clients(Door),
    /// Other activators, whose word counts.
    Peers,
}

/// Serves HTTP/1 and HTTP/2 (by prior knowledge).
pub(crate) struct Server {
    proxy: Arc<Proxy>,
    http: auto::Builder<TokioExecutor>,
    audience: Audience,
}

impl Server {
    pub(crate) fn new(proxy: Arc<Proxy>, audience: Audience) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        // The guard times heads; see there.
        http.http1()
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(H2_PING)
            .keep_alive_timeout(H2_PING)
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
        if audience == Audience::Peers {
            http.http2()
                .max_concurrent_streams(PEER_STREAMS_MAX)
                .initial_stream_window_size(PEER_WINDOW_BYTES)
                .initial_connection_window_size(PEER_STREAMS_MAX * PEER_WINDOW_BYTES);
        }
        Self { proxy, http, audience }
    }

    /// Serves one connection to its end, or to the end of what is in flight when `stop` says so.
    pub(crate) async fn connection<I>(&self, io: I, peer: IpAddr, stop: oneshot::Receiver<()>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let activity = Arc::new(Activity::default());
        let io = GuardedIo::new(io, Arc::clone(&activity), Instant::now());
        let proxy = Arc::clone(&self.proxy);
        let caller = match self.audience {
            Audience::Clients(door) => Caller::Client(ClientEnd::new(peer), door),
            Audience::Peers => Caller::Peer,
        };
        let client = Arc::new(Client { proxy, caller, activity });
        let leaving = Arc::new(AtomicBool::new(false));
        let is_leaving = Arc::clone(&leaving);
        let service = service_fn(move |request: Request<Incoming>| {
            let (client, is_leaving) = (Arc::clone(&client), Arc::clone(&is_leaving));
            async move {
                let is_http1 = request.version() < Version::HTTP_2;
                let mut response = client.answer(request).await;
                let is_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if is_http1 && !is_tunnel && is_leaving.load(Ordering::Relaxed) {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = self.http.serve_connection_with_upgrades(TokioIo::new(io), service);
        let ended = match select(pin!(connection), stop).await {
            Either::Left((ended, _)) => ended,
            Either::Right((_, mut connection)) => {
                leaving.store(true, Ordering::Relaxed);
                if let Ok(ended) = timeout(LINGER, connection.as_mut()).await {
                    ended
                } else {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, client.address = %peer, "Client connection ended");
        }
    }
}

/// Accepts connections until `shutdown`, then lets what is in flight end, for `limits.drain` at
/// the most.
pub(crate) async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let stops = Arc::new(Stops::default());
    let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let mut tasks = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else {
            continue;
        };
        number += 1;
        let (ask, stop) = oneshot::channel();
        stops.lock().insert(number, ask);
        let (server, stops, id) = (Arc::clone(&server), Arc::clone(&stops), number);
        tasks.spawn(async move {
            let _place = place;
            server.connection(stream, peer.ip(), stop).await;
            stops.lock().remove(&id);
        });
    }
    drop(listener);
    // Dropping a sender is the request to stop.
    stops.lock().clear();
    let ended = async {
        while tasks.join_next().await.is_some() {}
        server.proxy.tunnels.close().await;
    };
    if timeout(limits.drain, ended).await.is_err() {
        tracing::warn!("Connections closed with requests in flight: the drain timeout ran out");
    }
}

/// The next connection, once there is room for it; nothing after an error, which never ends the
/// loop.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // A response head must not wait for the acknowledgement of the one before.
            stream.set_nodelay(true).ok()?;
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "Connection not accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
