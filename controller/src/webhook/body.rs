//! Reading the body of a review: of a bounded length, within a bounded time, and out of one budget
//! of bytes for all bodies, so that incomplete reviews take nothing from complete ones.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Longest review: the API server takes objects of 3 MiB, and an update carries two of them.
pub(super) const REVIEW_BYTES_MAX: usize = 7 * 1024 * 1024;
/// Bytes of all reviews that are read or judged: a few of the longest.
pub(super) const REVIEWS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a body may take: an API server sends it at once.
const READ: Duration = Duration::from_secs(2);

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The body is longer than [`REVIEW_BYTES_MAX`].
    TooLong,
    /// The body took longer than [`READ`].
    Late,
    /// There was no room for the body within [`READ`].
    Crowded,
    /// The connection broke.
    Broken,
}

/// A body and its share of the budget; the share must be kept as long as the body.
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    pub(super) share: Option<OwnedSemaphorePermit>,
}

// === impl Refusal ===

impl Refusal {
    /// The outcome in the metrics.
    pub(super) fn outcome(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Late => "late",
            Self::Crowded => "crowded",
            Self::Broken => "broken",
        }
    }

    /// Status and text of the answer.
    pub(super) fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::TooLong => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the review is longer than 7 MiB: send a smaller one",
            ),
            Self::Late => (
                StatusCode::REQUEST_TIMEOUT,
                "the review was not complete within 2 s: send its body without pauses",
            ),
            Self::Crowded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "other reviews took all the room for 2 s: try again",
            ),
            Self::Broken => {
                (StatusCode::BAD_REQUEST, "the connection broke before the review was complete")
            }
        }
    }
}

/// Reads all of a body.
pub(super) async fn read<B>(body: B, budget: &Arc<Semaphore>) -> Result<Whole, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > u64::try_from(REVIEW_BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(Refusal::TooLong);
    }
    let mut is_crowded = false;
    let reading = gather(body, budget, &mut is_crowded);
    match timeout(READ, reading).await {
        Ok(read) => read,
        Err(_) if is_crowded => Err(Refusal::Crowded),
        Err(_) => Err(Refusal::Late),
    }
}

async fn gather<B>(
    mut body: B,
    budget: &Arc<Semaphore>,
    is_crowded: &mut bool,
) -> Result<Whole, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut whole = Whole { bytes: Vec::new(), share: None };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::Broken)?;
        // Trailers have no meaning here.
        let Ok(data) = frame.into_data() else { continue };
        if whole.bytes.len() + data.remaining() > REVIEW_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        *is_crowded = true;
        let bytes = u32::try_from(data.remaining()).unwrap_or(u32::MAX);
        let more = budget.clone().acquire_many_owned(bytes).await.map_err(|_| Refusal::Crowded)?;
        *is_crowded = false;
        match &mut whole.share {
            Some(share) => share.merge(more),
            None => whole.share = Some(more),
        }
        whole.bytes.extend_from_slice(&data);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::StreamExt as _;
    use futures::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use tokio::time::Instant;

    use super::*;

    /// A first byte, and then nothing more.
    fn stuck() -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"{")))]);
        StreamBody::new(Box::pin(first.chain(stream::pending())))
    }

    /// Formerly nothing ended the reading of a body that never ends.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_given_up_and_its_share_of_the_budget_is_free() {
        let (budget, start) = (Arc::new(Semaphore::new(10)), Instant::now());
        assert_eq!(read(stuck(), &budget).await.err(), Some(Refusal::Late));
        assert_eq!((start.elapsed(), budget.available_permits()), (READ, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_one_budget_and_wait_for_it_no_longer_than_for_themselves() {
        let budget = Arc::new(Semaphore::new(10));
        let full = |length: usize| Full::new(Bytes::from(vec![b'x'; length]));
        let first = read(full(8), &budget).await.ok().unwrap();
        assert_eq!((first.bytes.len(), budget.available_permits()), (8, 2));
        assert_eq!(read(full(3), &budget).await.err(), Some(Refusal::Crowded));
        drop(first);
        assert!(read(full(10), &budget).await.is_ok());
        let long = full(REVIEW_BYTES_MAX + 1);
        assert_eq!(read(long, &budget).await.err(), Some(Refusal::TooLong));
    }
}
