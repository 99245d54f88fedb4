//! The status of a Revision. Reasons and texts: knative/serving
//! pkg/apis/serving/v1/revision_lifecycle.go and pkg/reconciler/revision.
//!
//! Ready means "the last start went well", not "there are pods": scale to zero keeps it. A start
//! that fails later, when a request wakes the Revision, makes it not Ready, and the next start that
//! works makes it Ready again.

use std::sync::Arc;

use ebb_api::annotations;
use ebb_api::condition::{self, Condition, Conditions, READY, Status};
use ebb_api::serving::{ContainerStatus, Revision, RevisionStatus};
use ebb_api::start_phase::START;
use ebb_api::starts::{STARTS, Starts};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::failure::{self, Part};
use super::{pod, start};
use crate::events::Notice;
use crate::owner;
use crate::settling::{self, News};

const RESOURCES: &str = RevisionStatus::RESOURCES_AVAILABLE;
const HEALTHY: &str = RevisionStatus::CONTAINER_HEALTHY;
const ACTIVE: &str = RevisionStatus::ACTIVE;
const TIMED_OUT: (&str, &str) = RevisionStatus::TIMED_OUT;
const DEPLOYING: &str = "Deploying";
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
/// kubelet alternates between these two reasons while it cannot pull an image.
const PULLING: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

/// A foreign object in the place of a child.
pub(super) struct Occupied {
    pub(super) kind: &'static str,
    pub(super) name: String,
}

/// The outcome of applying the Deployment.
pub(super) enum Observed {
    /// A foreign Deployment has the name.
    Occupied(Occupied),
    /// The API server refuses the Deployment, with this message.
    Refused(String),
    /// The Deployment exists.
    Made(Box<Running>),
}

/// The Deployment and its pods.
pub(super) struct Running {
    deployment: Arc<Deployment>,
    pods: Vec<Arc<Pod>>,
    /// Replicas that must be reached once.
    first: i32,
}

// === impl Observed ===

impl Observed {
    /// A foreign Deployment has the name.
    pub(super) fn occupied(by: Occupied) -> Self {
        Self::Occupied(by)
    }

    /// The API server refuses the Deployment.
    pub(super) fn refused(message: String) -> Self {
        Self::Refused(message)
    }

