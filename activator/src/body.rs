//! Response bodies: a pod's, streamed as it comes, or a short one of our own.
//!
//! A pod's body holds the request's place in the pod: it is given back when the body has ended or
//! is dropped, not when the head has arrived. A body that must stop early ends in an error, so that
//! the connection or stream is aborted; a truncated response never looks complete.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::account::Tally;
use crate::guard::Busy;
use crate::progress::{PART_BYTES_MAX, Progress};
use crate::upstream::Lease;
use crate::visit::Stay;

mod error;
mod events;
mod tallied;

pub use error::BodyError;
pub(crate) use events::{EventBody, Rest, SILENCE_MAX};
use tallied::TalliedBody;

/// The body of a response to a client.
#[derive(Debug)]
pub struct ProxyBody(Kind);

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "bodies of our own are rare, and a box would be paid by all others"
)]
enum Kind {
    Local(Option<Bytes>),
    Pod(PodBody),
    Events(Box<EventBody<ProxyBody>>),
    Tallied(Box<TalliedBody<ProxyBody>>),
}

/// A body from a pod, with everything that ends when it ends.
struct PodBody {
    inner: Incoming,
    lease: Option<Lease>,
    stay: Stay,
    /// Tells the connection's guard that a request is under way.
    _busy: Busy,
    /// Splits the body into frames for an HTTP/2 client; `None` in HTTP/1.
    frames: Option<Box<Frames>>,
    /// The longest pause between two frames; `last` is when the last one came.
    idle: Option<Duration>,
    last: Instant,
    /// Made only when there is something to wait for: most bodies come with their heads.
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

/// A body in parts that fit into frames.
struct Frames {
    /// Notes when a frame is asked for and given.
    progress: Arc<Progress>,
    /// The rest of a part that is too long for one frame.
    rest: Bytes,
}

// === impl ProxyBody ===

impl ProxyBody {
    /// A short body of our own.
    pub const fn local(bytes: Bytes) -> Self {
        Self(Kind::Local(Some(bytes)))
    }

    /// No body.
    pub const fn empty() -> Self {
        Self(Kind::Local(None))
    }

    /// The same body, no longer read for the client of an HTTP/2 stream.
    pub(crate) fn apart(mut self) -> Self {
        if let Kind::Pod(body) = &mut self.0 {
            body.frames = None;
        }
        self
    }

    /// The same body, read as it passes.
    pub(crate) fn tallied(self, tally: Tally) -> Self {
        Self(Kind::Tallied(Box::new(TalliedBody::new(self, tally))))
    }

    /// The body of a pod's response, which may pause for `idle` between two frames. `lease` goes
    /// back to its pool and `stay` ends with it.
    pub(crate) fn from_pod(
        inner: Incoming,
        lease: Lease,
        (stay, busy): (Stay, Busy),
        idle: Option<Duration>,
        progress: Option<Arc<Progress>>,
    ) -> Self {
        let lease = Some(lease);
        Self(Kind::Pod(PodBody {
            inner,
            lease,
            stay,
            _busy: busy,
            frames: progress.map(|progress| Box::new(Frames { progress, rest: Bytes::new() })),
            idle,
            last: Instant::now(),
            timer: None,
            ended: false,
        }))
    }
}

impl From<EventBody<Self>> for ProxyBody {
    fn from(body: EventBody<Self>) -> Self {
        Self(Kind::Events(Box::new(body)))
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Kind::Local(bytes) => {
                let part = bytes.take();
                // An HTTP/2 client may give no room for it.
                if let (Some(part), Some(progress)) = (&part, Progress::current()) {
                    progress.gave(part.len());
                }
                Poll::Ready(part.map(|part| Ok(Frame::data(part))))
            }
            Kind::Pod(body) => body.poll_frame(cx),
            Kind::Events(body) => body.poll_frame(cx),
            Kind::Tallied(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Local(bytes) => bytes.is_none(),
            Kind::Pod(body) => {
                body.inner.is_end_stream() && body.frames.as_ref().is_none_or(|f| f.rest.is_empty())
            }
            Kind::Events(body) => body.is_end_stream(),
            Kind::Tallied(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Local(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Kind::Pod(body) => body.inner.size_hint(),
            Kind::Events(_) => SizeHint::default(),
            Kind::Tallied(body) => body.inner.size_hint(),
        }
    }
}

// === impl PodBody ===

impl PodBody {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(frames) = &mut self.frames else {
            return self.poll_pod(cx);
        };
        frames.progress.asked();
        let mut data = std::mem::take(&mut frames.rest);
        if data.is_empty() {
            match ready!(self.poll_pod(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(next)) => data = next,
                Some(Err(other)) => return Poll::Ready(Some(Ok(other))),
                None => return Poll::Ready(None),
            }
        }
        let part = data.split_to(data.len().min(PART_BYTES_MAX));
        if let Some(frames) = &mut self.frames {
            frames.progress.gave(part.len());
            frames.rest = data;
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn poll_pod(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.stay.broken();
                Poll::Ready(Some(Err(BodyError::Pod(error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.last = Instant::now();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                let error = ready!(self.poll_timeout(cx));
                self.stay.broken();
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    /// Ready when the idle time has run out. The timer is moved only when it fires: a body of many
    /// parts would otherwise pay for a move at each part.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(idle) = self.idle else {
            return Poll::Pending;
        };
        let deadline = self.last + idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(BodyError::Idle);
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl std::fmt::Debug for PodBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodBody").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Drop for PodBody {
    fn drop(&mut self) {
        // Before the stay gives its slot back, so that the next request finds the connection.
        if let Some(lease) = self.lease.take()
            && (self.ended || self.inner.is_end_stream())
        {
            lease.keep();
        }
    }
}
