//! Why a body stops early.

/// Why a body stopped early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The pod paused for longer than the revision's `idleTimeoutSeconds`.
    #[error("the response was idle for longer than the revision's idleTimeoutSeconds")]
    Idle,
    /// The pod broke off.
    #[error("the pod broke off its response")]
    Pod(#[source] hyper::Error),
    /// The task of a request that still waited is gone, by a fault of Ebb.
    #[error("the request was lost")]
    Lost,
}
