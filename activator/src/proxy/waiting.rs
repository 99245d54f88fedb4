//! A request that may have to wait for a pod.

use http::Request;

use super::prepare::Prepared;
use crate::budget::Share;
use crate::guard::Busy;
use crate::upload::Upload;
use crate::visit::Visit;

/// A request that has entered its revision, fit for a pod.
pub(super) struct Waiting {
    pub(super) visit: Visit,
    pub(super) request: Request<Upload>,
    /// What it holds until it has a pod.
    pub(super) held: Option<Share>,
    pub(super) prepared: Prepared,
    pub(super) busy: Busy,
}
