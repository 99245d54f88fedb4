//! A body whose beginning is kept until it is known that whoever gets it can use it.
//!
//! Another activator may refuse a request before it has looked at the body: it has not yet heard of
//! the revision. By then the body is on its way, and is taken back for another try.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::{Upload, UploadError};

/// Most bytes of a body that are kept, with the room that each piece of it takes: as much as the
/// buffers of a hop commonly hold, for an activator that refuses a request reads nothing.
pub(crate) const KEPT_BYTES_MAX: usize = 256 * 1024;
/// Bodies whose beginnings are kept at once in this process: 64 MiB, for two seconds. A body beyond
/// them goes on its way unkept.
pub(crate) const KEPT_AT_ONCE: usize = 256;
/// How long a beginning is kept. An activator that has not heard of a revision waits half a second
/// for news before it refuses the request; one that takes it may let it wait for minutes.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(2);

/// A body on its way, and its beginning. Clones are the same body.
#[derive(Debug, Clone)]
pub(crate) struct KeptUpload(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// `None` once it was taken back.
    upload: Option<Upload>,
    /// What was read of it; `None` when it is not kept any more.
    begun: Option<Begun>,
    bytes: usize,
    until: Instant,
}

/// The beginning of a body.
#[derive(Debug)]
struct Begun {
    pieces: VecDeque<Bytes>,
    /// What came after the last piece, if the body has come to its end so.
    trailers: Option<HeaderMap>,
    _place: OwnedSemaphorePermit,
}

/// A body that begins again.
#[derive(Debug)]
pub(crate) struct Again {
    pieces: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// Whether all of it was read: it had trailers, and nothing comes after them.
    is_whole: bool,
    rest: Upload,
}

// === impl KeptUpload ===

impl KeptUpload {
    /// Keeps the beginning of `upload` from now on, in one of [`KEPT_AT_ONCE`] places.
    pub(crate) fn new(upload: Upload, place: OwnedSemaphorePermit, now: Instant) -> Self {
        let begun = Some(Begun { pieces: VecDeque::new(), trailers: None, _place: place });
        let state = State { upload: Some(upload), begun, bytes: 0, until: now + KEPT_FOR };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The body on its way.
    pub(crate) fn upload(&self) -> Upload {
        Upload::Kept(self.clone())
    }

    /// Waits for whoever gets the body, and keeps its beginning, or the copy of the whole of it, for
    /// [`KEPT_FOR`] at the most.
    pub(crate) async fn during<T>(
        kept: Option<&Self>,
        copy: &mut Option<Upload>,
        sent: impl Future<Output = T>,
    ) -> T {
        let until = match (kept, &copy) {
            (None, None) => return sent.await,
            (Some(kept), _) => kept.0.lock().until,
            (None, Some(_)) => Instant::now() + KEPT_FOR,
        };
        let mut sent = std::pin::pin!(sent);
        if let Ok(outcome) = timeout_at(until, sent.as_mut()).await {
            return outcome;
        }
        kept.inspect(|kept| kept.arrived());
        *copy = None;
        sent.await
    }

    /// Whoever has the body can use it: its beginning need not be kept.
    pub(crate) fn arrived(&self) {
        self.0.lock().begun = None;
    }

    /// The whole body again; `None` if its beginning is not kept any more. Whoever still reads the
    /// body gets an error.
    pub(crate) fn take_back(&self) -> Option<Upload> {
        let mut state = self.0.lock();
        let Begun { pieces, trailers, .. } = state.begun.take()?;
        let mut rest = state.upload.take()?;
        // Until somebody asks for the next part, the client is not late.
        rest.restart();
        let is_whole = trailers.is_some();
        if pieces.is_empty() && !is_whole {
            return Some(rest);
        }
        Some(Upload::Again(Box::new(Again { pieces, trailers, is_whole, rest })))
    }

    /// Does something with the body, if it was not taken back.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Upload) -> T) -> Option<T> {
        self.0.lock().upload.as_mut().map(look)
    }

    pub(super) fn poll(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let mut state = self.0.lock();
        let Some(upload) = &mut state.upload else {
            return Poll::Ready(Some(Err(UploadError::TakenBack)));
        };
        let polled = Pin::new(upload).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => state.keep(frame),
            Poll::Ready(Some(Err(_))) => state.begun = None,
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }
}

impl State {
    /// Keeps what was read.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let size = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => data.len(),
            (None, Some(trailers)) => size_of_fields(trailers),
            (None, None) => 0,
        };
        self.bytes += size + size_of::<Bytes>();
        let is_kept = self.bytes <= KEPT_BYTES_MAX && Instant::now() < self.until;
        let Some(begun) = self.begun.as_mut().filter(|_| is_kept) else {
            self.begun = None;
            return;
        };
        begun.pieces.extend(frame.data_ref().cloned());
        begun.trailers = frame.trailers_ref().cloned();
    }
}

/// The room that fields take: their bytes, and what a map needs for each.
fn size_of_fields(fields: &HeaderMap) -> usize {
    let each = 2 * size_of::<Bytes>();
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + each).sum()
}

// === impl Again ===

impl Again {
    pub(super) const fn rest(&self) -> &Upload {
        &self.rest
    }

