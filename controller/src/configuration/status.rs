//! The status of a Configuration. Reasons and texts: knative/serving
//! pkg/apis/serving/v1/configuration_lifecycle.go.

use std::sync::Arc;

use ebb_api::condition::{self, Condition, READY, Status};
use ebb_api::serving::{Configuration, ConfigurationStatus, Revision};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::validate::{Newest, generation};
use crate::events::Notice;
use crate::owner;
use crate::settling::{self, News};

const REVISION_FAILED: &str = "RevisionFailed";

/// The status that follows from the Revisions.
pub(super) fn of(
    configuration: &Configuration,
    newest: &Newest,
    revisions: &[Arc<Revision>],
    now: Timestamp,
) -> ConfigurationStatus {
    let mut status = configuration.status.clone().unwrap_or_default();
    let mut list = std::mem::take(&mut status.conditions);
    let mut conditions = ConfigurationStatus::CONDITIONS.manage(&mut list, now);
    conditions.initialize();
    status.observed_generation = configuration.metadata.generation;
    match newest {
        Newest::Impossible(message) => {
            let text = format!("Revision creation failed with message: {message}.");
            conditions.mark_false(READY, REVISION_FAILED, &text);
        }
        Newest::Made(created) => {
            let name = created.name_any();
            status.latest_created_revision_name = Some(name.clone());
            if let Some(ready) = latest_ready(configuration, &status, created, revisions) {
                status.latest_ready_revision_name = Some(ready);
            }
            let is_latest = status.latest_ready_revision_name.as_ref() == Some(&name);
            match condition_of(created) {
                Some(ready) if ready.is_false() => {
                    let message = ready.message.as_deref().unwrap_or_default();
                    let text = format!("Revision {name:?} failed with message: {message}.");
                    conditions.mark_false(READY, REVISION_FAILED, &text);
                }
                Some(ready) if ready.is_true() && is_latest => conditions.mark_true(READY),
                // A Revision that was ready and is Unknown again (say, at a new generation of its
                // own) leaves the Configuration's Ready as it is.
                _ if is_latest => {}
                _ => conditions.mark_unknown(READY, "", ""),
            }
        }
    }
    status.conditions = list;
    status
}

/// How urgent the change from `old` to `new` is.
pub(super) fn news(old: &ConfigurationStatus, new: &ConfigurationStatus) -> News {
    if old == new {
        News::None
    } else if old.latest_ready_revision_name != new.latest_ready_revision_name {
        // The Route moves its requests to that Revision on this change.
        News::Urgent
    } else {
        let generations = (old.observed_generation, new.observed_generation);
        settling::weigh(&old.conditions, &new.conditions, generations)
    }
}

/// Events for people about the change from `old` to `new`.
pub(super) fn notices(old: &ConfigurationStatus, new: &ConfigurationStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    // The first ready Revision replaces none, and its readiness shows in the status anyway.
    if let Some(replaced) = &old.latest_ready_revision_name
        && let Some(name) = &new.latest_ready_revision_name
        && replaced != name
    {
        let note = format!("LatestReadyRevisionName updated to {name:?}");
        notices.push(Notice::normal("LatestReadyUpdate", note));
    }
    let before = condition::find(&old.conditions, READY);
    if let Some(ready) = condition::find(&new.conditions, READY)
        && ready.is_false()
        && !before.is_some_and(Condition::is_false)
        && let Some(name) = &new.latest_created_revision_name
    {
        notices.push(if new.latest_ready_revision_name.as_ref() == Some(name) {
            let note = format!("Latest ready revision {name:?} has failed");
            Notice::warning("LatestReadyFailed", note)
        } else {
            let note = format!("Latest created revision {name:?} has failed");
            Notice::warning("LatestCreatedFailed", note)
        });
    }
    notices
}

/// The newest Revision that is ready, from the one that was latest ready up to the one that was
/// created last; `None` if none of them is ready, so that the old one keeps serving.
fn latest_ready(
    configuration: &Configuration,
    status: &ConfigurationStatus,
    created: &Arc<Revision>,
    revisions: &[Arc<Revision>],
) -> Option<String> {
    if is_ready(created) {
        return Some(created.name_any());
    }
    let serving = status.latest_ready_revision_name.as_ref();
    let since = revisions
        .iter()
        .find(|revision| Some(&revision.name_any()) == serving)
        .and_then(|revision| generation(revision))
        .unwrap_or(0);
    revisions
        .iter()
        .filter(|revision| owner::controls(configuration, &***revision) && is_ready(revision))
        .filter_map(|revision| Some((generation(revision)?, revision.name_any())))
        .filter(|(generation, _)| {
            *generation >= since && Some(*generation) <= configuration.metadata.generation
        })
        .max()
        .map(|(_, name)| name)
}

fn is_ready(revision: &Revision) -> bool {
    let observed = revision.status.as_ref().and_then(|status| status.observed_generation);
    observed == revision.metadata.generation
        && condition_of(revision).is_some_and(|ready| ready.status == Status::True)
}

fn condition_of(revision: &Revision) -> Option<&Condition> {
    condition::find(&revision.status.as_ref()?.conditions, READY)
}

#[cfg(test)]
mod tests;
