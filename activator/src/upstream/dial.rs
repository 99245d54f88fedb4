//! Making a connection, and why there is none.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{sleep, timeout};

use crate::connect::{BoxedIo, Connect};

/// Longest time for a TCP handshake inside a cluster: one lost SYN is sent again after 1 s.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before another attempt after this machine had no file or port left.
const LOCAL_FAULT_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Refused, unreachable or too slow.
    #[error("connect")]
    Connect(#[source] Arc<io::Error>),
    /// The connection failed before it was used.
    #[error("handshake")]
    Handshake(#[source] Arc<hyper::Error>),
}

// === impl ConnectError ===

impl ConnectError {
    /// Whether this machine is at fault, and no pod: it had no file, port or buffer left.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Connect(error) if is_local(error))
    }
}

/// Connects within [`CONNECT_TIMEOUT`] of when connections may be made; within that time also waits for
/// a file or port to be free.
pub(crate) async fn dial(connect: &dyn Connect, address: SocketAddr) -> io::Result<BoxedIo> {
    connect.settled().await;
    let mut fault = None;
    let dialing = async {
        loop {
            match connect.connect(address).await {
                Err(error) if is_local(&error) => fault = Some(error),
                done => return done,
            }
            sleep(LOCAL_FAULT_PAUSE).await;
        }
    };
    let dialed = timeout(CONNECT_TIMEOUT, dialing).await;
    dialed.unwrap_or_else(|_| Err(fault.unwrap_or_else(|| io::ErrorKind::TimedOut.into())))
}

/// Whether an attempt failed before anything was sent, for want of something on this machine.
fn is_local(error: &io::Error) -> bool {
    const FAULTS: [Errno; 5] =
        [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| FAULTS.contains(&Errno::from_raw(code)))
}
