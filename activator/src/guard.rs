//! Time limits on what a client does with its connection: heads that do not come, silence, and
//! responses that are not read.
//!
//! hyper can time a request head, but pays a timer and an allocation for it at every request, and
//! counts an idle connection as a slow head. Here one timer serves a connection for its life: it
//! is moved only when it fires or must fire earlier.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::pace::{Pace, Timer};

mod frames;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod heads;

use frames::Frames;
use heads::Heads;

/// Longest time for a request head, from its first byte (slow loris).
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time until the first byte: browsers and load balancers open connections ahead of need.
const FRESH_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest silence between two requests. Longer than the keep-alive of common load balancers (60 s
/// at AWS, 600 s at the most), so that they close first and never lose a request to the race.
const IDLE_TIMEOUT: Duration = Duration::from_secs(620);
/// The preface of HTTP/2, whose connections also carry frames that are no heads.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The state that the requests of a connection share with its guard.
#[derive(Debug)]
pub(crate) struct Activity {
    born: Instant,
    begun: AtomicU32,
    busy: AtomicU32,
    /// When the last request ended, in milliseconds after `born`.
    ended: AtomicU64,
    /// Whether the head that came last gives the length of its body twice.
    ambiguous: AtomicBool,
}

/// A request that is not done yet.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

/// A client's connection under guard.
#[derive(Debug)]
pub(crate) struct GuardedIo<I> {
    inner: I,
    activity: Arc<Activity>,
    wire: Wire,
    /// When the head that is being read began, and its number.
    head: Option<(Instant, u32)>,
    last: Instant,
    read_timer: Timer,
    pace: Pace,
    write_timer: Timer,
    /// Asks the server to end an HTTP/2 connection in good order.
    quiet: Option<oneshot::Sender<()>>,
    /// Clients that took their responses too slowly.
    cut: Counter,
}

/// The protocol of a connection.
#[derive(Debug)]
enum Wire {
    /// Not known yet: so many bytes of HTTP/2's preface have come.
    Fresh(usize),
    Http1(Heads),
    Http2(Frames),
}

// === impl Activity ===

impl Activity {
    /// The activity of a connection that was made at `now`.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            born: now,
            begun: AtomicU32::new(0),
            busy: AtomicU32::new(0),
            ended: AtomicU64::new(0),
            ambiguous: AtomicBool::new(false),
        }
    }

    /// A request head is complete.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether the head of the request that has just begun can be read in two ways.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Relaxed)
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    fn ended(&self) -> Instant {
        self.born + Duration::from_millis(self.ended.load(Ordering::Relaxed))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // Stored before the count: a reader that sees no busy request must also see since when.
        let ended = u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended.store(ended, Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Release);
    }
}

// === impl GuardedIo ===

impl<I> GuardedIo<I> {
    /// Guards `inner`, which was accepted at `now`. `quiet` is told when an HTTP/2 connection has
    /// been idle for long; `cut` counts clients that take their responses too slowly.
    pub(crate) fn new(
        inner: I,
        activity: Arc<Activity>,
        now: Instant,
        quiet: oneshot::Sender<()>,
        cut: Counter,
    ) -> Self {
        Self {
            inner,
            activity,
            wire: Wire::Fresh(0),
            head: None,
            last: now,
            read_timer: Timer::default(),
            pace: Pace::new(),
            write_timer: Timer::default(),
            quiet: Some(quiet),
            cut,
        }
    }

    fn received(&mut self, bytes: &[u8]) {
        self.last = Instant::now();
        let begun = self.activity.begun.load(Ordering::Relaxed);
        let mut rest = bytes;
        if let Wire::Fresh(matched) = &mut self.wire {
            self.head.get_or_insert((self.last, begun));
            let wanted = &H2_PREFACE[*matched..];
            let length = wanted.len().min(bytes.len());
            if bytes[..length] == wanted[..length] {
                *matched += length;
                rest = &bytes[length..];
                if *matched == H2_PREFACE.len() {
                    self.wire = Wire::Http2(Frames::default());
                }
            } else {
                // The bytes that came before match the preface: no field's name has begun in them.
                self.wire = Wire::Http1(Heads::new());
            }
        }
        match &mut self.wire {
            Wire::Fresh(_) => {}
            Wire::Http1(heads) => {
                let open = self.head.is_some_and(|(_, before)| before == begun);
                if !open && !self.activity.is_busy() {
                    self.head = Some((self.last, begun));
                    *heads = Heads::new();
                }
                if self.head.is_some() {
                    heads.feed(rest);
                    let ambiguous = heads.is_ambiguous();
                    self.activity.ambiguous.store(ambiguous, Ordering::Relaxed);
                }
            }
            Wire::Http2(frames) => {
                frames.feed(rest);
                let open = frames.open_head();
                if open != self.head.map(|(_, number)| number) {
                    self.head = open.map(|number| (self.last, number));
                }
            }
        }
    }

    /// The time by which the client must have sent something, if there is a limit now.
    fn read_deadline(&mut self) -> Option<Instant> {
        let busy = self.activity.busy.load(Ordering::Acquire) > 0;
        let idle = self.activity.ended() + IDLE_TIMEOUT;
        match self.wire {
            Wire::Fresh(0) => return Some(self.last + FRESH_TIMEOUT),
            Wire::Fresh(_) => {}
            Wire::Http1(_) => {
                let begun = self.activity.begun.load(Ordering::Relaxed);
                if self.head.is_some_and(|(_, before)| before != begun) {
                    self.head = None;
                }
                if busy {
                    return None;
                }
            }
            // Even while requests are busy: nothing else can come before the rest of the head.
            Wire::Http2(_) if self.head.is_some() => {}
            Wire::Http2(_) if busy || self.quiet.is_none() => return None,
            // An answer to our ping is no request.
            Wire::Http2(_) => return Some(idle),
        }
        Some(match self.head {
            Some((since, _)) => since + HEAD_TIMEOUT,
            None => idle.max(self.last + IDLE_TIMEOUT),
        })
    }

    /// Whether the client has been silent for too long.
    fn is_silent(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.read_deadline() else {
            return false;
        };
        if self.read_timer.poll(cx, deadline).is_pending() {
            return false;
        }
        if matches!(self.wire, Wire::Http2(_)) && self.head.is_none() {
            // An HTTP/2 client is told that its connection ends, so that no request is lost to a
            // race.
            if let Some(quiet) = self.quiet.take() {
                let _server_is_gone = quiet.send(());
            }
            return false;
        }
        true
    }

    /// Whether the client takes the bytes that wait for it too slowly.
    fn is_stalled(&mut self, cx: &mut Context<'_>, done: &Poll<io::Result<usize>>) -> bool {
        match done {
            Poll::Ready(Ok(bytes)) => {
                self.pace.moved(*bytes);
                false
            }
            Poll::Ready(Err(_)) => false,
            Poll::Pending => {
                let deadline = self.pace.wait(Instant::now());
                let stalled = self.write_timer.poll(cx, deadline).is_ready();
                if stalled {
                    self.cut.inc();
                }
                stalled
            }
        }
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
            Poll::Pending if this.is_silent(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
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
        if this.is_stalled(cx, &done) {
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
        if this.is_stalled(cx, &done) {
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
