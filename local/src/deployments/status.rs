//! A Deployment's status from its pods: counts, `Available` and `Progressing`.
//!
//! The rules of `Progressing` are those of
//! `k8s.io/kubernetes/pkg/controller/deployment/progress.go`: once a rollout completed, a change of
//! scale neither restarts it nor lets it exceed its deadline.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{Census, available_since, ready_since};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const COMPLETE: &str = "NewReplicaSetAvailable";
const UPDATED: &str = "ReplicaSetUpdated";
const EXCEEDED: &str = "ProgressDeadlineExceeded";

/// The status of `deployment` with `pods` at `now`, and when to look again although nothing
/// happened. Equal to the stored status when nothing changed.
pub fn observe<'a>(
    deployment: &Deployment,
    pods: impl Iterator<Item = &'a Pod>,
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let before = deployment.status.clone().unwrap_or_default();
    let spec = deployment.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0);
    let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or_default();
    let Census { current, superseded, finished: _, terminating } = Census::take(deployment, pods);
    let live = || current.iter().chain(&superseded).copied();
    let readiness: Vec<Timestamp> =
        live().filter_map(|pod| available_since(pod, min_ready)).collect();
    let available = count(readiness.iter().filter(|since| **since <= now).count());
    let replicas = count(current.len() + superseded.len());
    let mut status = DeploymentStatus {
        // Zeros are written out: if they were left out, a merge patch would keep the old number.
        replicas: Some(replicas),
        updated_replicas: Some(count(current.len())),
        ready_replicas: Some(count(live().filter(|pod| ready_since(pod).is_some()).count())),
        available_replicas: Some(available),
        unavailable_replicas: Some((wanted.max(replicas) - available).max(0)),
        terminating_replicas: Some(count(terminating.len())),
        observed_generation: deployment.metadata.generation,
        collision_count: None,
        conditions: None,
    };
    let (progressing, deadline) = progressing(deployment, &before, &status, wanted, now);
    let mut conditions = vec![availability(&before, available >= wanted, now)];
    conditions.extend(progressing);
    status.conditions = Some(conditions);
    let matures = readiness.iter().filter(|since| **since > now).min();
    let next = [matures.copied(), deadline].into_iter().flatten().min();
    (status, next.map(|at| until(now, at)))
}

fn availability(before: &DeploymentStatus, available: bool, now: Timestamp) -> DeploymentCondition {
    let (reason, message) = if available {
        ("MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    condition(before, AVAILABLE, available, (reason, message), now)
}

/// The condition, `None` without a deadline, and the time of the deadline while it is awaited.
fn progressing(
    deployment: &Deployment,
    before: &DeploymentStatus,
    after: &DeploymentStatus,
    wanted: i32,
    now: Timestamp,
) -> (Option<DeploymentCondition>, Option<Timestamp>) {
    let spec = deployment.spec.as_ref();
    let Some(deadline_s) = spec.and_then(|spec| spec.progress_deadline_seconds) else {
        return (None, None);
    };
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let stored = find(before, PROGRESSING);
    let is_rolled_out = after.replicas == after.updated_replicas;
    if let Some(stored) = stored
        && is_rolled_out
        && stored.reason.as_deref() == Some(COMPLETE)
    {
        return (Some(stored.clone()), None);
    }
    let is_complete = is_rolled_out
        && after.updated_replicas == Some(wanted)
        && after.available_replicas == Some(wanted);
    if is_complete {
        let message = format!("Deployment \"{name}\" has successfully progressed.");
        let done = condition(before, PROGRESSING, true, (COMPLETE, &message), now);
        return (Some(done), None);
    }
    let Some(stored) = stored.filter(|_| !has_moved(before, after)) else {
        let message = format!("Deployment \"{name}\" is progressing.");
        let mut moving = condition(before, PROGRESSING, true, (UPDATED, &message), now);
        moving.last_update_time = Some(Time(now));
        let deadline = add(now, deadline_s);
        return (Some(moving), deadline);
    };
    if stored.reason.as_deref() == Some(EXCEEDED) {
        return (Some(stored.clone()), None);
    }
    let updated = stored.last_update_time.as_ref().map_or(now, |time| time.0);
    let deadline = add(updated, deadline_s);
    if deadline.is_some_and(|deadline| deadline <= now) {
        let message = format!("Deployment \"{name}\" has timed out progressing.");
        let late = condition(before, PROGRESSING, false, (EXCEEDED, &message), now);
        return (Some(late), None);
    }
    (Some(stored.clone()), deadline)
}

/// Whether the rollout came nearer to its end.
fn has_moved(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let superseded = |status: &DeploymentStatus| {
        let (all, updated) = (status.replicas, status.updated_replicas);
        all.unwrap_or_default().saturating_sub(updated.unwrap_or_default())
    };
    after.updated_replicas > before.updated_replicas
        || superseded(after) < superseded(before)
        || after.ready_replicas > before.ready_replicas
        || after.available_replicas > before.available_replicas
        || after.observed_generation > before.observed_generation
}

/// A condition; its times are the stored ones where nothing changed.
fn condition(
    before: &DeploymentStatus,
    kind: &str,
    holds: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) -> DeploymentCondition {
    let value = if holds { "True" } else { "False" };
    let stored = find(before, kind);
    let same_value = stored.filter(|stored| stored.status == value);
    let same = same_value.filter(|stored| stored.reason.as_deref() == Some(reason));
    let time = |time: Option<&Time>| Some(time.map_or(Time(now), |time| Time(time.0)));
    DeploymentCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: time(same_value.and_then(|s| s.last_transition_time.as_ref())),
        last_update_time: time(same.and_then(|s| s.last_update_time.as_ref())),
    }
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    let conditions = status.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn add(time: Timestamp, seconds: i32) -> Option<Timestamp> {
    time.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok()
}

/// Never zero, so that a timer that fires early does not spin.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    wait.max(Duration::from_millis(1))
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
