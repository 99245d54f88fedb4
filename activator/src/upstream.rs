//! Connections to one pod, and what became of a request sent over them.
//!
//! Each pod has a pool of its own, so that an address that another pod reuses never gets a
//! connection of the old one. The pool sits on hyper's connections and not on a ready-made client
//! because only there a request that provably never left comes back whole (class R1), and because
//! a connection then returns to the pool without a task for each request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::serving::Protocol;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::connect::{BoxedIo, Connect};

/// Longest time for a TCP handshake inside a cluster: one lost SYN is sent again after 1 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an unused connection is kept. Below the keep-alive of common model servers (5 s in
/// uvicorn and Node.js): a request on a connection that the server is closing is lost for sure.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Unused connections kept for one pod; more are closed.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// How long a connection may take to be ready again after its last response ended.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(5);
/// Streams on one HTTP/2 connection; RFC 9113 advises servers to allow at least 100. More go to
/// another connection instead of waiting unseen inside this one.
const STREAMS_MAX: usize = 100;
/// A dead HTTP/2 connection is noticed after this interval and as much again.
const H2_PING_INTERVAL: Duration = Duration::from_secs(10);
/// Flow-control windows that keep a stream at full speed inside a data centre.
const H2_WINDOW_BYTES: u32 = 1024 * 1024;

/// What an HTTP/1 connection to another activator holds of a request's body, and the largest head
/// of a response from there. hyper's 400 KiB for each upload that waits at the owner would be
/// 400 MiB for a thousand; less than 64 KiB costs throughput.
const PEER_BUFFER_BYTES: usize = 64 * 1024;

/// The connections to one pod.
pub(crate) struct Upstream {
    address: SocketAddr,
    protocol: Protocol,
    h1: http1::Builder,
    connect: Arc<dyn Connect>,
    /// Unused HTTP/1 connections, the most recently used last.
    idle: Mutex<Vec<Idle>>,
    streams: Mutex<Vec<Streams>>,
    /// Held while an HTTP/2 connection is made, so that a burst makes one and not hundreds.
    dialing: tokio::sync::Mutex<()>,
}

struct Idle {
    sender: http1::SendRequest<Incoming>,
    since: Instant,
}

#[derive(Clone)]
struct Streams {
    sender: http2::SendRequest<Incoming>,
    /// Each open stream holds a clone: the count of streams without a counter to forget.
    open: Arc<()>,
}

