//! One connection: two wires, each with bytes on the way.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Name, Network};

/// Bytes that may be on their way in one direction: the buffers of both kernels.
const CAPACITY: usize = 64 * 1024;

/// One direction of a connection.
pub(super) struct Wire {
    from: Name,
    to: Name,
    chunks: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// When the writer has closed, as the reader sees it.
    end: Option<Instant>,
    /// Whether both ends learn that the connection is no more.
    is_reset: bool,
    has_reader: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// When the last bytes arrive: later ones do not overtake them.
    last: Instant,
}

/// One end of a connection.
pub(crate) struct Pipe {
    network: Network,
    incoming: Arc<Mutex<Wire>>,
    outgoing: Arc<Mutex<Wire>>,
    arrival: Option<Pin<Box<Sleep>>>,
}

/// Both ends of a new connection.
pub(super) fn pair(network: &Network, from: &Name, to: &Name) -> (Pipe, Pipe) {
    let (there, back) = (Wire::new(from, to), Wire::new(to, from));
    let pipe = |incoming: &Arc<_>, outgoing: &Arc<_>| Pipe {
        network: network.clone(),
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        arrival: None,
    };
    (pipe(&back, &there), pipe(&there, &back))
}

impl Wire {
    fn new(from: &Name, to: &Name) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            from: from.clone(),
            to: to.clone(),
            chunks: VecDeque::new(),
            bytes: 0,
            end: None,
            is_reset: false,
            has_reader: true,
            reader: None,
            writer: None,
            last: Instant::now(),
        }))
    }

    pub(super) fn joins(&self, one: &Name, other: &Name) -> bool {
        self.touches(one) && self.touches(other)
    }

    pub(super) fn touches(&self, name: &Name) -> bool {
        self.from == *name || self.to == *name
    }

    pub(super) fn reset(&mut self) {
        self.is_reset = true;
        self.chunks.clear();
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Pipe {
    pub(super) fn incoming(&self) -> Weak<Mutex<Wire>> {
        Arc::downgrade(&self.incoming)
    }

    /// When what is written now arrives.
    fn arrives(&self, wire: &mut Wire) -> Instant {
        let at = Instant::now() + self.network.delay(&wire.from, &wire.to);
        wire.last = wire.last.max(at);
        wire.last
    }

    /// Waits until `at`; ready at once if that is past.
    fn wait(&mut self, at: Instant, context: &mut Context<'_>) -> Poll<()> {
        if at <= Instant::now() {
            self.arrival = None;
            return Poll::Ready(());
        }
        let sleep = self.arrival.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(context)
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = Arc::clone(&self.incoming);
        let mut wire = shared.lock();
        if wire.is_reset {
            return Poll::Ready(Err(reset()));
        }
        wire.reader = Some(context.waker().clone());
        if !self.network.is_open(&wire.from, &wire.to)
            || self.network.is_paused(&wire.to, context.waker())
        {
            return Poll::Pending;
        }
        let Some(at) = wire.chunks.front().map(|(at, _)| *at).or(wire.end) else {
            return Poll::Pending;
        };
        ready!(self.wait(at, context));
        let Some((_, chunk)) = wire.chunks.front_mut() else {
            return Poll::Ready(Ok(()));
        };
        let length = chunk.len().min(buffer.remaining());
        buffer.put_slice(&chunk[..length]);
        chunk.advance(length);
        if chunk.is_empty() {
            wire.chunks.pop_front();
        }
        wire.bytes -= length;
        if let Some(writer) = wire.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.outgoing.lock();
        if wire.is_reset || !wire.has_reader || wire.end.is_some() {
            return Poll::Ready(Err(reset()));
        }
        if self.network.is_paused(&wire.from, context.waker()) {
            return Poll::Pending;
        }
        let room = CAPACITY - wire.bytes;
        if room == 0 {
            wire.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let length = bytes.len().min(room);
        let at = self.arrives(&mut wire);
        wire.chunks.push_back((at, Bytes::copy_from_slice(&bytes[..length])));
        wire.bytes += length;
        if let Some(reader) = wire.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.outgoing.lock();
        if wire.end.is_none() {
            let at = self.arrives(&mut wire);
            wire.end = Some(at);
        }
        wire.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut wire = self.outgoing.lock();
        if wire.end.is_none() {
            let at = self.arrives(&mut wire);
            wire.end = Some(at);
        }
        wire.wake();
        drop(wire);
        let mut wire = self.incoming.lock();
        wire.has_reader = false;
        wire.chunks.clear();
        wire.wake();
    }
}
