//! Request bodies: as the client sends them, unless it sends too slowly.
//!
//! A body is timed only while its next part is asked for: a pod that does not read does not make
//! its client slow.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::budget::Share;
use crate::pace::{Pace, Timer};

mod kept;
mod whole;

use kept::Again;
pub(crate) use kept::{KEPT_AT_ONCE, KeptUpload};
pub(crate) use whole::Whole;

/// Content types whose bodies are streams of messages: they come when there is something to say.
const STREAMS: &str = "application/grpc";

/// The body of a request on its way to a pod.
#[derive(Debug)]
pub(crate) enum Upload {
    /// The client's body as it comes. Most requests have none, and only those that do have a watch.
    Client(Incoming, Option<Box<UploadWatch>>),
    /// One of which the beginning is kept.
    Kept(KeptUpload),
    /// One that was taken back, from its beginning.
    Again(Box<Again>),
    /// One that was read to its end.
    Whole(Whole),
    /// No body: for a request that is sent a second time.
    Empty,
}

/// Watches over a body.
#[derive(Debug)]
pub(crate) struct UploadWatch {
    pace: Pace,
    timer: Timer,
    state: Arc<UploadState>,
    share: Option<Share>,
}

/// State of an upload that its body and its request share.
#[derive(Debug)]
pub(crate) struct UploadState {
    timed: AtomicBool,
    slow: AtomicBool,
    broken: AtomicBool,
}

/// Why a body stopped early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// It came too slowly.
    #[error("the request's body came too slowly")]
    Slow,
    /// The client broke off.
    #[error("the client broke off its request")]
    Client(#[source] hyper::Error),
    /// It is sent to somebody else instead.
    #[error("the request's body was taken back")]
    TakenBack,
}

// === impl Upload ===

impl Upload {
    /// The same request with its body watched. The body of a peer's request is not timed here: the
    /// activator that has the client times it.
    pub(crate) fn watch(request: Request<Incoming>, is_timed: bool) -> Request<Self> {
        let (head, body) = request.into_parts();
        let watch = (!body.is_end_stream()).then(|| {
            let timed = AtomicBool::new(is_timed && !is_stream(&head.headers));
            let state = Arc::new(UploadState { timed, slow: false.into(), broken: false.into() });
            Box::new(UploadWatch { pace: Pace::new(), timer: Timer::default(), state, share: None })
        });
        Request::from_parts(head, Self::Client(body, watch))
    }

    /// The state that is shared with the body; `None` when there is no body.
    pub(crate) fn state(&self) -> Option<Arc<UploadState>> {
        match self {
            Self::Client(_, Some(watch)) => Some(Arc::clone(&watch.state)),
            Self::Kept(kept) => kept.with(|upload| upload.state()).flatten(),
            Self::Again(again) => again.rest().state(),
            Self::Whole(whole) => Some(whole.state()),
            Self::Client(_, None) | Self::Empty => None,
        }
    }

    /// Its watch, if it is watched and at hand here.
    fn watched(&mut self) -> Option<&mut UploadWatch> {
        match self {
            Self::Client(_, watch) => watch.as_deref_mut(),
            Self::Again(again) => again.rest_mut().watched(),
            Self::Kept(_) | Self::Whole(_) | Self::Empty => None,
        }
    }

    /// The client has to send at some pace, whatever it sends.
    pub(crate) fn time(&self) {
        if let Some(state) = self.state() {
            state.timed.store(true, Ordering::Relaxed);
        }
    }

    /// Begins anew to time the client.
    fn restart(&mut self) {
        if let Some(watch) = self.watched() {
            (watch.pace, watch.timer) = (Pace::new(), Timer::default());
        }
    }

    /// Holds `share` until the body has ended or is dropped.
    pub(crate) fn hold(&mut self, share: Share) {
        if let Self::Kept(kept) = self {
            kept.with(|upload| upload.hold(share));
        } else if let Some(watch) = self.watched() {
            watch.share = Some(share);
        }
    }

    /// A pod reads the body from now on.
    pub(crate) fn passes(&mut self) {
        if let Self::Kept(kept) = self {
            kept.with(Self::passes);
        } else if let Self::Whole(whole) = self {
            whole.passes();
        } else if let Some(share) = self.watched().and_then(|watch| watch.share.as_mut()) {
            share.passes();
        }
    }

    /// The same body once more, if it was read to its end before.
    pub(crate) fn copy(&self) -> Option<Self> {
        match self {
            Self::Whole(whole) => Some(Self::Whole(whole.clone())),
            Self::Client(..) | Self::Kept(_) | Self::Again(_) | Self::Empty => None,
        }
    }

    /// Whether it holds a share.
    pub(crate) fn holds(&self) -> bool {
        match self {
            Self::Client(_, watch) => watch.as_ref().is_some_and(|watch| watch.share.is_some()),
            Self::Kept(kept) => kept.with(|upload| upload.holds()).unwrap_or(false),
            Self::Again(again) => again.rest().holds(),
            Self::Whole(_) => true,
            Self::Empty => false,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let (body, watch) = match self.get_mut() {
            Self::Client(body, watch) => (body, watch),
            Self::Kept(kept) => return kept.poll(cx),
            Self::Again(again) => return again.poll(cx),
            Self::Whole(whole) => return Poll::Ready(whole.take().map(Ok)),
            Self::Empty => return Poll::Ready(None),
        };
        let polled = Pin::new(body).poll_frame(cx);
        let Some(watch) = watch else {
            return polled.map_err(UploadError::Client);
        };
        match polled {
            Poll::Pending if watch.is_late(cx) => Poll::Ready(Some(Err(UploadError::Slow))),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                watch.pace.moved(bytes);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(ended) => {
                watch.share = None;
                if ended.is_some() {
                    watch.state.broken.store(true, Ordering::Relaxed);
                }
                Poll::Ready(ended.map(|frame| frame.map_err(UploadError::Client)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(body, _) => body.is_end_stream(),
            Self::Kept(kept) => kept.with(|upload| upload.is_end_stream()).unwrap_or(false),
            Self::Again(again) => again.is_end_stream(),
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(body, _) => body.size_hint(),
            Self::Kept(kept) => kept.with(|upload| upload.size_hint()).unwrap_or_default(),
            Self::Again(again) => again.size_hint(),
            Self::Whole(whole) => whole.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

// === impl UploadWatch ===

impl UploadWatch {
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.state.timed.load(Ordering::Relaxed) {
            return false;
        }
        let deadline = self.pace.wait(Instant::now());
        let late = self.timer.poll(cx, deadline).is_ready();
        if late {
            self.state.slow.store(true, Ordering::Relaxed);
        }
        late
    }
}

// === impl UploadState ===

impl UploadState {
    /// The pod has begun to answer: the two may talk to each other for as long as they like.
    pub(crate) fn answered(&self) {
        self.timed.store(false, Ordering::Relaxed);
    }

    /// Whether it was broken off because it came too slowly.
    pub(crate) fn was_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// Whether the client broke it off.
    pub(crate) fn was_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(STREAMS.as_bytes()))
}