/// The connection that a response comes over, until its body ends.
pub(crate) enum Lease {
    /// An HTTP/1 connection, to be used again.
    H1(Arc<Upstream>, http1::SendRequest<Incoming>),
    /// One stream, counted by the existence of this.
    H2(#[expect(dead_code, reason = "held, never looked at")] Arc<()>),
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Nothing was sent: the request may be sent to another pod.
    #[error("the request could not be sent to {address}")]
    Unsent {
        /// The request as it was.
        request: Box<Request<Incoming>>,
        /// The pod.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: ConnectError,
    },
    /// The request, or a part of it, was sent: it must not be sent again.
    #[error("{address} gave no response")]
    Lost {
        /// The pod.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: hyper::Error,
    },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Refused, unreachable or too slow.
    #[error("connect")]
    Connect(#[source] io::Error),
    /// The connection failed before it was used.
    #[error("handshake")]
    Handshake(#[source] hyper::Error),
}

// === impl Upstream ===

impl Upstream {
    /// No connections yet.
    pub(crate) fn new(address: SocketAddr, protocol: Protocol, connect: Arc<dyn Connect>) -> Self {
        Self {
            address,
            protocol,
            h1: http1::Builder::new(),
            connect,
            idle: Mutex::default(),
            streams: Mutex::default(),
            dialing: tokio::sync::Mutex::default(),
        }
    }

    /// The same to another activator, where requests may wait for long after they were sent.
    pub(crate) fn for_peer(
        address: SocketAddr,
        protocol: Protocol,
        connect: Arc<dyn Connect>,
    ) -> Self {
        let mut upstream = Self::new(address, protocol, connect);
        upstream.h1.max_buf_size(PEER_BUFFER_BYTES);
        upstream
    }

    /// Where the pod listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the pod speaks.
    pub(crate) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Sends a request; `opened` is called as soon as it has a connection, perhaps more than once.
    /// Dropping the future takes the request back: a stream is reset, an HTTP/1
    /// connection is closed.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: Request<Incoming>,
        opened: &mut (dyn FnMut() + Send),
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        match self.protocol {
            Protocol::Http1 => self.send_h1(request, opened).await,
            Protocol::H2c => self.send_h2(request, opened).await,
        }
    }

    /// Closes what has not been used for [`IDLE_TIMEOUT`].
    pub(crate) fn expire(&self, now: Instant) {
        self.idle.lock().retain(|idle| now.saturating_duration_since(idle.since) < IDLE_TIMEOUT);
    }

    async fn send_h1(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        opened: &mut (dyn FnMut() + Send),
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        loop {
            // A pooled connection may turn out closed; a new one is made only after all of them.
            let (mut sender, fresh) = match self.idle_h1().await {
                Some(sender) => (sender, false),
                None => match self.dial_h1().await {
                    Ok(sender) => (sender, true),
                    Err(source) => return Err(self.unsent(request, source)),
                },
            };
            opened();
            let mut error = match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Lease::H1(Arc::clone(self), sender))),
                Err(error) => error,
            };
            match error.take_message() {
                Some(back) if !fresh => request = back,
                Some(back) => {
                    let source = ConnectError::Handshake(error.into_error());
                    return Err(self.unsent(back, source));
                }
                None => return Err(self.lost(error.into_error())),
            }
        }
    }

    async fn send_h2(
        self: &Arc<Self>,
        request: Request<Incoming>,
        opened: &mut (dyn FnMut() + Send),
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let mut streams = match self.stream_h2().await {
            Ok(streams) => streams,
            Err(source) => return Err(self.unsent(request, source)),
        };
        opened();
        match streams.sender.try_send_request(request).await {
            Ok(response) => Ok((response, Lease::H2(streams.open))),
            Err(mut error) => match error.take_message() {
                Some(back) => {
                    let source = ConnectError::Handshake(error.into_error());
                    Err(self.unsent(back, source))
                }
                None => Err(self.lost(error.into_error())),
            },
        }
    }

    async fn idle_h1(&self) -> Option<http1::SendRequest<Incoming>> {
        loop {
            let Idle { mut sender, since } = self.idle.lock().pop()?;
            if sender.is_closed() || since.elapsed() >= IDLE_TIMEOUT {
                continue;
            }
            // The end of a body can be seen here before the connection's own task has seen it.
            if sender.is_ready()
                || matches!(timeout(SETTLE_TIMEOUT, sender.ready()).await, Ok(Ok(())))
            {
                return Some(sender);
            }
        }
    }

    async fn dial_h1(&self) -> Result<http1::SendRequest<Incoming>, ConnectError> {
        let io = dial(self.connect.as_ref(), self.address).await.map_err(ConnectError::Connect)?;
        let (sender, connection) =
            self.h1.handshake(TokioIo::new(io)).await.map_err(ConnectError::Handshake)?;
        let address = self.address;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, pod.address = %address, "Connection to pod ended");
            }
        });
        Ok(sender)
    }

    fn open_h2(&self) -> Option<Streams> {
        let mut streams = self.streams.lock();
        streams.retain(|streams| !streams.sender.is_closed());
        // The pool's own clone of `open` counts as one.
        streams.iter().find(|s| Arc::strong_count(&s.open) <= STREAMS_MAX).cloned()
    }

    async fn stream_h2(&self) -> Result<Streams, ConnectError> {
        if let Some(streams) = self.open_h2() {
            return Ok(streams);
        }
        let _one_at_a_time = self.dialing.lock().await;
        if let Some(streams) = self.open_h2() {
            return Ok(streams);
        }
        let io = dial(self.connect.as_ref(), self.address).await.map_err(ConnectError::Connect)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(H2_PING_INTERVAL)
            .keep_alive_timeout(H2_PING_INTERVAL)
            .initial_stream_window_size(H2_WINDOW_BYTES)
            .initial_connection_window_size(4 * H2_WINDOW_BYTES)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Handshake)?;
        let address = self.address;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, pod.address = %address, "Connection to pod ended");
            }
        });
        let streams = Streams { sender, open: Arc::new(()) };
        self.streams.lock().push(streams.clone());
        Ok(streams)
    }

    fn unsent(&self, request: Request<Incoming>, source: ConnectError) -> SendError {
        SendError::Unsent { request: Box::new(request), address: self.address, source }
    }

    const fn lost(&self, source: hyper::Error) -> SendError {
        SendError::Lost { address: self.address, source }
    }
}

// === impl Lease ===

impl Lease {
    /// Keeps the connection for the next request; only after a response that ended well.
    pub(crate) fn keep(self) {
        if let Self::H1(upstream, sender) = self
            && !sender.is_closed()
        {
            let mut idle = upstream.idle.lock();
            if idle.len() < IDLE_CONNECTIONS_MAX {
                idle.push(Idle { sender, since: Instant::now() });
            }
        }
    }
}

/// Connects within [`CONNECT_TIMEOUT`].
pub(crate) async fn dial(connect: &dyn Connect, address: SocketAddr) -> io::Result<BoxedIo> {
    timeout(CONNECT_TIMEOUT, connect.connect(address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
