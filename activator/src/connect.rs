//! How connections to pods, those of other activators included, are made: one seam for forwarding
//! and probing, so that a simulation can run both over in-memory pipes in paused time.

use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::sockets;

/// Both halves of a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection of any kind.
pub type BoxedIo = Box<dyn Io>;

/// Makes connections to pods.
pub trait Connect: Send + Sync {
    /// Connects to `address`. The caller bounds the time; dropping the future gives up.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>>;
}

/// Plain TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnect;

impl Connect for TcpConnect {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            sockets::tune_pod(&stream)?;
            Ok(Box::new(stream) as BoxedIo)
        })
    }
}
