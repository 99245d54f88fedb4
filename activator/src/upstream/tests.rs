use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, join_all, pending};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::CONNECT_TIMEOUT;
use super::*;
use crate::connect::BoxedIo;

/// Never answers.
struct Nowhere;

impl Connect for Nowhere {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>> {
        Box::pin(pending())
    }
}

/// One dial at a time, and its failure is for all requests that waited for it.
#[tokio::test(start_paused = true)]
async fn a_dial_that_fails_fails_for_all_who_wait() {
    let address = ([10, 0, 0, 1], 80).into();
    let upstream = Arc::new(Upstream::new(address, Protocol::H2c, Arc::new(Nowhere)));
    let begun = Instant::now();
    let attempt = async || upstream.send(Request::new(Upload::Empty), &mut || {}).await;
    let sent = join_all((0..10).map(|_| attempt())).await;
    assert!(sent.iter().all(|sent| matches!(sent, Err(SendError::Unsent { .. }))));
    assert_eq!(begun.elapsed(), CONNECT_TIMEOUT);
    // No request waits for the dial any more: the next one begins anew.
    assert!(timeout(CONNECT_TIMEOUT / 2, attempt()).await.is_err());
    let begun = Instant::now();
    assert!(attempt().await.is_err());
    assert_eq!(begun.elapsed(), CONNECT_TIMEOUT);
}

/// Refuses a write, and only then shows the answer that it gave before.
struct Early(bool, &'static [u8]);

impl Connect for Early {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>> {
        let io = Self(self.0, self.1);
        Box::pin(async { Ok(Box::new(io) as BoxedIo) })
    }
}

impl AsyncRead for Early {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.0 {
            return Poll::Pending;
        }
        buffer.put_slice(std::mem::take(&mut self.1));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Early {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0 = true;
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A pod's answer before it closed counts, though nothing more can be written to it.
#[tokio::test(start_paused = true)]
async fn an_answer_is_read_after_a_write_was_refused() {
    let send = async |said: &'static str| {
        let pod = Early(false, said.as_bytes());
        let address = ([10, 0, 0, 1], 80).into();
        let upstream = Arc::new(Upstream::new(address, Protocol::Http1, Arc::new(pod)));
        let sent = upstream.send(Request::new(Upload::Empty), &mut || {}).await;
        sent.map(|(response, _)| response.status().as_u16())
    };
    let said = "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(send(said).await.unwrap(), 413);
    assert!(matches!(send("").await, Err(SendError::Lost { .. })));
}
