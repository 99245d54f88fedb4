//! A response body that is read as it passes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Instant;

use super::error::BodyError;
use crate::account::Tally;

/// A body and what reads it. Its parts pass unchanged.
#[derive(Debug)]
pub(crate) struct TalliedBody<B> {
    pub(super) inner: B,
    tally: Tally,
}

// === impl TalliedBody ===

impl<B> TalliedBody<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    pub(super) const fn new(inner: B, tally: Tally) -> Self {
        Self { inner, tally }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.tally.part(data, Instant::now());
        }
        polled
    }
}
