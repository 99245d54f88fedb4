//! A replica that did not do what it was told.

use std::sync::Arc;

use super::scene::{RestPlan, RestScene};

/// Sees to it that others serve, and that it goes: it alone. Until then it gets no requests, and counts
/// for nothing.
pub(super) fn replace(scene: &RestScene<'_>, broken: &Arc<str>, plan: &mut RestPlan) {
    let others = scene.pods.iter().filter(|pod| pod.uid != *broken && !pod.is_terminating);
    let (ready, unready): (Vec<_>, Vec<_>) = others.partition(|pod| pod.is_ready);
    let ready = u32::try_from(ready.len()).unwrap_or(u32::MAX);
    // Not one more than asked for now: that would be one more each time.
    let needed = scene.needed.min(scene.want);
    let beside = needed.saturating_add(1);
    // An upper bound is somebody's bill.
    let has_room = beside <= scene.max;
    let beside = beside.min(scene.max).max(scene.want);
    let keep = |want| (want, Some(Arc::clone(broken)));
    (plan.want, plan.rests) = if !scene.is_known {
        // Nothing is lowered blindly. More may always be asked for.
        keep(if needed > 0 { beside } else { scene.want })
    } else if scene.want == 0 || (ready == 0 && unready.is_empty()) {
        (0, None)
    } else if !unready.is_empty() || (ready < needed && has_room) {
        // Kubernetes would take one that is not ready instead of it.
        keep(beside)
    } else {
        let want = scene.want.min(ready);
        // Once that is asked for it stays without requests until it is gone.
        if want < scene.current { (want, None) } else { keep(want) }
    };
    plan.goes = Some(Arc::clone(broken));
}
