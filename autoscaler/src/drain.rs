//! Drain before delete: which pods go, and when a lower scale may be written.
//!
//! A pod is *serving*, *draining* (no new requests; it can still be taken back) or *condemned* (the
//! lower scale was written, so Kubernetes may delete it at any moment). The order to the activators
//! names all pods that are draining, condemned or gone. It is sent whole each time, so that the next one
//! makes up for a lost one. Each order has a number, and an activator says which one it obeys: a
//! report from before it had the order is no answer to it, however late that report arrives.
//!
//! The order also names pods that are *gone*, or are being deleted by somebody else, for as long as
//! an activator still names them in its reports: its watch is behind. Without the order it would send
//! requests to an address that another pod may have by now.
//!
//! Invariants: a pod is condemned only when every activator that counts has said that it sends the
//! pod nothing and has nothing in flight there; the order always contains every condemned pod; a
//! condemned pod serves again only when it is needed and Kubernetes has left it alone for
//! [`CONDEMNED_FOR`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::report::OrderId;
use tokio::time::Instant;

use self::views::{in_flight, is_let_go, names_unseen};
use crate::load::ReporterView;
use crate::pods::{Pods, RevisionPod};

mod order;
mod rest;
mod views;

/// How long a condemned pod that is needed again must have been left alone. A pod that nobody has
/// deleted after this time will have been saved by the newer and higher scale. Most often Kubernetes'
/// controllers act well within a second of the write; but the controller's own write of the lower scale
/// may be on its way for as long as an API server may take before Ebb takes it for lost (5 s,
/// `ebb_daemon::lease`), which nobody sees here, and where the Deployment was not lowered yet the raise
/// changes nothing that would refuse it.
pub const CONDEMNED_FOR: Duration = Duration::from_secs(7);
/// After how long a condemned pod that is still there tells of somebody who is slow.
const OVERDUE_AFTER: Duration = Duration::from_secs(2);
/// The same while a write is on its way: no attempt lasts longer than
/// [`crate::writer::ATTEMPT_TIMEOUT`], and the next one carries the newer scale. Without this
/// limit, an API server that is down would keep a good pod from serving. It is counted from when
/// the pod was needed again, too: an attempt that began before that carries the old scale.
const UNCONFIRMED_FOR: Duration = Duration::from_secs(12);
/// How long after a raise its pods may come to be. A quota may keep them from it for ever.
const UNSEEN_FOR: Duration = Duration::from_secs(12);
/// How long no condemned pod serves again that was overdue when it was needed: an answer may take 5 s
/// before Ebb takes an API server for lost (`ebb_daemon::lease`). Longer, and requests would time out
/// beside a pod that nobody deletes.
const SLOW_FOR: Duration = Duration::from_secs(6);

/// The pods of one revision on their way out.
#[derive(Debug, Default)]
pub struct Drain {
    /// The draining pods, and the first order in force that names each.
    draining: BTreeMap<String, OrderId>,
    /// The pod that stays without requests, and the first order in force that names it.
    resting: Option<(Arc<str>, OrderId)>,
    /// When each was condemned, or last might have been deleted for a scale that was written then.
    condemned: BTreeMap<String, Instant>,
    /// When the scale was lowered last, until a higher one is known to be written after it: whoever
    /// reads that one lowers nothing any more, however often the scale is written again.
    lowered: Option<Instant>,
    /// When a condemned pod was needed that should have been gone for long.
    slow: Option<Instant>,
    /// When more replicas were asked for the last time.
    raised: Option<Instant>,
    /// Since when more pods are needed than stand.
    needed: Option<Instant>,
    /// Pods that are no more, or soon, and that an activator may still send requests to.
    gone: BTreeSet<String>,
    /// The order last given, and the UIDs that it names, sorted.
    id: OrderId,
    ordered: Vec<String>,
}

/// The inputs of a plan.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// Replicas to aim at.
    pub want: u32,
    /// Replicas asked for now.
    pub current: u32,
    /// The revision's pods.
    pub pods: &'a Pods,
    /// The activators' reports about them.
    pub views: &'a [ReporterView<'a>],
    /// Whether a write is on its way whose outcome is not known.
    pub is_writing: bool,
    /// Pods that are let go for others, and go before all but the unready ones.
    pub ceded: Option<&'a BTreeSet<Arc<str>>>,
    /// A pod that gets no requests, and stays: it sleeps, or is to.
    pub rests: Option<&'a Arc<str>>,
    /// The number of an order that is given now.
    pub order: OrderId,
    /// The present.
    pub now: Instant,
}

