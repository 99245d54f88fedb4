//! Whether the client of an HTTP/2 stream takes its response.
//!
//! hyper asks a body for the next part only once the client's window had room for the one before. A
//! client that gives no window, and answers pings, would hold its pod's slot for ever: hyper does
//! not call the body any more. The runtime still polls the task of the stream, which this module's
//! executor wraps.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::rt::Executor;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use crate::pace::{Pace, Timer};

/// Most that a body gives at once to an HTTP/2 client: a frame. A larger part that waits for its
/// window would be timed as a whole.
pub(crate) const PART_BYTES_MAX: usize = 16 * 1024;

tokio::task_local! {
    static STREAM: Arc<Progress>;
}

/// How the client of one stream takes its response.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    pace: Pace,
    /// Bytes that were given to hyper, until it asks for more.
    given: Option<usize>,
}

/// Runs the streams of HTTP/2 connections and ends those whose client does not take its response:
/// the stream is reset, and its slot in a pod is free.
#[derive(Debug, Clone)]
pub(crate) struct StreamExecutor {
    /// Streams that were ended.
    pub(crate) cut: Counter,
}

// === impl Progress ===

impl Progress {
    /// The progress of the stream whose task this is; `None` in HTTP/1, where the connection is
    /// watched.
    pub(crate) fn current() -> Option<Arc<Self>> {
        STREAM.try_with(Arc::clone).ok()
    }

    /// Runs a part of a stream's work that has a task of its own as that of the stream.
    pub(crate) async fn scope<T>(progress: Option<Arc<Self>>, work: impl Future<Output = T>) -> T {
        match progress {
            Some(progress) => STREAM.scope(progress, work).await,
            None => work.await,
        }
    }

    /// The next part is asked for: the one before was taken.
    pub(crate) fn asked(&self) {
        let mut state = self.0.lock();
        if let Some(bytes) = state.given.take() {
            state.pace.moved(bytes);
        }
    }

    /// A part is given.
    pub(crate) fn gave(&self, bytes: usize) {
        self.0.lock().given = Some(bytes);
    }

    /// The time by which the part that was given must be taken, if there is one.
    fn deadline(&self) -> Option<Instant> {
        let mut state = self.0.lock();
        state.given?;
        Some(state.pace.wait(Instant::now()))
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self(Mutex::new(State { pace: Pace::new(), given: None }))
    }
}

// === impl StreamExecutor ===

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
{
    /// The task ends with its stream, and so with the connection.
    fn execute(&self, stream: F) {
        let progress = Arc::new(Progress::default());
        let (watched, cut) = (Arc::clone(&progress), self.cut.clone());
        let task = async move {
            let (mut stream, mut timer) = (pin!(stream), Timer::default());
            poll_fn(|cx| {
                if stream.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                let Some(deadline) = watched.deadline() else {
                    return Poll::Pending;
                };
                timer.poll(cx, deadline).map(|()| {
                    cut.inc();
                })
            })
            .await;
        };
        tokio::spawn(STREAM.scope(progress, task));
    }
}
