//! How connections to pods, to other activators and to autoscalers are made: one seam for
//! forwarding, probing and reporting, so that a simulation can run all of them over in-memory pipes
//! in paused time.

use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::sockets;

/// Both halves of a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection of any kind.
pub type BoxedIo = Box<dyn Io>;

/// The network, as an activator uses it.
pub trait Connect: Send + Sync {
    /// Connects to `address`. The caller bounds the time; dropping the future gives up.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>>;

    /// Returns once connections may be made, which may take longer than one may take.
    fn settled(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The addresses of `host`, a `host:port`. The caller bounds the time.
    fn lookup(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host(host).await?.collect()) })
    }
}

/// Where connections of clients and of other activators come in.
pub trait Accept: Send {
    /// Both halves of a connection.
    type Io: Io + 'static;

    /// The next connection, and who is at its other end. Loses none when it is cancelled. An error
    /// concerns one connection, or passes.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        sockets::tune_client(&stream)?;
        Ok((stream, peer))
    }
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
