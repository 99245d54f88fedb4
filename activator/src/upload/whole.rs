//! A body that was read to its end before it goes on: it can be sent as often as needed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::UploadState;
use crate::budget::Share;

/// Most bytes of one frame. What is handed on waits in the buffer of a connection, and a frame is not
/// divided there.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The bytes of a body, and the share that counts them. Copies are the same bytes, counted once, for as
/// long as any part of them is anywhere in this process.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    pieces: VecDeque<Bytes>,
    share: Arc<Mutex<Share>>,
    state: Arc<UploadState>,
}

/// Bytes that give their share back when the last reference to them is gone, be it in a buffer of a
/// connection.
struct Counted {
    bytes: Bytes,
    _share: Arc<Mutex<Share>>,
}

// === impl Whole ===

impl Whole {
    /// A body of these pieces, which `share` counts.
    pub(crate) fn new(pieces: impl IntoIterator<Item = Bytes>, share: Share) -> Self {
        let state = UploadState { timed: false.into(), slow: false.into(), broken: false.into() };
        let share = Arc::new(Mutex::new(share));
        let counted = |bytes| Bytes::from_owner(Counted { bytes, _share: Arc::clone(&share) });
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).map(counted).collect();
        Self { pieces, share, state: Arc::new(state) }
    }

    pub(super) fn state(&self) -> Arc<UploadState> {
        Arc::clone(&self.state)
    }

    pub(super) fn passes(&self) {
        self.share.lock().passes();
    }

    pub(super) fn take(&mut self) -> Option<Frame<Bytes>> {
        let mut piece = self.pieces.pop_front()?;
        if piece.len() > FRAME_BYTES_MAX {
            self.pieces.push_front(piece.split_off(FRAME_BYTES_MAX));
        }
        Some(Frame::data(piece))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
    }
}

// === impl Counted ===

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
