//! The few fields of a pod that scaling needs: thousands of these are held.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::pod::{Amounts, Shortage};
use ebb_api::report::RevisionKey;
use ebb_api::{labels, pod};
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use tokio::time::Instant;

/// Most pods of one revision that are kept. Pods beyond it are ignored, which a metric counts: they
/// are never ready, drained or marked.
pub const PODS_MAX: usize = 10_000;

/// The annotation by which the ReplicaSet controller chooses pods to delete.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Deletion cost of a condemned pod: below the 0 of every pod without the annotation.
pub const CONDEMNED_COST: i32 = -1000;

/// One pod of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "Kubernetes tells each on its own")]
pub struct RevisionPod {
    /// Its UID, for an address or a name may be used again. Everything else that names the pod
    /// shares this string.
    pub uid: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// Whether Kubernetes calls it ready.
    pub is_ready: bool,
    /// Whether it is being deleted.
    pub is_terminating: bool,
    /// Whether its container has not started yet.
    pub is_pending: bool,
    /// Whether it has [`CONDEMNED_COST`]: an autoscaler chose it for deletion.
    pub is_marked: bool,
    /// The node that took it.
    pub node: Option<Box<str>>,
    /// What it holds of memory and devices.
    pub holds: Amounts,
    /// What no node has enough of for it.
    pub lacks: Vec<Shortage>,
    /// Where its model listens.
    pub address: Option<SocketAddr>,
    /// Whether it has the mark of a model that was told to sleep.
    pub is_asleep: bool,
    /// For how long it had had the mark when it was seen; nothing once it is kept.
    pub slept: Duration,
    /// Since when it has it.
    pub asleep_since: Option<Instant>,
    /// Since when it is ready, as far as this autoscaler has seen it.
    pub ready_since: Option<Instant>,
}

/// The pods of one revision by UID, at most [`PODS_MAX`]; counted as they change, for every
/// decision needs the counts.
#[derive(Debug, Default)]
pub struct Pods {
    by_uid: BTreeMap<Arc<str>, RevisionPod>,
    counts: PodCounts,
    marked: u32,
}

/// How many pods a revision has, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodCounts {
    /// Ready and not being deleted.
    pub ready: u32,
    /// Started, but not ready.
    pub not_ready: u32,
    /// Not started.
    pub pending: u32,
    /// Being deleted.
    pub terminating: u32,
}

// === impl RevisionPod ===

impl RevisionPod {
    /// The pod as far as scaling is concerned at this time, and its revision; `None` if it belongs to none, or
    /// has come to its end (a finished pod is no replica, though its object may linger).
    pub fn from_object(object: &v1::Pod, now: Timestamp) -> Option<(RevisionKey, Self)> {
        let metadata = &object.metadata;
        let status = object.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        if pod::has_ended(object) {
            return None;
        }
        let revision = RevisionKey::new(
            metadata.namespace.clone()?,
            metadata.labels.as_ref()?.get(labels::REVISION)?.clone(),
        );
        let kept = Self {
            uid: metadata.uid.as_deref()?.into(),
            name: metadata.name.as_deref()?.into(),
            is_ready: pod::is_ready(object),
            is_terminating: metadata.deletion_timestamp.is_some(),
            is_pending: phase.is_none_or(|phase| phase == "Pending"),
            is_marked: is_marked(object),
            node: object.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).map(Box::from),
            holds: Amounts::held(object),
            lacks: pod::shortages(object),
            address: pod::address(object),
            is_asleep: pod::is_asleep(object),
            // Of another machine's clock, which may be ahead.
            slept: pod::asleep_since(object)
                .and_then(|since| now.duration_since(since).try_into().ok())
                .unwrap_or_default(),
            asleep_since: None,
            ready_since: None,
        };
        Some((revision, kept))
    }
}

fn is_marked(pod: &v1::Pod) -> bool {
    let cost = pod.metadata.annotations.as_ref().and_then(|notes| notes.get(DELETION_COST));
    cost.is_some_and(|cost| cost.parse() == Ok(CONDEMNED_COST))
}

// === impl PodCounts ===

impl PodCounts {
    /// The count that such a pod belongs to.
    fn of(&mut self, pod: &RevisionPod) -> &mut u32 {
        match (pod.is_terminating, pod.is_ready, pod.is_pending) {
            (true, _, _) => &mut self.terminating,
            (false, true, _) => &mut self.ready,
            (false, false, true) => &mut self.pending,
            (false, false, false) => &mut self.not_ready,
        }
    }
}

// === impl Pods ===

impl Pods {
    /// Keeps a pod as it is at this time; false when nothing about it is new. The caller sees to the
    /// bound.
    pub fn insert_at(&mut self, mut pod: RevisionPod, now: Instant) -> bool {
        let known = self.by_uid.get(&pod.uid);
        let known_ready = known.and_then(|pod| pod.ready_since);
        let known_asleep = known.and_then(|pod| pod.asleep_since);
        pod.ready_since = pod.is_ready.then(|| pod.ready_since.or(known_ready).unwrap_or(now));
        let slept = std::mem::take(&mut pod.slept);
        let since = || known_asleep.unwrap_or_else(|| now.checked_sub(slept).unwrap_or(now));
        pod.asleep_since = pod.is_asleep.then(since);
        self.insert(pod)
    }

    /// As [`Self::insert_at`], with what the pod itself says of its readiness.
    pub fn insert(&mut self, pod: RevisionPod) -> bool {
        if self.by_uid.get(&pod.uid) == Some(&pod) {
            return false;
        }
        self.remove(&pod.uid);
        *self.counts.of(&pod) += 1;
        self.marked += u32::from(pod.is_marked);
        self.by_uid.insert(Arc::clone(&pod.uid), pod);
        true
    }

