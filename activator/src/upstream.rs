//! Connections to one pod, and what became of a request sent over them.
//!
//! Each pod has a pool of its own, so that an address that another pod reuses never gets a
//! connection of the old one. The pool sits on hyper's connections and not on a ready-made client
//! because only there a request that provably never left comes back whole, and because a connection
//! then returns to the pool without a task for each request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ebb_api::serving::Protocol;
use futures::FutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::connect::Connect;
use crate::upload::Upload;

mod dial;
mod early;
mod streams;

pub(crate) use dial::{ConnectError, dial};
use early::PodIo;
use streams::Pool;

/// How long an unused connection is kept. Below the keep-alive of common model servers (5 s in
/// uvicorn and Node.js): a request on a connection that the server is closing is lost for sure.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Unused connections kept for one pod; more are closed.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// How long a connection may take to be ready again after its last response ended.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(5);
/// How long requests in flight at a pod may go on once the pod is gone from the API: Kubernetes'
/// default grace period. A pod leaves the API after its containers have ended, so only connections
/// to a node that vanished are left by then.
const RETIRE_GRACE: Duration = Duration::from_secs(30);
/// Bytes of a body that an HTTP/1 connection holds in each direction, and the largest head of a
/// response. hyper's 400 KiB for each client that reads slowly, or for each upload that waits at
/// another activator, would be 400 MiB for a thousand; less than 64 KiB costs throughput.
const BUFFER_BYTES: usize = 64 * 1024;

/// The connections to one pod.
pub(crate) struct Upstream {
    address: SocketAddr,
    protocol: Protocol,
    h1: http1::Builder,
    connect: Arc<dyn Connect>,
    /// Unused HTTP/1 connections, the most recently used last.
    idle: Mutex<Vec<Idle>>,
    streams: Pool,
    /// Ends all connections.
    retired: CancellationToken,
    /// The task that waits to end them.
    retiring: Mutex<Option<AbortOnDropHandle<()>>>,
    /// Whether no new connection is made: the address may be another pod's.
    is_left: AtomicBool,
    /// How many connections were made.
    dialled: AtomicU64,
}

struct Idle {
    sender: http1::SendRequest<Upload>,
    since: Instant,
}

