//! A body that was read to its end before it goes on: it can be sent as often as needed.

use std::sync::Arc;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::UploadState;
use crate::budget::Share;

/// The bytes of a body, and the share that counts them. Copies are counted once, for they are the
/// same bytes.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    /// `None` once they were taken.
    bytes: Option<Bytes>,
    share: Arc<Mutex<Share>>,
    state: Arc<UploadState>,
}

// === impl Whole ===

impl Whole {
    /// A body of `bytes`, which `share` counts.
    pub(crate) fn new(bytes: Bytes, share: Share) -> Self {
        let state = UploadState { timed: false.into(), slow: false.into(), broken: false.into() };
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self { bytes, share: Arc::new(Mutex::new(share)), state: Arc::new(state) }
    }

    pub(super) fn state(&self) -> Arc<UploadState> {
        Arc::clone(&self.state)
    }

    pub(super) fn passes(&self) {
        self.share.lock().passes();
    }

    pub(super) fn take(&mut self) -> Option<Frame<Bytes>> {
        self.bytes.take().map(Frame::data)
    }

    pub(super) const fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
