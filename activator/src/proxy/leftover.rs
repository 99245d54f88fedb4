//! What to do with the body of a request that is answered without a pod.
//!
//! The rest of a body must never be taken for the next request, and a client that is still sending
//! should get to read the answer: a small body is read to its end, a larger one ends the
//! connection.

use std::pin::pin;
use std::time::Duration;

use http::{Request, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::upload::Upload;

/// The most that is read and thrown away.
const DRAIN_BYTES_MAX: u64 = 64 * 1024;
/// Longest time for that: it delays the answer.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Reads a small unread body to its end. True when there is more, so that the connection cannot be
/// used again.
pub(super) async fn must_close(request: Request<Upload>) -> bool {
    // A body that was read to its end leaves nothing on the connection.
    if request.body().is_end_stream() || matches!(request.body(), Upload::Whole(_)) {
        return false;
    }
    // Reading would ask the client for a body that it has not begun to send.
    let waits = request.headers().contains_key(header::EXPECT);
    if waits || request.body().size_hint().lower() > DRAIN_BYTES_MAX {
        return true;
    }
    !matches!(timeout(DRAIN_TIMEOUT, drain(request.into_body())).await, Ok(true))
}

/// True when the end was reached within the limit.
async fn drain(body: Upload) -> bool {
    let mut body = pin!(body);
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        read += u64::try_from(length).unwrap_or(u64::MAX);
        if read > DRAIN_BYTES_MAX {
            return false;
        }
    }
    true
}