/// The connection that a response comes over, until its body ends.
pub(crate) enum Lease {
    /// An HTTP/1 connection, to be used again.
    H1(Arc<Upstream>, http1::SendRequest<Upload>),
    /// One stream, counted as long as this exists.
    H2(#[expect(dead_code, reason = "held, never looked at")] Arc<()>),
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Nothing was sent: the request may be sent to another pod.
    #[error("the request could not be sent to {address}")]
    Unsent {
        /// The request as it was.
        request: Box<Request<Upload>>,
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

// === impl Upstream ===

impl Upstream {
    /// No connections yet.
    pub(crate) fn new(address: SocketAddr, protocol: Protocol, connect: Arc<dyn Connect>) -> Self {
        let mut h1 = http1::Builder::new();
        h1.max_buf_size(BUFFER_BYTES);
        Self {
            address,
            protocol,
            h1,
            connect,
            idle: Mutex::default(),
            streams: Pool::default(),
            retired: CancellationToken::new(),
            retiring: Mutex::default(),
            is_left: AtomicBool::new(false),
            dialled: AtomicU64::new(0),
        }
    }

    /// Where the pod listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The protocol of the pod.
    pub(crate) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// How many connections were accepted so far. One more than before says that somebody is there
    /// again, sooner than an answer would; a process that is stopped has its kernel accept some, too.
    pub(crate) fn dialled(&self) -> u64 {
        self.dialled.load(Ordering::Relaxed)
    }

    /// Sends a request; `opened` is called as soon as it has a connection, perhaps more than once.
    /// Dropping the future takes the request back: a stream is reset, an HTTP/1
    /// connection is closed.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: Request<Upload>,
        opened: &mut (dyn FnMut() + Send),
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        match self.protocol {
            Protocol::Http1 => self.send_h1(request, opened).await,
            Protocol::H2c => self.send_h2(request, opened).await,
        }
    }

    /// A connection that is made from now on is not used. Requests in flight go on.
    pub(crate) fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    /// The pod is gone: a new connection is not used, and requests still in flight there after
    /// [`RETIRE_GRACE`] are broken off.
    pub(crate) fn retire(&self) {
        self.leave();
        let retired = self.retired.clone();
        let retiring = tokio::spawn(async move {
            sleep(RETIRE_GRACE).await;
            retired.cancel();
        });
        // The task ends with `self`, which requests in flight keep alive: without any there is
        // nothing to break off.
        *self.retiring.lock() = Some(AbortOnDropHandle::new(retiring));
    }

    /// Closes connections that have not been used for long.
    pub(crate) fn expire(&self, now: Instant) {
        self.streams.expire(now);
        self.idle.lock().retain(|idle| now.saturating_duration_since(idle.since) < IDLE_TIMEOUT);
    }

    async fn send_h1(
        self: &Arc<Self>,
        mut request: Request<Upload>,
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
                    let source = ConnectError::Handshake(Arc::new(error.into_error()));
                    return Err(self.unsent(back, source));
                }
                None => return Err(self.lost(error.into_error())),
            }
        }
    }

    async fn send_h2(
        self: &Arc<Self>,
        request: Request<Upload>,
        opened: &mut (dyn FnMut() + Send),
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let dial = || Arc::clone(self).dial_h2().boxed();
        let mut streams = match self.streams.place(dial).await {
            Ok(streams) => streams,
            Err(source) => return Err(self.unsent(request, source)),
        };
        opened();
        match streams.sender.try_send_request(request).await {
            Ok(response) => Ok((response, Lease::H2(streams.open))),
            Err(mut error) => match error.take_message() {
                Some(back) => {
                    let source = ConnectError::Handshake(Arc::new(error.into_error()));
                    Err(self.unsent(back, source))
                }
                None => Err(self.lost(error.into_error())),
            },
        }
    }

    async fn idle_h1(&self) -> Option<http1::SendRequest<Upload>> {
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

    async fn dial_h1(&self) -> Result<http1::SendRequest<Upload>, ConnectError> {
        let io = dial(self.connect.as_ref(), self.address)
            .await
            .map_err(|error| ConnectError::Connect(Arc::new(error)))?;
        let (sender, connection) = self
            .h1
            .handshake(TokioIo::new(PodIo::new(io)))
            .await
            .map_err(|error| ConnectError::Handshake(Arc::new(error)))?;
        self.count_dialled()?;
        self.drive(connection.with_upgrades());
        Ok(sender)
    }

    async fn dial_h2(self: Arc<Self>) -> Result<(), ConnectError> {
        let io = dial(self.connect.as_ref(), self.address)
            .await
            .map_err(|error| ConnectError::Connect(Arc::new(error)))?;
        let (sender, connection) = streams::handshake(io).await?;
        self.count_dialled()?;
        self.drive(connection);
        self.streams.add(sender);
        Ok(())
    }

    /// A connection was made. It is of no use if the pod has gone meanwhile: its address may be that
    /// of another.
    fn count_dialled(&self) -> Result<(), ConnectError> {
        if self.is_left.load(Ordering::Relaxed) {
            let gone = std::io::Error::new(std::io::ErrorKind::NotConnected, "the pod is gone");
            return Err(ConnectError::Connect(Arc::new(gone)));
        }
        self.dialled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Runs a connection to its end, which comes when its senders are gone or its pod is gone.
    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        let (address, retired) = (self.address, self.retired.clone());
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, pod.address = %address, "Connection to pod ended");
                },
                () = retired.cancelled() => {
                    tracing::debug!(pod.address = %address, "Connection ended with its pod");
                }
            }
        });
    }

    fn unsent(&self, request: Request<Upload>, source: ConnectError) -> SendError {
        SendError::Unsent { request: Box::new(request), address: self.address, source }
    }

    const fn lost(&self, source: hyper::Error) -> SendError {
        SendError::Lost { address: self.address, source }
    }
}

// === impl Lease ===

impl Lease {
    /// Cancelled when the pod has been gone for so long that a tunnel to it must end.
    pub(crate) fn retired(&self) -> CancellationToken {
        match self {
            Self::H1(upstream, _) => upstream.retired.clone(),
            // Streams end with their connection.
            Self::H2(_) => CancellationToken::new(),
        }
    }

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

#[cfg(test)]
mod tests;
