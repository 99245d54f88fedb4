//! HTTP/2 connections to one pod, shared by its requests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::dial::{CONNECT_TIMEOUT, ConnectError};
use crate::connect::BoxedIo;
use crate::upload::Upload;

/// Streams on one HTTP/2 connection; RFC 9113 advises servers to allow at least 100. More go to
/// another connection instead of waiting unseen inside this one.
const STREAMS_MAX: u32 = 100;
/// A dead HTTP/2 connection is noticed after this interval and as much again.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of a response that a pod may send before its client takes them: 256 MB/s at a
/// millisecond's distance. The connection has room for as much of every stream: a client that reads
/// slowly must not keep the responses of others out.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// How long a connection without a stream is kept. GOAWAY tells in good order that it ends, so
/// there is no race to lose as with HTTP/1; keeping it longer only costs the pod and this process
/// memory.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// The connections.
#[derive(Default)]
pub(super) struct Pool {
    open: Mutex<Vec<Connection>>,
    /// The dial that all requests without a connection wait for; it ends when none of them waits
    /// any more.
    dial: Mutex<Option<WeakShared<Dial>>>,
}

/// Makes a connection and adds it to the pool.
type Dial = BoxFuture<'static, Result<(), ConnectError>>;
/// Runs a connection.
type Driven = http2::Connection<TokioIo<BoxedIo>, Upload, TokioExecutor>;

struct Connection {
    streams: Streams,
    /// Since when it has no stream.
    idle: Option<Instant>,
}

/// A place on a connection.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) sender: http2::SendRequest<Upload>,
    /// Each open stream holds a clone: so streams are counted without a counter to forget.
    pub(super) open: Arc<()>,
}

// === impl Pool ===

impl Pool {
    /// A place on a connection that has one.
    fn free(&self) -> Option<Streams> {
        let mut open = self.open.lock();
        open.retain(|connection| !connection.streams.sender.is_closed());
        let connection = open.iter_mut().find(|c| c.streams.count() < STREAMS_MAX)?;
        connection.idle = None;
        Some(connection.streams.clone())
    }

    /// A place on a connection; `dial` makes a connection where none has a place. A burst of
    /// requests shares one dial at a time: its success gives places to the first [`STREAMS_MAX`],
    /// its failure is a failure for all.
    pub(super) async fn place(&self, dial: impl Fn() -> Dial) -> Result<Streams, ConnectError> {
        loop {
            if let Some(streams) = self.free() {
                return Ok(streams);
            }
            self.dial(&dial).await?;
            // Either all connections are full, and another is to be made; or the pod closed the new
            // one at once.
            if self.is_empty() {
                let closed = io::Error::from(io::ErrorKind::ConnectionAborted);
                return Err(ConnectError::Connect(Arc::new(closed)));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.open.lock().is_empty()
    }

    /// Closes connections that have had no stream for [`IDLE_TIMEOUT`].
    pub(super) fn expire(&self, now: Instant) {
        self.open.lock().retain_mut(|connection| {
            if connection.streams.count() > 0 {
                connection.idle = None;
                return true;
            }
            let since = *connection.idle.get_or_insert(now);
            now.saturating_duration_since(since) < IDLE_TIMEOUT
        });
    }

    /// Adds a connection that was made.
    pub(super) fn add(&self, sender: http2::SendRequest<Upload>) {
        let streams = Streams { sender, open: Arc::new(()) };
        self.open.lock().push(Connection { streams, idle: None });
    }

    /// The dial that is under way, or a new one.
    fn dial(&self, fresh: impl FnOnce() -> Dial) -> Shared<Dial> {
        let mut dial = self.dial.lock();
        let under_way = dial.as_ref().and_then(WeakShared::upgrade);
        under_way.filter(|dial| dial.peek().is_none()).unwrap_or_else(|| {
            let fresh = fresh().shared();
            *dial = fresh.downgrade();
            fresh
        })
    }
}

impl Streams {
    /// How many streams are open: the pool's own clone of `open` is none.
    fn count(&self) -> u32 {
        u32::try_from(Arc::strong_count(&self.open)).unwrap_or(u32::MAX).saturating_sub(1)
    }
}

/// A connection to a pod that speaks HTTP/2, to be driven by the caller.
pub(super) async fn handshake(
    io: BoxedIo,
) -> Result<(http2::SendRequest<Upload>, Driven), ConnectError> {
    let handshake = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAMS_MAX * STREAM_WINDOW_BYTES)
        .handshake(TokioIo::new(io));
    timeout(CONNECT_TIMEOUT, handshake)
        .await
        .map_err(|_| ConnectError::Connect(Arc::new(io::ErrorKind::TimedOut.into())))?
        .map_err(|error| ConnectError::Handshake(Arc::new(error)))
}
