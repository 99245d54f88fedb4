//! What a container is for among those of its pod.

/// What a container is for, which decides what it may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is alone, and gets the requests.
    Only,
    /// It gets the requests, others stand beside it.
    Serving,
    /// It stands beside the one that gets the requests.
    Sidecar,
    /// It runs before the others.
    Init,
}