    /// Forgets a pod.
    pub fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.by_uid.remove(uid) {
            *self.counts.of(&pod) -= 1;
            self.marked -= u32::from(pod.is_marked);
        }
    }

    /// The pod with that UID.
    pub fn get(&self, uid: &str) -> Option<&RevisionPod> {
        self.by_uid.get(uid)
    }

    /// Whether it is there.
    pub fn contains(&self, uid: &str) -> bool {
        self.by_uid.contains_key(uid)
    }

    /// All of them, by UID.
    pub fn iter(&self) -> impl Iterator<Item = &RevisionPod> {
        self.by_uid.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_uid.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    /// How many unready pods Kubernetes deletes because there are more pods than asked for, besides the
    /// `marked` ones of them, which go before the others.
    pub fn takes_unready(&self, asked: u32, marked: u32) -> u32 {
        let counts = self.counts();
        let unready = counts.not_ready.saturating_add(counts.pending);
        let surplus = unready.saturating_add(counts.ready).saturating_sub(asked);
        surplus.min(unready).saturating_sub(marked)
    }

    /// How many there are, by state.
    pub fn counts(&self) -> PodCounts {
        self.counts
    }

    /// Whether any of them is marked.
    pub fn is_any_marked(&self) -> bool {
        self.marked > 0
    }
}

#[cfg(test)]
mod tests {
    use ebb_api::standby::ASLEEP;
    use serde_json::json;

    use super::*;

    fn pod(phase: &str, ready: &str) -> v1::Pod {
        serde_json::from_value(json!({
            "metadata": {
                "namespace": "models",
                "name": "digits-00001-x",
                "uid": "u1",
                "labels": {"serving.knative.dev/revision": "digits-00001"},
            },
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-28T12:00:00Z".parse().unwrap()
    }

    /// The time of the mark counts, whoever wrote it, and not when it was first seen here.
    #[test]
    fn a_mark_tells_for_how_long_its_pod_has_slept() {
        let marked = |at: &str| {
            let mut pod = pod("Running", "True");
            pod.metadata.annotations = Some([(ASLEEP.name().to_owned(), at.to_owned())].into());
            RevisionPod::from_object(&pod, now()).unwrap().1
        };
        let instant = Instant::now() + Duration::from_hours(2);
        for (at, slept) in [
            ("2026-11-28T11:00:00Z", Duration::from_hours(1)),
            ("2026-11-28T13:00:00Z", Duration::ZERO),
            ("soon", Duration::ZERO),
        ] {
            let mut pods = Pods::default();
            pods.insert_at(marked(at), instant);
            let since = pods.get("u1").unwrap().asleep_since;
            assert_eq!(since, Some(instant - slept), "{at}");
            let later = RevisionPod { slept: slept + Duration::from_secs(9), ..marked(at) };
            assert!(!pods.insert_at(later, instant + Duration::from_secs(9)), "nothing is new");
        }
        let mut pods = Pods::default();
        pods.insert_at(marked("2026-11-28T11:00:00Z"), instant);
        let awake = RevisionPod { is_asleep: false, ..marked("2026-11-28T11:00:00Z") };
        pods.insert_at(awake, instant);
        assert_eq!(pods.get("u1").unwrap().asleep_since, None);
    }

    #[test]
    fn only_what_scaling_needs_is_kept() {
        let (revision, kept) = RevisionPod::from_object(&pod("Running", "True"), now()).unwrap();
        assert_eq!(revision, RevisionKey::new("models", "digits-00001"));
        assert!(kept.is_ready && !kept.is_pending && !kept.is_terminating);
        let (_, starting) = RevisionPod::from_object(&pod("Pending", "False"), now()).unwrap();
        assert!(starting.is_pending && !starting.is_ready);
    }

    /// The mark that an autoscaler left on a pod is read back.
    #[test]
    fn only_our_own_deletion_cost_is_a_mark() {
        for (cost, expected) in [(None, false), (Some("-1000"), true), (Some("5"), false)] {
            let mut pod = pod("Running", "True");
            pod.metadata.annotations =
                cost.map(|cost| [(DELETION_COST.to_owned(), cost.to_owned())].into());
            assert_eq!(
                RevisionPod::from_object(&pod, now()).unwrap().1.is_marked,
                expected,
                "{cost:?}"
            );
        }
    }

    #[test]
    fn the_counts_follow_every_change() {
        let pod = |uid: &str, is_ready, is_marked| RevisionPod {
            uid: uid.into(),
            is_ready,
            is_marked,
            ..RevisionPod::default()
        };
        let mut pods = Pods::default();
        assert!(pods.insert(pod("a", false, false)) && pods.insert(pod("b", true, true)));
        assert!(!pods.insert(pod("a", false, false)), "nothing is new");
        assert_eq!((pods.counts().ready, pods.counts().not_ready), (1, 1));
        assert!(pods.is_any_marked() && pods.insert(pod("b", true, false)));
        assert!(!pods.is_any_marked() && pods.insert(pod("a", true, false)));
        pods.remove("b");
        pods.remove("b");
        assert_eq!(pods.counts(), PodCounts { ready: 1, ..PodCounts::default() });
    }

    #[test]
    fn a_finished_or_foreign_pod_is_no_replica() {
        assert_eq!(RevisionPod::from_object(&pod("Failed", "False"), now()), None);
        let mut foreign = pod("Running", "True");
        foreign.metadata.labels = None;
        assert_eq!(RevisionPod::from_object(&foreign, now()), None);
    }
}
