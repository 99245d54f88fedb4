//! Counts the bytes that requests hold in this process, before they hold them.

use std::sync::Arc;

use http::{Request, Version};
use http_body::Body as _;

use super::check::Checked;
use super::client::Client;
use crate::budget::{Excess, Part, Purpose, Share};
use crate::error::RequestError;
use crate::meters::Bound;
use crate::server::STREAM_WINDOW_BYTES;
use crate::upload::Upload;

/// Memory of a waiting request besides its head and its body: its task, and its place in the queue.
/// With its connection, 22 KiB were measured.
pub(super) const WAITING_BYTES: usize = 8 * 1024;
/// The part of an HTTP/1 body that comes together with its head, in hyper's buffer.
const H1_BODY_BYTES: usize = 8 * 1024;

// === impl Client ===

impl Client {
    /// Counts the bytes that a request will hold until a pod takes it. The share that is returned
    /// is for that time; the body keeps a share of its own.
    pub(super) fn hold_waiting(
        &self,
        checked: &mut Checked,
        part: &Arc<Part>,
    ) -> Result<Share, RequestError> {
        self.hold_body(checked, Purpose::Waiting, part)?;
        self.hold(checked.head_bytes + WAITING_BYTES, Purpose::Waiting, part)
    }

    /// Counts the bytes that a request holds, its body included, while it waits for news of its
    /// host or its revision: it belongs to no revision yet, and all such requests have one part
    /// together.
    pub(super) fn hold_for_news(&self, checked: &Checked) -> Result<Share, RequestError> {
        let body = body_bytes(&checked.request, Purpose::Waiting);
        let bytes = checked.head_bytes + WAITING_BYTES + body;
        self.hold(bytes, Purpose::Waiting, &self.proxy.directory.arrivals.held)
    }

    /// Counts the bytes that the body of a request may take before it is read.
    pub(super) fn hold_body(
        &self,
        checked: &mut Checked,
        purpose: Purpose,
        part: &Arc<Part>,
    ) -> Result<(), RequestError> {
        let request = &mut checked.request;
        let bytes = body_bytes(request, purpose);
        if bytes > 0 && !request.body().holds() {
            let share = self.hold(bytes, purpose, part)?;
            request.body_mut().hold(share);
        }
        Ok(())
    }

    fn hold(
        &self,
        bytes: usize,
        purpose: Purpose,
        part: &Arc<Part>,
    ) -> Result<Share, RequestError> {
        self.proxy.held.take(bytes, purpose, part).map_err(|excess| {
            let (bound, error) = match excess {
                Excess::All => (Bound::HeldBytes, RequestError::Overloaded),
                Excess::Revision => (Bound::RevisionBytes, RequestError::QueueFull),
            };
            self.proxy.context.meters.overflow(bound);
            error
        })
    }
}

/// Bytes of a body that may come before anything reads it.
pub(super) fn body_bytes(request: &Request<Upload>, purpose: Purpose) -> usize {
    if request.body().is_end_stream() {
        return 0;
    }
    let window = match (request.version(), purpose) {
        (Version::HTTP_2, _) => usize::try_from(STREAM_WINDOW_BYTES).unwrap_or(usize::MAX),
        (_, Purpose::Waiting) => H1_BODY_BYTES,
        // The pod reads, and hyper keeps no more than it is about to write. A request that waited
        // before keeps the share that it got then.
        (_, Purpose::Passing) => 0,
    };
    let declared = request.body().size_hint().upper();
    declared.map_or(window, |bytes| usize::try_from(bytes).unwrap_or(window).min(window))
}
