//! Time limits on what a client does with its connection: heads that do not come, silence, and
//! responses that are not read.
//!
//! hyper can time a request head, but pays a timer and an allocation for it at every request, and
//! counts an idle connection as a slow head. Here one timer serves a connection for its life: it
//! is moved only when it fires or must fire earlier.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Longest time for a request head, from its first byte (slow loris).
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence between two requests. Longer than the keep-alive of common load balancers (60 s
/// at AWS, 600 s at the most), so that they close first and never lose a request to the race.
const IDLE_TIMEOUT: Duration = Duration::from_secs(620);
/// Longest time without the client taking a single byte that waits for it: a zero window must not
/// hold a slot in a pod.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How HTTP/2 begins; its connections carry frames that are no heads.
const H2_PREFACE: &[u8] = b"PRI ";

/// What the requests of a connection tell its guard.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    begun: AtomicU32,
    busy: AtomicU32,
}

/// A request that is not done yet.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

/// A client's connection under guard.
#[derive(Debug)]
pub(crate) struct GuardedIo<I> {
    inner: I,
    activity: Arc<Activity>,
    /// When the head that is being read began, and how many requests had begun then.
    head: Option<(Instant, u32)>,
    fresh: bool,
    h2: bool,
    last: Instant,
    stalled: Option<Instant>,
    read_timer: Timer,
    write_timer: Timer,
}

#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

// === impl Activity ===

impl Activity {
    /// A request head is complete.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Timer ===

impl Timer {
    /// Ready once `deadline` has passed.
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

// === impl GuardedIo ===

impl<I> GuardedIo<I> {
    pub(crate) fn new(inner: I, activity: Arc<Activity>, now: Instant) -> Self {
        Self {
            inner,
            activity,
            head: Some((now, 0)),
            fresh: true,
            h2: false,
            last: now,
            stalled: None,
            read_timer: Timer::default(),
            write_timer: Timer::default(),
        }
    }

    fn received(&mut self, bytes: &[u8]) {
        self.last = Instant::now();
        if std::mem::take(&mut self.fresh) {
            self.h2 = bytes.starts_with(H2_PREFACE);
        } else if self.head.is_none() && self.activity.busy.load(Ordering::Relaxed) == 0 {
            self.head = Some((self.last, self.activity.begun.load(Ordering::Relaxed)));
        }
        if self.h2 {
            self.head = None;
        }
    }

    /// Until when the client must have sent something.
    fn read_deadline(&mut self) -> Option<Instant> {
        let begun = self.activity.begun.load(Ordering::Relaxed);
        if self.head.is_some_and(|(_, before)| before != begun) {
            self.head = None;
        }
        if self.activity.busy.load(Ordering::Relaxed) > 0 {
            return None;
        }
        Some(match self.head {
            Some((since, _)) => since + HEAD_TIMEOUT,
            None => self.last + IDLE_TIMEOUT,
        })
    }

    fn wrote(&mut self, cx: &mut Context<'_>, done: &Poll<io::Result<usize>>) -> Poll<()> {
        if done.is_ready() {
            self.stalled = None;
            return Poll::Pending;
        }
        let since = *self.stalled.get_or_insert_with(Instant::now);
        self.write_timer.poll(cx, since + STALL_TIMEOUT)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for GuardedIo<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buffer) {
            Poll::Pending => match this.read_deadline() {
                Some(deadline) if this.read_timer.poll(cx, deadline).is_ready() => {
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
                _ => Poll::Pending,
            },
            done @ Poll::Ready(_) => {
                let bytes = &buffer.filled()[before..];
                if !bytes.is_empty() {
                    this.received(bytes);
                }
                done
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for GuardedIo<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_write(cx, bytes);
        if this.wrote(cx, &done).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        done
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        if this.wrote(cx, &done).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        done
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
