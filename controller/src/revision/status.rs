//! The status of a Revision. Reasons and texts: knative/serving
//! pkg/apis/serving/v1/revision_lifecycle.go and pkg/reconciler/revision.
//!
//! Ready means "its last start went well", not "it has pods": scale to zero keeps it. A start
//! that fails later, when a request wakes it, makes it not Ready, and the next start that works
//! heals it.

use std::sync::Arc;

use ebb_api::autoscaling::{PodAutoscaler, PodAutoscalerStatus};
use ebb_api::condition::{self, Condition, Conditions, READY, Status};
use ebb_api::serving::{ContainerStatus, Revision, RevisionStatus};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;

use super::failure::{self, Part};
use super::pod;
use crate::events::Notice;
use crate::owner;
use crate::settling::{self, News};

const RESOURCES: &str = RevisionStatus::RESOURCES_AVAILABLE;
const HEALTHY: &str = RevisionStatus::CONTAINER_HEALTHY;
const ACTIVE: &str = RevisionStatus::ACTIVE;
const DEPLOYING: &str = "Deploying";
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
/// kubelet alternates between the two while an image cannot be had.
const PULLING: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

/// An object of somebody else in the place of a child.
pub(super) struct Occupied {
    pub(super) kind: &'static str,
    pub(super) name: String,
}

/// What is known after the children were applied.
pub(super) enum Observed {
    /// A child's name belongs to somebody else.
    Occupied(Occupied),
    /// The API server refuses the Deployment; why.
    Refused(String),
    /// Both are there.
    Made(Box<Running>),
}

/// The children and what became of them.
pub(super) struct Running {
    deployment: Arc<Deployment>,
    autoscaler: Arc<PodAutoscaler>,
    pods: Vec<Arc<Pod>>,
}

// === impl Observed ===

impl Observed {
    /// A child's name belongs to somebody else.
    pub(super) fn occupied(by: Occupied) -> Self {
        Self::Occupied(by)
    }

    /// The API server refuses the Deployment.
    pub(super) fn refused(message: String) -> Self {
        Self::Refused(message)
    }

    /// Both children are there.
    pub(super) fn made(
        deployment: Arc<Deployment>,
        autoscaler: Arc<PodAutoscaler>,
        pods: Vec<Arc<Pod>>,
    ) -> Self {
        Self::Made(Box::new(Running { deployment, autoscaler, pods }))
    }
}

// === impl Running ===

impl Running {
    fn wanted(&self) -> i32 {
        let spec = self.deployment.spec.as_ref();
        spec.and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn available(&self) -> i32 {
        let status = self.deployment.status.as_ref();
        status.and_then(|status| status.available_replicas).unwrap_or(0)
    }

    fn deployment_condition(&self, type_: &str, status: &str) -> Option<&DeploymentCondition> {
        let conditions = self.deployment.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == type_ && condition.status == status)
    }

    /// The Deployment controller's word that the deadline has passed.
    fn overdue(&self) -> Option<String> {
        let progressing = self
            .deployment_condition("Progressing", "False")
            .filter(|condition| condition.reason.as_deref() == Some(DEADLINE_EXCEEDED))?;
        Some(progressing.message.clone().unwrap_or_default())
    }

    /// Why no pod object can be made, if that is so: a quota, or a policy.
    fn refused_pod(&self) -> Option<(&str, &str)> {
        let failure = self.deployment_condition("ReplicaFailure", "True")?;
        let reason = failure.reason.as_deref().unwrap_or("FailedCreate");
        Some((reason, failure.message.as_deref().unwrap_or_default()))
    }

    fn was_initialized(&self) -> bool {
        self.autoscaler_condition(PodAutoscalerStatus::SCALE_TARGET_INITIALIZED)
            .is_some_and(Condition::is_true)
    }

    fn autoscaler_condition(&self, type_: &str) -> Option<&Condition> {
        condition::find(&self.autoscaler.status.as_ref()?.conditions, type_)
    }
}

/// The status that follows from what is observed.
pub(super) fn of(revision: &Revision, observed: &Observed, now: Timestamp) -> RevisionStatus {
    let mut status = revision.status.clone().unwrap_or_default();
    let mut list = std::mem::take(&mut status.conditions);
    let mut conditions = RevisionStatus::CONDITIONS.manage(&mut list, now);
    conditions.initialize();
    status.observed_generation = revision.metadata.generation;
    describe_images(revision, &mut status);
    match observed {
        Observed::Occupied(Occupied { kind, name }) => {
            conditions.mark_false(RESOURCES, "NotOwned", &owner::not_owned(kind, name));
        }
        Observed::Refused(message) => conditions.mark_false(RESOURCES, "FailedCreate", message),
        Observed::Made(running) => {
            let scale = running.autoscaler.status.as_ref();
            let known = |scale: Option<i32>| scale.filter(|scale| *scale >= 0);
            status.actual_replicas = known(scale.and_then(|status| status.actual_scale));
            status.desired_replicas = known(scale.and_then(|status| status.desired_scale));
            judge_start(running, &mut conditions);
            judge_activity(running, &mut conditions);
        }
    }
    status.conditions = list;
    status
}

/// How much the step from `old` to `new` matters to anybody.
pub(super) fn news(old: &RevisionStatus, new: &RevisionStatus) -> News {
    if old == new {
        return News::None;
    }
    let generations = (old.observed_generation, new.observed_generation);
    settling::weigh(&old.conditions, &new.conditions, generations)
}

