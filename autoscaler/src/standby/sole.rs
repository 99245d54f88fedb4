//! Which pod of a revision is the last one.

use std::sync::Arc;

use super::scene::RestScene;

/// The pods of a revision that is to have one.
pub(super) enum Sole {
    /// None that could sleep.
    None,
    /// This one serves, and no other.
    Ready(Arc<str>),
    /// More are asked for.
    Surplus,
    /// One is asked for, and several serve.
    Many,
}

/// Looks at the pods that are there to stay. Those that are not ready are no reason to wait: Kubernetes
/// ends them before one that is, if it made them.
pub(super) fn sole(scene: &RestScene<'_>) -> Sole {
    if scene.current > 1 {
        return Sole::Surplus;
    }
    let mut serving = scene.pods.iter().filter(|pod| !pod.is_terminating && pod.is_ready);
    match (serving.next(), serving.next()) {
        (Some(pod), None) if pod.address.is_some() => Sole::Ready(Arc::clone(&pod.uid)),
        (None, _) | (Some(_), None) => Sole::None,
        (Some(_), Some(_)) => Sole::Many,
    }
}
