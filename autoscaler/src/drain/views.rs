//! What the activators' reports say of a pod that drains.

use std::collections::BTreeSet;

use ebb_api::report::OrderId;

use crate::load::ReporterView;
use crate::pods::{PODS_MAX, Pods};

/// Whether an activator sends the pod nothing and has nothing in flight there. An activator that
/// does not name the pod has let go of it only if it obeys the order, which it keeps for pods to
/// come.
pub(super) fn is_let_go(view: &ReporterView<'_>, uid: &str, order: OrderId) -> bool {
    // Obedience in another term says nothing; obedience to a later order covers this one.
    let obeys = view.obeyed.epoch == order.epoch && view.obeyed >= order;
    obeys
        && match view.pod(uid) {
            Some(pod) => pod.draining && pod.in_flight == 0,
            None => !view.is_cut,
        }
}

/// Requests in a pod, as all activators together report them.
pub(super) fn in_flight(views: &[ReporterView<'_>], uid: &str) -> u64 {
    views.iter().filter_map(|view| view.pod(uid)).map(|pod| u64::from(pod.in_flight)).sum()
}

/// Whether an activator names a pod that is not seen here and not `gone` either: the watch of pods is
/// behind. Kubernetes might delete that pod, which nobody can mark or drain, and those that are seen
/// here may have ended already.
pub(super) fn names_unseen(
    views: &[ReporterView<'_>],
    pods: &Pods,
    gone: &BTreeSet<String>,
) -> bool {
    // For a pod beyond the bound there is no room, so that it is never seen.
    let mut named = views.iter().flat_map(|view| view.pods);
    pods.len() < PODS_MAX && named.any(|pod| !pods.contains(&pod.uid) && !gone.contains(&*pod.uid))
}
