//! A stream of events whose response began while its request still waits for a pod.
//!
//! Proxies and load balancers cut connections on which nothing comes, many after 15 to 60 seconds.
//! Until the pod has answered, the client gets notes: comments, which readers of events pass over, or
//! what it asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::error::BodyError;
use crate::progress::Progress;

/// Longest time without a byte: a third of the shortest that proxies are known to bear.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The body of such a response. The request goes on in a task of its own, which ends with the body:
/// whatever the client reads or does not read, the request keeps its deadlines until its pod has
/// answered. From then on it is as with any response.
pub(crate) struct EventBody<B> {
    state: State<B>,
    broken: Broken,
    /// Notes for an HTTP/2 client when a part is asked for and given.
    progress: Option<Arc<Progress>>,
}

enum State<B> {
    Waiting(AbortOnDropHandle<Rest<B>>, Pin<Box<Sleep>>, Note),
    Passing(B),
    Ended,
}

/// An event, or a comment, that says how far the wait is.
type Note = Box<dyn Fn() -> Bytes + Send + Sync>;

/// What ends a stream that breaks off.
type Broken = Box<dyn Fn(&BodyError) -> Bytes + Send + Sync>;

/// The rest of the stream.
pub(crate) enum Rest<B> {
    /// The events of a pod.
    Events(B),
    /// An event that tells of an error, with which the stream ends.
    Error(Bytes),
}

// === impl EventBody ===

impl<B> EventBody<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    /// A stream that begins at once with a note, and goes on with what `rest` brings.
    pub(crate) fn new(
        rest: AbortOnDropHandle<Rest<B>>,
        note: Note,
        broken: Broken,
        progress: Option<Arc<Progress>>,
    ) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        Self { state: State::Waiting(rest, timer, note), broken, progress }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Waiting(..) => false,
            State::Passing(body) => body.is_end_stream(),
            State::Ended => true,
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let State::Waiting(rest, timer, note) = &mut self.state {
            if let Some(progress) = &self.progress {
                progress.asked();
            }
            match Pin::new(rest).poll(cx) {
                Poll::Pending => {
                    std::task::ready!(timer.as_mut().poll(cx));
                    timer.as_mut().reset(Instant::now() + SILENCE_MAX);
                    let note = note();
                    return self.give(note);
                }
                Poll::Ready(Ok(Rest::Events(body))) => self.state = State::Passing(body),
                Poll::Ready(Ok(Rest::Error(event))) => {
                    self.state = State::Ended;
                    return self.give(event);
                }
                Poll::Ready(Err(_)) => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(BodyError::Lost)));
                }
            }
        }
        let State::Passing(body) = &mut self.state else {
            return Poll::Ready(None);
        };
        match std::task::ready!(Pin::new(body).poll_frame(cx)) {
            Some(Err(error)) => {
                tracing::info!(%error, "A stream of events broke off");
                self.state = State::Ended;
                self.give((self.broken)(&error))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn give(&self, part: Bytes) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(progress) = &self.progress {
            progress.gave(part.len());
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }
}

impl<B> std::fmt::Debug for EventBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waits = matches!(self.state, State::Waiting(..));
        f.debug_struct("EventBody").field("waits", &waits).finish_non_exhaustive()
    }
}
