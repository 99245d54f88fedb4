//! Pods that answer before they have read the whole request, and close.
//!
//! Their kernel refuses the rest of the body with a reset. hyper takes a failed write for the end
//! of the exchange, and the pod's answer would be lost unread. So a write that fails because the
//! other end no longer reads waits instead, and reading decides: it comes to the answer or to the
//! end of the connection. At that end the write fails after all, because a tunnel writes and reads
//! independently.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection to a pod that is read to its end even if it cannot be written to any more.
#[derive(Debug)]
pub(super) struct PodIo<I> {
    inner: I,
    writing: Writing,
    /// Whether there is nothing more to read. A pod may end its side of the stream and go on
    /// reading.
    is_over: bool,
    /// The task that waits to write, since a write was refused.
    writer: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// The pod had properly ended its side of the stream, or nothing is known of that.
    Ended,
    /// The pod broke off without a proper end. Linux reports an error once: after the write has got
    /// it, the reading side would see a proper end, and take half a response for a whole one.
    Reset,
}

// === impl PodIo ===

impl<I> PodIo<I> {
    pub(super) const fn new(inner: I) -> Self {
        Self { inner, writing: Writing::Open, is_over: false, writer: None }
    }

    /// Writes with `write`, unless the other end no longer reads.
    fn attempt(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut I>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>>
    where
        I: Unpin,
    {
        if self.writing == Writing::Open {
            let done = write(Pin::new(&mut self.inner), cx);
            let kind = match &done {
                Poll::Ready(Err(error)) => error.kind(),
                _ => return done,
            };
            self.writing = match kind {
                ErrorKind::BrokenPipe => Writing::Ended,
                ErrorKind::ConnectionReset => Writing::Reset,
                _ => return done,
            };
            // The task that drives the connection has looked for an answer before this write, so it
            // must look again.
            cx.waker().wake_by_ref();
        }
        if self.is_over {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for PodIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let done = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let is_end = match &done {
            Poll::Ready(Ok(())) => room > 0 && buffer.filled().len() == before,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if !is_end {
            return done;
        }
        // A tunnel reads no more after the end, so a write that is refused later looks at this.
        self.is_over = true;
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        match done {
            Poll::Ready(Ok(())) if self.writing == Writing::Reset => {
                Poll::Ready(Err(ErrorKind::ConnectionReset.into()))
            }
            done => done,
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for PodIo<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.attempt(cx, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.attempt(cx, |inner, cx| inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional, duplex};
    use tokio::time::{sleep, timeout};

    use super::*;

    /// What Linux shows of a pod that sent `said`, took `takes` writes and refused the rest with
    /// `error`.
    struct Refusing {
        said: VecDeque<u8>,
        takes: usize,
        error: ErrorKind,
    }

    impl Refusing {
        fn new(said: &[u8], takes: usize, error: ErrorKind) -> PodIo<Self> {
            PodIo::new(Self { said: said.to_vec().into(), takes, error })
        }
    }

    impl AsyncRead for Refusing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let said: Vec<_> = self.said.drain(..).collect();
            buffer.put_slice(&said);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Refusing {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let Some(left) = self.takes.checked_sub(1) else {
                return Poll::Ready(Err(self.error.into()));
            };
            self.takes = left;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn after_a_write(error: ErrorKind) -> (String, io::Result<usize>) {
        let mut io = Refusing::new(b"half", 0, error);
        let pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_write(cx, b"more"))).await;
        assert!(pending.is_pending());
        let mut buffer = [0; 16];
        let read = io.read(&mut buffer).await.unwrap();
        let said = String::from_utf8_lossy(&buffer[..read]).into_owned();
        (said, io.read(&mut buffer).await)
    }

    #[tokio::test]
    async fn what_a_pod_said_is_read_and_a_reset_is_no_proper_end() {
        let (said, end) = after_a_write(ErrorKind::BrokenPipe).await;
        assert_eq!((said.as_str(), end.unwrap()), ("half", 0));
        let (said, end) = after_a_write(ErrorKind::ConnectionReset).await;
        assert_eq!((said.as_str(), end.unwrap_err().kind()), ("half", ErrorKind::ConnectionReset));
        let mut other = Refusing::new(b"", 0, ErrorKind::TimedOut);
        assert_eq!(other.write(b"more").await.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    /// A tunnel whose pod is gone ends, although its client sends on and on.
    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_with_what_is_read_of_a_pod_that_refused_a_write() {
        // The second case is a pod that closed: its kernel takes the first writes, and its end is
        // read before any write is refused.
        for takes in [0, 3] {
            let mut pod = Refusing::new(b"half", takes, ErrorKind::BrokenPipe);
            let (mut client, mut ours) = duplex(64);
            let talking = tokio::spawn(async move {
                while client.write_all(b"more").await.is_ok() {
                    sleep(Duration::from_millis(10)).await;
                }
            });
            let tunnel = copy_bidirectional(&mut ours, &mut pod);
            let end = timeout(Duration::from_secs(1), tunnel).await.expect("the tunnel ends");
            assert_eq!(end.unwrap_err().kind(), ErrorKind::BrokenPipe);
            talking.abort();
        }
    }
}
