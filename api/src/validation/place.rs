//! The role of a container in its pod.

/// The role of a container, which decides the fields that it may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The only container, which gets the requests.
    Only,
    /// The container that gets the requests, beside others.
    Serving,
    /// A container beside the one that gets the requests.
    Sidecar,
    /// A container that runs before the others.
    Init,
}