/// What a person may want to be told about the step from `old` to `new`.
pub(super) fn notices(old: &RevisionStatus, new: &RevisionStatus) -> Vec<Notice> {
    let before = condition::find(&old.conditions, READY);
    let Some(ready) = condition::find(&new.conditions, READY) else {
        return Vec::new();
    };
    if ready.is_false() && before.is_none_or(|before| before.reason != ready.reason) {
        let reason = ready.reason.as_deref().unwrap_or_default();
        let message = ready.message.as_deref().unwrap_or_default();
        let note = format!("{reason}: {message}");
        return vec![Notice::warning("RevisionFailed", note)];
    }
    Vec::new()
}

fn describe_images(revision: &Revision, status: &mut RevisionStatus) {
    let image = |name: String, container: &Container| ContainerStatus {
        name: Some(name),
        image_digest: container.image.clone(),
    };
    let pod = &revision.spec.pod;
    status.container_statuses = pod
        .containers
        .iter()
        .enumerate()
        .map(|(index, container)| image(pod::container_name(revision, index), container))
        .collect();
    status.init_container_statuses = pod
        .init_containers
        .iter()
        .flatten()
        .map(|container| image(container.name.clone(), container))
        .collect();
}

/// Whether the last start, or the one under way, goes well.
fn judge_start(running: &Running, conditions: &mut Conditions<'_>) {
    let failed = [RESOURCES, HEALTHY]
        .iter()
        .any(|type_| conditions.get(type_).is_some_and(Condition::is_false));
    if running.available() > 0 {
        if running.was_initialized() {
            conditions.mark_true(RESOURCES);
            conditions.mark_true(HEALTHY);
        } else {
            deploying(conditions);
        }
    } else if running.wanted() > 0 {
        judge_stalled(running, failed, conditions);
    } else if failed {
        // Scaled to zero after a start that failed: still what happened last.
    } else if running.was_initialized() {
        conditions.mark_true(RESOURCES);
        conditions.mark_true(HEALTHY);
    } else if gave_up(running) {
        conditions.mark_false(RESOURCES, DEADLINE_EXCEEDED, "Initial scale was never achieved");
    } else {
        deploying(conditions);
    }
}

/// There should be pods and none is available.
fn judge_stalled(running: &Running, failed: bool, conditions: &mut Conditions<'_>) {
    if let Some(found) = failure::find(&running.pods) {
        let type_ = match found.part {
            Part::Resources => RESOURCES,
            Part::Container => HEALTHY,
        };
        let other = if type_ == RESOURCES { HEALTHY } else { RESOURCES };
        if !is_same_trouble(conditions.get(type_), &found.reason) {
            conditions.mark_false(type_, &found.reason, &found.message);
        }
        // One cause at a time: the earlier one is over if something else is wrong now.
        if conditions.get(other).is_some_and(Condition::is_false) {
            conditions.mark_unknown(other, DEPLOYING, "");
        }
    } else if let Some((reason, message)) = running.refused_pod() {
        conditions.mark_false(RESOURCES, reason, message);
    } else if let Some(mut message) = running.overdue() {
        if let Some(why) = failure::unready(&running.pods) {
            if !message.is_empty() {
                message.push(' ');
            }
            message.push_str(&why);
        }
        if message.is_empty() {
            "Initial scale was never achieved".clone_into(&mut message);
        }
        conditions.mark_false(RESOURCES, DEADLINE_EXCEEDED, &message);
    } else if running.was_initialized() {
        // A wake under way. After one that failed, only success is news.
        if !failed {
            conditions.mark_true(RESOURCES);
            conditions.mark_true(HEALTHY);
        }
    } else if gave_up(running) {
        if !failed {
            conditions.mark_false(RESOURCES, DEADLINE_EXCEEDED, "Initial scale was never achieved");
        }
    } else {
        deploying(conditions);
    }
}

fn deploying(conditions: &mut Conditions<'_>) {
    conditions.mark_unknown(RESOURCES, DEPLOYING, "");
    conditions.mark_unknown(HEALTHY, DEPLOYING, "");
}

/// Whether the autoscaler took the pods away before the initial scale was reached.
fn gave_up(running: &Running) -> bool {
    running
        .autoscaler_condition(READY)
        .is_some_and(|ready| ready.is_false() && ready.reason.as_deref() == Some("TimedOut"))
}

/// Whether the condition already tells of this, under another of kubelet's names for it.
fn is_same_trouble(condition: Option<&Condition>, reason: &str) -> bool {
    condition.is_some_and(|condition| {
        let told = condition.reason.as_deref().unwrap_or_default();
        condition.is_false() && PULLING.contains(&reason) && PULLING.contains(&told)
    })
}

/// Whether there are pods: the autoscaler's word.
fn judge_activity(running: &Running, conditions: &mut Conditions<'_>) {
    match running.autoscaler_condition(READY) {
        None => conditions.mark_unknown(ACTIVE, DEPLOYING, ""),
        Some(ready) if ready.status == Status::True => conditions.mark_true(ACTIVE),
        Some(ready) => conditions.propagate(ACTIVE, Some(ready)),
    }
}

#[cfg(test)]
mod tests;