    /// The Deployment exists; `first` replicas of it must be reached once.
    pub(super) fn made(deployment: Arc<Deployment>, pods: Vec<Arc<Pod>>, first: i32) -> Self {
        Self::Made(Box::new(Running { deployment, pods, first }))
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

    /// The Deployment controller's message that the deadline has passed, if it has.
    fn overdue(&self) -> Option<String> {
        let progressing = self
            .deployment_condition("Progressing", "False")
            .filter(|condition| condition.reason.as_deref() == Some(DEADLINE_EXCEEDED))?;
        Some(progressing.message.clone().unwrap_or_default())
    }

    /// Reason and message if no pod object can be made, because of a quota or a policy.
    fn refused_pod(&self) -> Option<(&str, &str)> {
        let failure = self.deployment_condition("ReplicaFailure", "True")?;
        let reason = failure.reason.as_deref().unwrap_or("FailedCreate");
        Some((reason, failure.message.as_deref().unwrap_or_default()))
    }

    /// Whether the initial scale is reached now. Before that the autoscaler asks for no less; under
    /// load it may ask for more.
    fn is_up(&self) -> bool {
        let available = self.available();
        available >= self.first.min(self.wanted()) && (available > 0 || self.first == 0)
    }

    /// How long a start may take.
    fn deadline(&self) -> SignedDuration {
        let spec = self.deployment.spec.as_ref();
        let seconds = spec.and_then(|spec| spec.progress_deadline_seconds).unwrap_or(600);
        SignedDuration::from_secs(i64::from(seconds))
    }
}

/// The status that follows from what is observed.
pub(super) fn of(revision: &Revision, observed: &Observed, now: Timestamp) -> RevisionStatus {
    let mut status = revision.status.clone().unwrap_or_default();
    let before = (status.has_failed(), status.was_initialized());
    let mut list = std::mem::take(&mut status.conditions);
    let mut conditions = RevisionStatus::CONDITIONS.manage(&mut list, now);
    conditions.initialize();
    status.observed_generation = revision.metadata.generation;
    describe_images(revision, &mut status);
    status.annotations.remove(START);
    match observed {
        Observed::Occupied(Occupied { kind, name }) => {
            conditions.mark_false(RESOURCES, "NotOwned", &owner::not_owned(kind, name));
        }
        Observed::Refused(message) => conditions.mark_false(RESOURCES, "FailedCreate", message),
        Observed::Made(running) => {
            // Until Ebb's autoscaler decides, and for any other class, the Deployment's own number
            // counts.
            let is_ours = annotations::is_scaled_here(revision.metadata.annotations.as_ref());
            let decided = status.desired_replicas.filter(|_| is_ours);
            let desired = decided.unwrap_or_else(|| running.wanted());
            status.desired_replicas = Some(desired);
            status.actual_replicas = Some(running.available());
            let (has_failed, was_initialized) = before;
            let is_initialized = was_initialized || running.is_up();
            let activity = conditions.get(ACTIVE).cloned();
            judge_activity(running, desired, is_initialized, &mut conditions, now);
            if !has_failed
                && conditions.get(ACTIVE).is_some_and(Condition::is_true)
                && let Some(took) =
                    start::measured(&running.pods, activity.as_ref(), running.deadline())
            {
                let mut starts = Starts::of(revision);
                starts.add(took);
                status.annotations.insert(STARTS.to_owned(), starts.to_string());
            }
            let active = conditions.get(ACTIVE);
            if active.is_some_and(|active| active.status == Status::Unknown) {
                let told = start::under_way(&running.pods, active, &Starts::of(revision));
                status.annotations.insert(START.to_owned(), told);
            }
            judge_start(running, has_failed, is_initialized, &mut conditions);
        }
    }
    status.conditions = list;
    status
}

/// How urgent the change from `old` to `new` is.
pub(super) fn news(old: &RevisionStatus, new: &RevisionStatus) -> News {
    if old == new {
        return News::None;
    }
    let generations = (old.observed_generation, new.observed_generation);
    settling::weigh(&old.conditions, &new.conditions, generations)
}

/// Events for people about the change from `old` to `new`.
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

/// Judges the last start, or the start under way.
fn judge_start(
    running: &Running,
    failed: bool,
    is_initialized: bool,
    conditions: &mut Conditions<'_>,
) {
    if running.available() > 0 {
        if is_initialized {
            conditions.mark_true(RESOURCES);
            conditions.mark_true(HEALTHY);
        } else {
            deploying(conditions);
        }
    } else if running.wanted() > 0 {
        judge_stalled(running, failed, is_initialized, conditions);
    } else if failed {
        // Scaled to zero after a failed start: the failure is still what happened last.
    } else if is_initialized {
        conditions.mark_true(RESOURCES);
        conditions.mark_true(HEALTHY);
    } else if gave_up(conditions) {
        conditions.mark_false(RESOURCES, DEADLINE_EXCEEDED, "Initial scale was never achieved");
    } else {
        deploying(conditions);
    }
}

/// Judges a Revision that should have pods and has none available.
fn judge_stalled(
    running: &Running,
    failed: bool,
    is_initialized: bool,
    conditions: &mut Conditions<'_>,
) {
    if let Some(found) = failure::find(&running.pods) {
        let type_ = match found.part {
            Part::Resources => RESOURCES,
            Part::Container => HEALTHY,
        };
        let other = if type_ == RESOURCES { HEALTHY } else { RESOURCES };
        if !is_same_trouble(conditions.get(type_), &found.reason) {
            conditions.mark_false(type_, &found.reason, &found.message);
        }
        // One cause at a time: the earlier trouble is over if something else is wrong now.
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
    } else if is_initialized {
        // A wake is under way. After a failed wake, only success changes the conditions.
        if !failed {
            conditions.mark_true(RESOURCES);
            conditions.mark_true(HEALTHY);
        }
    } else {
        deploying(conditions);
    }
}

fn deploying(conditions: &mut Conditions<'_>) {
    conditions.mark_unknown(RESOURCES, DEPLOYING, "");
    conditions.mark_unknown(HEALTHY, DEPLOYING, "");
}

/// Whether the autoscaler removed the pods because their start took too long.
fn gave_up(conditions: &Conditions<'_>) -> bool {
    let active = conditions.get(ACTIVE);
    active.is_some_and(|it| it.is_false() && it.reason.as_deref() == Some(TIMED_OUT.0))
}

/// Whether the condition already reports this trouble under the other of kubelet's reasons for it.
fn is_same_trouble(condition: Option<&Condition>, reason: &str) -> bool {
    condition.is_some_and(|condition| {
        let told = condition.reason.as_deref().unwrap_or_default();
        condition.is_false() && PULLING.contains(&reason) && PULLING.contains(&told)
    })
}

/// Judges whether there are pods, or will be.
fn judge_activity(
    running: &Running,
    desired: i32,
    is_initialized: bool,
    conditions: &mut Conditions<'_>,
    now: Timestamp,
) {
    if desired == 0 {
        let before = conditions.get(ACTIVE);
        if before.is_some_and(Condition::is_false) {
            return;
        }
        // The autoscaler gives up an activation only some time after the deadline. If it asks for
        // no replicas before that, no request waits.
        let since = before.filter(|it| it.status == Status::Unknown);
        let since = since.and_then(|it| it.last_transition_time.as_ref());
        let is_late = since.is_some_and(|since| now.duration_since(since.0) >= running.deadline());
        let (reason, message) = if is_late { TIMED_OUT } else { RevisionStatus::NO_TRAFFIC };
        conditions.mark_false(ACTIVE, reason, message);
    } else if is_initialized && running.available() > 0 {
        conditions.mark_true(ACTIVE);
    } else if is_initialized {
        let (reason, message) = RevisionStatus::QUEUED;
        conditions.mark_unknown(ACTIVE, reason, message);
    } else {
        conditions.mark_unknown(ACTIVE, DEPLOYING, "");
    }
}

#[cfg(test)]
mod tests;
