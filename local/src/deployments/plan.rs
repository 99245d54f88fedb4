//! Which pods a Deployment lacks and which it has too many of: a pure function.

use std::cmp::Reverse;

use ebb_api::pod;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::template::{POD_TEMPLATE_HASH, template_hash};

/// Kubernetes' own annotation: pods with a lower cost go first when a Deployment shrinks.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Kubernetes' default of `maxSurge`, in percent.
const DEFAULT_SURGE_PERCENT: i64 = 25;

/// What to do for one Deployment, now.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Actions {
    /// How many pods of the current template to create.
    pub create: usize,
    /// Pods to delete.
    pub delete: Vec<Victim>,
}

/// A pod to delete; the UID keeps a namesake safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Whether no request is inside, nor will be: fewer pods are asked for, and this one has the mark
    /// of those that Ebb has drained, or none is to be left.
    pub is_drained: bool,
}

/// The pods of one Deployment, by what they count for.
pub(super) struct Census<'a> {
    /// Live pods of the current template.
    pub(super) current: Vec<&'a Pod>,
    /// Live pods of earlier templates.
    pub(super) superseded: Vec<&'a Pod>,
    /// Pods that ended and count for nothing.
    pub(super) finished: Vec<&'a Pod>,
    /// Pods that are being deleted.
    pub(super) terminating: Vec<&'a Pod>,
}

// === impl Census ===

impl<'a> Census<'a> {
    pub(super) fn take(deployment: &Deployment, pods: impl Iterator<Item = &'a Pod>) -> Self {
        let hash = deployment.spec.as_ref().map(|spec| template_hash(&spec.template));
        let mut census = Self {
            current: Vec::new(),
            superseded: Vec::new(),
            finished: Vec::new(),
            terminating: Vec::new(),
        };
        for pod in pods {
            let labels = pod.metadata.labels.as_ref();
            let side = if pod.metadata.deletion_timestamp.is_some() {
                &mut census.terminating
            } else if pod::has_ended(pod) {
                &mut census.finished
            } else if labels.and_then(|labels| labels.get(POD_TEMPLATE_HASH)) == hash.as_ref() {
                &mut census.current
            } else {
                &mut census.superseded
            };
            side.push(pod);
        }
        census
    }
}

/// Decides for `deployment`, whose own pods (owned and selected) are `pods`.
///
/// A changed template rolls with nothing unavailable: pods of earlier templates go as pods of the
/// current one become available, and at most `maxSurge` more than `replicas` live at once. Pods
/// that ended are replaced. Among equals the order of `ReplicaSet` decides which pod goes
/// (`k8s.io/kubernetes/pkg/controller/controller_utils.go`, `ActivePodsWithRanks`).
pub fn plan<'a>(
    deployment: &Deployment,
    pods: impl Iterator<Item = &'a Pod>,
    now: Timestamp,
) -> Actions {
    let Some(spec) = deployment.spec.as_ref() else {
        return Actions::default();
    };
    let Census { mut current, mut superseded, finished, terminating } =
        Census::take(deployment, pods);
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default();
    let mut delete: Vec<&Pod> = finished;
    let recreates = spec
        .strategy
        .as_ref()
        .is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate"));

    current.sort_by_key(|pod| keep_rank(pod));
    let excess = current.len().saturating_sub(wanted);
    let is_drained = |pod: &Pod| wanted == 0 || deletion_cost(pod) < 0;
    let fewer =
        current.drain(..excess).map(|pod| Victim { is_drained: is_drained(pod), ..victim(pod) });
    let fewer: Vec<Victim> = fewer.collect();

    if recreates && !superseded.is_empty() {
        delete.append(&mut superseded);
        let delete = fewer.into_iter().chain(delete.into_iter().map(victim)).collect();
        return Actions { create: 0, delete };
    }
    let hash = template_hash(&spec.template);
    let old_still_ends = terminating.iter().any(|pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(POD_TEMPLATE_HASH)) != Some(&hash)
    });
    let room = if superseded.is_empty() {
        wanted
    } else {
        wanted.saturating_add(surge(deployment, wanted))
    };
    let create = if recreates && old_still_ends {
        0
    } else {
        wanted
            .saturating_sub(current.len())
            .min(room.saturating_sub(current.len() + superseded.len()))
    };

    let min_ready = spec.min_ready_seconds.unwrap_or_default();
    let serving = current
        .iter()
        .filter(|pod| available_since(pod, min_ready).is_some_and(|since| since <= now))
        .count();
    superseded.sort_by_key(|pod| keep_rank(pod));
    // For every wanted pod that does not serve yet one of the earlier ones stays, the best first.
    let surplus = superseded.len().saturating_sub(wanted.saturating_sub(serving));
    delete.extend(superseded.drain(..surplus));
    let delete = fewer.into_iter().chain(delete.into_iter().map(victim)).collect();
    Actions { create, delete }
}

/// When a pod has been ready for `min_ready_s`; `None` when it is not ready. Where it need not have
/// been, that is at once, whatever the time of its condition: the wall clock may have gone back.
pub(super) fn available_since(pod: &Pod, min_ready_s: i32) -> Option<Timestamp> {
    let since = ready_since(pod)?;
    if min_ready_s == 0 {
        return Some(Timestamp::MIN);
    }
    let wait = jiff::SignedDuration::from_secs(i64::from(min_ready_s));
    since.checked_add(wait).ok()
}

/// Since when a pod is ready: the earliest time there is if its condition does not say, `None` if
/// it is not ready.
pub(super) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    if !pod::is_ready(pod) {
        return None;
    }
    let since = pod::condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
    Some(since.map_or(Timestamp::MIN, |time| time.0))
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// The order in which pods go: lowest first.
type KeepRank = (bool, bool, i64, Reverse<Timestamp>, Reverse<i64>, Reverse<Timestamp>);

fn deletion_cost(pod: &Pod) -> i64 {
    let annotations = pod.metadata.annotations.as_ref();
    let cost = annotations.and_then(|annotations| annotations.get(DELETION_COST)?.parse().ok());
    cost.unwrap_or_default()
}

fn keep_rank(pod: &Pod) -> KeepRank {
    let ready = ready_since(pod);
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let restarts =
        statuses.into_iter().flatten().map(|status| i64::from(status.restart_count)).sum();
    let created = pod.metadata.creation_timestamp.as_ref();
    (
        phase(pod) == "Running",
        ready.is_some(),
        deletion_cost(pod),
        Reverse(ready.unwrap_or(Timestamp::MIN)),
        Reverse(restarts),
        Reverse(created.map_or(Timestamp::MAX, |time| time.0)),
    )
}

fn surge(deployment: &Deployment, wanted: usize) -> usize {
    let rolling =
        deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
    let share = |percent: i64| {
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        wanted.saturating_mul(percent.max(0)).saturating_add(99) / 100
    };
    let surge = match rolling.and_then(|rolling| rolling.max_surge.as_ref()) {
        Some(IntOrString::Int(number)) => i64::from(*number),
        Some(IntOrString::String(text)) => {
            share(text.trim_end_matches('%').parse().unwrap_or(DEFAULT_SURGE_PERCENT))
        }
        None => share(DEFAULT_SURGE_PERCENT),
    };
    // Nothing may be unavailable, so without one more pod a rollout could never move.
    usize::try_from(surge).unwrap_or_default().max(1)
}

fn victim(pod: &Pod) -> Victim {
    Victim {
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        is_drained: false,
    }
}