/// The next step for the pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainPlan {
    /// Replicas to ask for now.
    pub scale: u32,
    /// Pods condemned by this plan: mark them before the scale is written.
    pub condemned: Vec<String>,
    /// Pods that were condemned and serve again: unmark them.
    pub reprieved: Vec<String>,
    /// Whether the order is a new one.
    pub is_reordered: bool,
    /// Whether the scale stays because an activator names a pod that is not seen here.
    pub is_blind: bool,
    /// Whether every activator has let go of the pod that rests.
    pub is_rested: bool,
}

// === impl Drain ===

impl Drain {
    /// Moves each pod to where it belongs and says how far down the scale may go.
    pub fn plan(&mut self, scene: &Scene<'_>) -> DrainPlan {
        if scene.want > scene.current {
            self.raised = Some(scene.now);
        }
        if scene.rests.is_none() && self.is_at_rest(scene.want, scene.current, scene.pods) {
            self.needed = None;
            return DrainPlan { scale: scene.want, ..DrainPlan::default() };
        }
        self.forget(scene);
        self.adopt(scene);
        let reprieved = self.reprieve(scene);
        self.follow_rest(scene);
        let standing = self.standing(scene);
        self.choose(scene, &standing);
        let mut plan = DrainPlan { scale: scene.want, reprieved, ..DrainPlan::default() };
        if scene.want < scene.current {
            plan.is_blind = names_unseen(scene.views, scene.pods, &self.gone);
            let idle = self.idle(scene, &standing);
            let is_kept = self.is_sparing(scene, count(standing.len())) || plan.is_blind;
            let held = if is_kept {
                scene.current
            } else {
                count(standing.len() - idle.len()).saturating_add(self.unseen(scene))
            };
            plan.scale = scene.want.max(held).min(scene.current);
            if plan.scale < scene.current {
                self.lowered = Some(scene.now);
                self.condemn(&idle, scene.now);
                plan.condemned = idle;
            }
        }
        plan.is_rested = self.is_rested(scene.views);
        plan.is_reordered = self.reorder(scene.order);
        plan
    }

    /// Whether there is nothing to move: no pod is on its way out, and none is to go. This holds
    /// for nearly all revisions at nearly all times, and then the activators' views are not needed.
    pub fn is_at_rest(&self, want: u32, current: u32, pods: &Pods) -> bool {
        want >= current
            && self.is_empty()
            && self.ordered.is_empty()
            && !pods.is_any_marked()
            && pods.takes_unready(want, 0) == 0
    }

    /// Takes note that the last scale was written, in a write that `took` so long: from now on the
    /// deletion may come, or be on its way although the scale was raised again.
    pub fn confirm_written(&mut self, now: Instant, took: Duration) {
        if let Some(lowered) = self.lowered {
            self.condemned.values_mut().for_each(|since| *since = now);
            self.lowered = self.lowered.filter(|_| self.raised.is_none_or(|at| at <= lowered));
        }
        // The pods of a raise that this write carried come to be from now on.
        self.raised = self.raised.map(|at| if now.duration_since(at) <= took { now } else { at });
    }

