//! The listener of report streams, which every pod can reach: connections that are not an
//! activator's are bounded in what they hold, and in time.
//!
//! An activator makes one connection, HTTP/2 by prior knowledge, for its one stream. So a
//! connection without a stream is worth little: it has a short while to get one, and is the first
//! to go when places run out. Streams are given to activators alone, and there are fewer of them
//! than places.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::activators::ACTIVATORS_MAX;

/// Most connections: one for each stream there may be, and as many without a stream.
const CONNECTIONS_MAX: usize = 2 * ACTIVATORS_MAX;
/// How long a connection may be without a stream: some round trips, and a review of the token,
/// which an API server in trouble answers within seconds.
const STREAMLESS_MAX: Duration = Duration::from_secs(15);
/// Largest head: a path and a token.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Requests at once on one connection: one, and one that ends.
const REQUESTS_MAX: u32 = 2;
/// Bytes that may be sent before they are read, for a request and for a connection. A stream is
/// read at once, so this limit holds none up.
const WINDOW_BYTES: u32 = 64 * 1024;
/// Silence after which a client is asked whether it is there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(5);
/// Pause after accepting failed: EMFILE and its kind last until something is closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves report streams. Clones share their places.
#[derive(Clone, Debug)]
pub struct Listener {
    router: Router,
    places: Arc<Mutex<Places>>,
    /// Connections that were closed or refused.
    closed: Counter,
}

/// Lets a stream mark its connection as an activator's for as long as it lives.
#[derive(Clone, Debug)]
pub(super) struct Opening(Weak<()>);

/// The connections there are, by number: the oldest first.
#[derive(Debug, Default)]
struct Places {
    last: u64,
    taken: BTreeMap<u64, Place>,
}

#[derive(Clone, Debug)]
struct Place {
    number: u64,
    /// Held by the stream, too.
    held: Arc<()>,
    /// Fires when the connection must make room.
    close: CancellationToken,
}

// === impl Listener ===

impl Listener {
    /// Will serve the streams of `router`; metrics go to the registry.
    pub fn new(router: Router, registry: &mut Registry) -> Self {
        let closed = Counter::default();
        registry.sub_registry_with_prefix("ebb_autoscaler").register(
            "report_connections_closed",
            "Connections to the reports port that were closed because no activator reported there \
             in time, or because there were too many",
            closed.clone(),
        );
        Self { router, places: Arc::default(), closed }
    }

    /// Serves for ever. Dropping the future ends all connections.
    pub async fn serve(self, socket: TcpListener) {
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                Some(_) = tasks.join_next() => continue,
                accepted = socket.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "A connection of an activator was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // An order must not wait for the acknowledgement of the one before.
            drop(stream.set_nodelay(true));
            let listener = self.clone();
            tasks.spawn(async move { listener.serve_connection(stream, peer).await });
        }
    }

    /// Serves one connection of `peer` to its end; for listeners of another kind.
    pub async fn serve_connection<I>(&self, io: I, peer: SocketAddr)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(place) = self.places.lock().take() else {
            tracing::debug!(%peer, "There is no place for another connection");
            self.closed.inc();
            return;
        };
        if connection(io, self.router.clone(), &place).await.is_none() {
            tracing::debug!(%peer, "A connection without a report stream was closed");
            self.closed.inc();
        }
        self.places.lock().leave(&place);
    }
}

/// Serves one connection to its end; `None` if it was closed from here.
async fn connection<I>(io: I, router: Router, place: &Place) -> Option<()>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let opening = Opening(Arc::downgrade(&place.held));
    let service = TowerToHyperService::new(router.layer(Extension(opening)));
    let http = http();
    let mut serving = pin!(http.serve_connection(TokioIo::new(io), service));
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "A connection of an activator broke off");
                }
                return Some(());
            }
            () = place.close.cancelled() => return None,
            () = sleep(STREAMLESS_MAX) => if !place.has_stream() {
                return None;
            }
        }
    }
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new()).http2_only();
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(REQUESTS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    http
}

// === impl Opening ===

impl Opening {
    /// To be kept for as long as the stream lives.
    pub(super) fn hold(&self) -> Option<Arc<()>> {
        self.0.upgrade()
    }
}

// === impl Place ===

impl Place {
    /// Whether a stream holds it besides the list and the connection.
    fn has_stream(&self) -> bool {
        Arc::strong_count(&self.held) > 2
    }
}

// === impl Places ===

impl Places {
    /// A place for a new connection, if need be that of the oldest one without a stream; `None` if
    /// all have one.
    fn take(&mut self) -> Option<Place> {
        if self.taken.len() >= CONNECTIONS_MAX {
            let loser = self.taken.values().find(|place| !place.has_stream())?.number;
            if let Some(loser) = self.taken.remove(&loser) {
                loser.close.cancel();
            }
        }
        self.last += 1;
        let close = CancellationToken::new();
        let place = Place { number: self.last, held: Arc::default(), close };
        self.taken.insert(self.last, place.clone());
        Some(place)
    }

    fn leave(&mut self, place: &Place) {
        self.taken.remove(&place.number);
    }
}

#[cfg(test)]
mod tests;
