//! Listening, and one task for each connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ebb_daemon::identity::Doorkeeper;
use futures::future::{Either, select};
use http::{HeaderValue, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::connect::Accept;
use crate::greeting;
use crate::guard::{Activity, GuardedIo};
use crate::headers::ClientEnd;
use crate::limits::Limits;
use crate::meters::{Bound, Cut};
use crate::places::{Full, Place, Places};
use crate::progress::StreamExecutor;
use crate::proxy::{Caller, Client, Proxy};
use crate::route::Door;

/// Largest request head; also the most that is buffered of one connection.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most header fields in a request.
const HEADERS_MAX: usize = 128;
/// Streams that one HTTP/2 client may have open. Each multiplies what a connection may hold; a
/// gateway with more to send opens another connection.
const H2_STREAMS_MAX: u32 = 256;
/// The same for another activator, which opens 100 (`upstream.rs`).
const PEER_STREAMS_MAX: u32 = 128;
/// Bytes of a body that an HTTP/2 client may send before it is read: enough for 64 MB/s at a
/// millisecond's distance. The connection has room for as much of every stream, because a body that
/// waits must not keep the bodies of other requests out: it may be waiting for one of these to end.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// Bytes of a response that hyper may keep because an HTTP/2 client has room for them and the
/// socket has not.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Streams that a client reset before we accepted them (CVE-2023-44487); hyper's default, named
/// because it is a promise.
const H2_PENDING_RESETS_MAX: usize = 20;
/// Silence after which an HTTP/2 client is asked whether it is there, and how long it may take to
/// answer: otherwise connections that a middlebox forgot would stay for ever.
const H2_PING: Duration = Duration::from_secs(30);
/// Pause after accepting failed: EMFILE and its kind last until something is closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most connections beyond the limit that are told so at a time.
const REFUSALS_MAX: usize = 64;
/// How long a further connection beyond the limit waits until one of those has been told, before it
/// is closed without a word. Long enough if the clients being told talk, and short because no
/// connection is accepted meanwhile: silent clients take [`REFUSAL_TIMEOUT`] each.
const REFUSAL_WAIT: Duration = Duration::from_millis(20);
/// Longest time to tell a connection so, the reading of its first request included.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long idle connections of HTTP/1 stay open when a shutdown begins. Closing one at once would
/// lose a request that its client is sending at that moment. A client that sends a request in this
/// time is told with the answer that it was the last.
const LINGER: Duration = Duration::from_secs(2);

/// The channels that ask connections to stop: one for each connection, because one channel for all
/// would be locked at every wakeup of each.
type Stops = Mutex<HashMap<u64, oneshot::Sender<()>>>;

/// The callers that a server serves.
pub(crate) enum Audience {
    /// Anybody who can connect to this door.
    Clients(Door),
    /// Other activators, which are believed once they are let in.
    Peers(Doorkeeper),
}

/// Serves HTTP/1 and HTTP/2 (by prior knowledge).
pub(crate) struct Server {
    proxy: Arc<Proxy>,
    http: auto::Builder<StreamExecutor>,
    audience: Audience,
    places: Arc<Places>,
}

impl Server {
    /// A server whose connections take their places among `places`.
    pub(crate) fn new(proxy: Arc<Proxy>, audience: Audience, places: Arc<Places>) -> Self {
        let cut = proxy.context.meters.cut(Cut::Download);
        let mut http = auto::Builder::new(StreamExecutor { cut });
        // The guard times heads; see `guard.rs`.
        http.http1()
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX);
        let streams = match &audience {
            Audience::Clients(_) => H2_STREAMS_MAX,
            Audience::Peers(_) => PEER_STREAMS_MAX,
        };
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(H2_PING)
            .keep_alive_timeout(H2_PING)
            .max_concurrent_streams(streams)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(streams * STREAM_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
        Self { proxy, http, audience, places }
    }

    /// A place for a connection from `peer`, which it holds to its end; `None` when there is none,
    /// so that all its requests are refused.
    pub(crate) fn admit(&self, peer: IpAddr) -> Option<Arc<Place>> {
        let taken = self.places.take(peer).inspect_err(|full| {
            self.proxy.context.meters.overflow(match full {
                Full::Places => Bound::Connections,
                Full::Address => Bound::ConnectionsPerAddress,
            });
        });
        taken.ok().map(Arc::new)
    }

    /// Serves one connection to its end; once `stop` says so, only to the end of its requests in
    /// flight.
    pub(crate) async fn connection<I>(
        &self,
        mut io: I,
        peer: IpAddr,
        place: Option<Arc<Place>>,
        stop: oneshot::Receiver<()>,
    ) where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        if let Audience::Peers(doorkeeper) = &self.audience
            && let Err(error) = greeting::welcome(&mut io, doorkeeper).await
        {
            tracing::info!(%error, peer.address = %peer, "The caller is not an activator");
            return;
        }
        let now = Instant::now();
        let activity = Arc::new(Activity::new(now));
        let (quiet, quieted) = oneshot::channel();
        let cut = self.proxy.context.meters.cut(Cut::Download);
        let io = GuardedIo::new(io, Arc::clone(&activity), now, quiet, cut);
        let proxy = Arc::clone(&self.proxy);
        let caller = match &self.audience {
            Audience::Clients(door) => Caller::Client(ClientEnd::new(peer), *door),
            Audience::Peers(_) => Caller::Peer,
        };
        let client = Arc::new(Client { proxy, caller, activity, place });
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
        let ended = match select(pin!(connection), select(stop, quieted)).await {
            Either::Left((ended, _)) => ended,
            // Asked to stop, or told by the guard that the connection is idle. The guard was not
            // dropped: the open connection owns it.
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

/// Accepts connections until `shutdown`, then lets requests in flight end, for `limits.drain` at
/// the most.
pub(crate) async fn serve(
    server: Arc<Server>,
    mut listener: impl Accept,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let stops = Arc::new(Stops::default());
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let mut tasks = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            accepted = accept(&mut listener) => accepted,
        };
        let Some((stream, peer)) = accepted else {
            continue;
        };
        let place = server.admit(peer.ip());
        let refusal = match place {
            Some(_) => None,
            None => match timeout(REFUSAL_WAIT, Arc::clone(&refusals).acquire_owned()).await {
                Ok(Ok(refusal)) => Some(refusal),
                _ => continue,
            },
        };
        number += 1;
        let (ask, stop) = oneshot::channel();
        stops.lock().insert(number, ask);
        let (server, stops, id) = (Arc::clone(&server), Arc::clone(&stops), number);
        tasks.spawn(async move {
            if let Some(refusal) = refusal {
                let telling = server.connection(stream, peer.ip(), None, stop);
                let _too_slow = timeout(REFUSAL_TIMEOUT, telling).await;
                drop(refusal);
            } else {
                server.connection(stream, peer.ip(), place, stop).await;
            }
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

/// The next connection; `None` after an error, which never ends the loop.
async fn accept<A: Accept>(listener: &mut A) -> Option<(A::Io, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "Connection not accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