    pub(super) const fn rest_mut(&mut self) -> &mut Upload {
        &mut self.rest
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let data = self.pieces.pop_front().map(Frame::data);
        match data.or_else(|| self.trailers.take().map(Frame::trailers)) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.is_whole => Poll::Ready(None),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let is_read = self.pieces.is_empty() && self.trailers.is_none();
        is_read && (self.is_whole || self.rest.is_end_stream())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let begun: u64 = self.pieces.iter().map(|data| data.len() as u64).sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(begun + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(begun + upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use http_body_util::BodyExt as _;

    use super::*;

    fn place() -> OwnedSemaphorePermit {
        Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap()
    }

    /// Whoever waits at the owner for minutes holds nothing here meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_beginning_is_given_up_although_nobody_reads_on() {
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        let small = vec![Bytes::from_static(b"all")];
        let kept = KeptUpload::new(body(small).await, place, Instant::now());
        read(&mut kept.upload(), 3).await;
        let answer = tokio::time::sleep(KEPT_FOR * 2);
        let mut none = None;
        let ((), free) = tokio::join!(KeptUpload::during(Some(&kept), &mut none, answer), async {
            tokio::time::sleep(KEPT_FOR + Duration::from_millis(1)).await;
            places.available_permits()
        });
        assert_eq!(free, 1);
        assert!(kept.take_back().is_none());
    }

    /// A body of chunks, as a client sends it.
    async fn body(chunks: Vec<Bytes>) -> Upload {
        body_with(chunks, None).await
    }

    async fn body_with(chunks: Vec<Bytes>, trailers: Option<HeaderMap>) -> Upload {
        let (near, far) = tokio::io::duplex(1 << 20);
        let sent = http_body_util::StreamBody::new(futures::stream::iter(
            chunks
                .into_iter()
                .map(Frame::data)
                .chain(trailers.map(Frame::trailers))
                .map(Ok::<_, std::convert::Infallible>),
        ));
        let (given, taken) = tokio::sync::oneshot::channel();
        let given = Mutex::new(Some(given));
        let service = hyper::service::service_fn(move |request| {
            if let Some(given) = given.lock().take() {
                drop(given.send(Upload::watch(request, false)));
            }
            std::future::pending::<Result<http::Response<String>, std::convert::Infallible>>()
        });
        let io = hyper_util::rt::TokioIo::new(far);
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        let io = hyper_util::rt::TokioIo::new(near);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("/").header("trailer", "x-sum").body(sent).unwrap();
        tokio::spawn(async move { sender.send_request(request).await });
        taken.await.unwrap().into_body()
    }

    async fn read(upload: &mut Upload, most: usize) -> usize {
        let read = AtomicUsize::new(0);
        while read.load(Ordering::Relaxed) < most {
            let Some(frame) = upload.frame().await else { break };
            let length = frame.unwrap().into_data().unwrap().len();
            read.fetch_add(length, Ordering::Relaxed);
        }
        read.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_taken_back_begins_again() {
        for most in [0, 1, 30, 60] {
            let chunks = (0..6_u8).map(|at| Bytes::from(vec![at; 10])).collect();
            let kept = KeptUpload::new(body(chunks).await, place(), Instant::now());
            let mut first = kept.upload();
            let read = read(&mut first, most).await;
            assert!(read >= most);
            let mut again = kept.take_back().unwrap();
            assert!(matches!(first.frame().await, Some(Err(UploadError::TakenBack))));
            assert!(!again.is_end_stream());
            let mut whole = Vec::new();
            while let Some(frame) = again.frame().await {
                whole.extend(frame.unwrap().into_data().unwrap());
            }
            let expected: Vec<u8> = (0..6).flat_map(|at| [at; 10]).collect();
            assert_eq!(whole, expected, "after {read} bytes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_taken_back_has_its_trailers() {
        let sum = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sum"),
            http::HeaderValue::from_static("7"),
        )]);
        for chunks in [vec![], vec![Bytes::from_static(b"all")]] {
            let kept = KeptUpload::new(
                body_with(chunks.clone(), Some(sum.clone())).await,
                place(),
                Instant::now(),
            );
            let first = kept.upload().collect().await.unwrap();
            assert_eq!(first.trailers(), Some(&sum), "it was read to its end");
            let mut again = kept.take_back().unwrap();
            assert!(!again.is_end_stream());
            let second = (&mut again).collect().await.unwrap();
            assert_eq!(second.trailers(), Some(&sum));
            assert_eq!(second.to_bytes(), chunks.concat());
            assert!(again.is_end_stream());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_beginning_is_kept_up_to_a_bound_and_for_a_while() {
        let large = || vec![Bytes::from(vec![b'x'; KEPT_BYTES_MAX]), Bytes::from_static(b"more")];
        let kept = KeptUpload::new(body(large()).await, place(), Instant::now());
        read(&mut kept.upload(), KEPT_BYTES_MAX + 4).await;
        assert!(kept.take_back().is_none(), "it is too large");
        let kept = KeptUpload::new(body(large()).await, place(), Instant::now());
        tokio::time::sleep(KEPT_FOR).await;
        read(&mut kept.upload(), 1).await;
        assert!(kept.take_back().is_none(), "it is too late");
        let kept = KeptUpload::new(body(large()).await, place(), Instant::now());
        kept.arrived();
        assert!(kept.take_back().is_none(), "it has arrived");
        assert!(!matches!(kept.upload().frame().await, Some(Err(_))), "and goes on");
    }
}