    /// Whether pods drain that could still be taken back.
    pub fn is_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// The marked pods that are not on their way out: an autoscaler that marked them ended before
    /// it lowered the scale. As long as more pods stand than are asked for, one of them may yet be
    /// deleted for a lower scale, and none is returned.
    pub fn mismarked<'a>(&self, scale: u32, pods: &'a Pods) -> Vec<&'a RevisionPod> {
        if !pods.is_any_marked() {
            return Vec::new();
        }
        let stays =
            |pod: &&RevisionPod| !pod.is_terminating && !self.condemned.contains_key(&*pod.uid);
        if count(pods.iter().filter(stays).count()) > scale {
            return Vec::new();
        }
        let is_mismarked = |pod: &&RevisionPod| stays(pod) && pod.is_marked;
        pods.iter().filter(is_mismarked).collect()
    }

    /// The condemned pods that Kubernetes cannot tell from the others yet.
    pub fn unmarked<'a>(&'a self, pods: &'a Pods) -> impl Iterator<Item = &'a RevisionPod> {
        let condemned = self.condemned.keys().filter_map(|uid| pods.get(uid));
        condemned.filter(|pod| !pod.is_terminating && !pod.is_marked)
    }

    /// Whether no pod is on its way out, and none rests.
    pub fn is_empty(&self) -> bool {
        let is_none_leaving = self.draining.is_empty() && self.condemned.is_empty();
        is_none_leaving && self.gone.is_empty() && self.resting.is_none()
    }

    /// How many pods are on their way out, and how many are gone and still ordered.
    pub fn sizes(&self) -> (usize, usize) {
        (self.draining.len() + self.condemned.len(), self.gone.len())
    }

    fn forget(&mut self, scene: &Scene<'_>) {
        let is_there = |uid: &str| scene.pods.contains(uid);
        // A pod that somebody else deletes is no longer ours to drain.
        let is_ours = |uid: &str| scene.pods.get(uid).is_some_and(|pod| !pod.is_terminating);
        self.gone
            .extend(self.condemned.extract_if(.., |uid, _| !is_there(uid)).map(|(uid, _)| uid));
        self.gone.extend(self.draining.extract_if(.., |uid, _| !is_ours(uid)).map(|(uid, _)| uid));
        // An earlier leader's orders are still obeyed, and stay in force for pods that end.
        let drained = scene.views.iter().flat_map(|view| view.pods).filter(|pod| pod.draining);
        self.gone.extend(drained.filter(|pod| !is_ours(&pod.uid)).map(|pod| pod.uid.to_string()));
        let is_known = |uid: &str| scene.views.iter().any(|view| view.pod(uid).is_some());
        self.gone.retain(|uid| !is_ours(uid) && is_known(uid));
    }

    /// Takes over marked pods beyond the scale asked for: an earlier autoscaler wrote that scale,
    /// and Kubernetes may delete these pods at any moment.
    fn adopt(&mut self, scene: &Scene<'_>) {
        let standing = self.standing(scene);
        let surplus = count(standing.len()).saturating_sub(scene.current.max(scene.want));
        let marked: Vec<_> = standing
            .iter()
            .filter(|pod| pod.is_marked && !self.draining.contains_key(&*pod.uid))
            .map(|pod| pod.uid.to_string())
            .take(usize::try_from(surplus).unwrap_or(usize::MAX))
            .collect();
        if !marked.is_empty() {
            self.lowered = Some(scene.now);
        }
        self.condemned.extend(marked.into_iter().map(|uid| (uid, scene.now)));
    }

    /// Lets condemned pods serve again that are needed and were left alone.
    fn reprieve(&mut self, scene: &Scene<'_>) -> Vec<String> {
        let needed = scene.want.saturating_sub(count(self.standing(scene).len()));
        if needed == 0 {
            self.needed = None;
            return Vec::new();
        }
        if self.needed.is_none() && self.is_overdue(scene) {
            self.slow = Some(scene.now);
        }
        let since = *self.needed.get_or_insert(scene.now);
        let is_slow = self.slow.is_some_and(|at| scene.now.duration_since(at) < SLOW_FOR);
        if is_slow || (scene.is_writing && scene.now.duration_since(since) < UNCONFIRMED_FOR) {
            return Vec::new();
        }
        let left_alone = if scene.is_writing { UNCONFIRMED_FOR } else { CONDEMNED_FOR };
        let spared: Vec<String> = self
            .condemned
            .iter()
            .filter(|(uid, since)| {
                scene.now.duration_since(**since) >= left_alone
                    && scene.pods.get(uid).is_some_and(|pod| !pod.is_terminating)
            })
            .map(|(uid, _)| uid.clone())
            .take(usize::try_from(needed).unwrap_or(usize::MAX))
            .collect();
        for uid in &spared {
            self.condemned.remove(uid);
        }
        spared
    }

    /// Whether a condemned pod should have been gone for long: somebody between the lower scale and
    /// the pod is slow, and may act on it yet.
    fn is_overdue(&self, scene: &Scene<'_>) -> bool {
        self.lingering(scene).any(|since| scene.now.duration_since(since) >= OVERDUE_AFTER)
    }

    /// Since when the pods are condemned that nobody has deleted yet.
    fn lingering(&self, scene: &Scene<'_>) -> impl Iterator<Item = Instant> {
        let is_there = |uid: &str| scene.pods.get(uid).is_some_and(|pod| !pod.is_terminating);
        self.condemned.iter().filter(move |(uid, _)| is_there(uid)).map(|(_, since)| *since)
    }

    /// How many of the replicas asked for are no pods yet, as far as is known here. They may get
    /// requests as soon as they are, and cannot be drained before.
    fn unseen(&self, scene: &Scene<'_>) -> u32 {
        let is_new = self.raised.is_some_and(|at| scene.now.duration_since(at) < UNSEEN_FOR);
        if !is_new {
            return 0;
        }
        let counts = scene.pods.counts();
        let live = counts.ready.saturating_add(counts.not_ready).saturating_add(counts.pending);
        // A condemned pod is counted as long as the watch is behind.
        let leaving = count(self.lingering(scene).count());
        scene.current.saturating_sub(live.saturating_sub(leaving))
    }

    /// Whether condemned pods are to serve again in a moment. A lower scale could not tell them from
    /// those that go, so that none is written until then.
    fn is_sparing(&self, scene: &Scene<'_>, standing: u32) -> bool {
        standing < scene.want && self.lingering(scene).next().is_some()
    }

    /// The pods that are neither condemned nor being deleted.
    fn standing<'a>(&self, scene: &Scene<'a>) -> Vec<&'a RevisionPod> {
        scene
            .pods
            .iter()
            .filter(|pod| !pod.is_terminating && !self.condemned.contains_key(&*pod.uid))
            .collect()
    }

    /// Sets which pods drain: as many as stand above the wanted scale, and only if that is below
    /// the present one (a surplus for any other reason is not ours). While Kubernetes has more
    /// pods to delete than the unready ones that are marked, all unready pods drain, for it takes those
    /// before any ready one.
    fn choose(&mut self, scene: &Scene<'_>, standing: &[&RevisionPod]) {
        let surplus = if scene.want < scene.current {
            count(standing.len()).saturating_sub(scene.want)
        } else {
            0
        };
        let mut ranked: Vec<_> = standing
            .iter()
            .filter(|pod| scene.rests != Some(&pod.uid))
            .map(|pod| {
                let fresh = !self.draining.contains_key(&*pod.uid);
                // A ReplicaSet deletes unready pods before it looks at any cost, so these must be
                // chosen first; then those let go for others, those that drain already and the least
                // busy.
                let stays = scene.ceded.is_none_or(|ceded| !ceded.contains(&pod.uid));
                (pod.is_ready, stays, fresh, in_flight(scene.views, &pod.uid), &pod.uid)
            })
            .collect();
        ranked.sort_unstable();
        let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
        let unready = ranked.iter().take_while(|(is_ready, ..)| !is_ready).count();
        let is_unready = |uid: &String| scene.pods.get(uid).is_some_and(|pod| !pod.is_ready);
        let marked = count(self.condemned.keys().filter(|uid| is_unready(uid)).count());
        let taken = scene.pods.takes_unready(scene.want.max(scene.current), marked);
        ranked.truncate(if taken > 0 { surplus.max(unready) } else { surplus });
        let chosen: BTreeSet<&str> = ranked.into_iter().map(|(.., uid)| &**uid).collect();
        self.draining.retain(|uid, _| chosen.contains(uid.as_str()));
        for uid in chosen {
            // A pod that begins to drain changes the order, so the order will have this number.
            self.draining.entry(uid.to_owned()).or_insert(scene.order);
        }
    }

    /// The draining pods that every activator has let go of, and that Kubernetes would choose: it
    /// deletes unready pods before it looks at any mark, so that no ready one goes while an unready
    /// one is in use, or is yet to come.
    fn idle(&self, scene: &Scene<'_>, standing: &[&RevisionPod]) -> Vec<String> {
        if scene.views.is_empty() {
            return Vec::new();
        }
        let is_idle =
            |uid: &str, order: OrderId| scene.views.iter().all(|view| is_let_go(view, uid, order));
        let order = |pod: &RevisionPod| self.draining.get(&*pod.uid).copied();
        let is_busy = |pod: &RevisionPod| !order(pod).is_some_and(|order| is_idle(&pod.uid, order));
        let spares_ready =
            self.unseen(scene) > 0 || standing.iter().any(|pod| !pod.is_ready && is_busy(pod));
        let may_go =
            |uid: &str| !spares_ready || scene.pods.get(uid).is_some_and(|pod| !pod.is_ready);
        let idle = self.draining.iter().filter(|(uid, order)| is_idle(uid, **order) && may_go(uid));
        let mut idle: Vec<_> = idle.map(|(uid, _)| uid.clone()).collect();
        // More may drain than are to go, and Kubernetes takes the unready ones.
        idle.sort_by_key(|uid| scene.pods.get(uid).is_some_and(|pod| pod.is_ready));
        let surplus = count(standing.len()).saturating_sub(scene.want);
        idle.truncate(usize::try_from(surplus).unwrap_or(usize::MAX));
        idle
    }

    fn condemn(&mut self, pods: &[String], now: Instant) {
        for uid in pods {
            self.draining.remove(uid);
            self.condemned.insert(uid.clone(), now);
        }
    }
}

fn count(pods: usize) -> u32 {
    u32::try_from(pods).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
