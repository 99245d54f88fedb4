//! Which Revisions that no Route refers to any more are deleted: pure. Source: knative/serving
//! pkg/reconciler/gc/gc.go.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::annotations;
use ebb_api::config::GcConfig;
use ebb_api::serving::{Configuration, ConfigurationStatus, Revision};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::events::Notice;
use crate::owner;

/// Most Revisions that are deleted in one reconcile, which all else of the Configuration waits for.
const DELETED_MAX: usize = 16;
/// Pause before the rest are, if no event of a deletion comes first.
const NEXT_AFTER: Duration = Duration::from_secs(1);
/// Longest pause before a Configuration is looked at again: after it the settings count anew even if
/// the clock was set meanwhile.
const LOOK_AGAIN_MAX: Duration = Duration::from_hours(12);

/// What a look at a Configuration's Revisions leads to.
#[derive(Debug, Default)]
pub(super) struct Collection {
    /// The Revisions to delete, the one that was unused for longest first.
    pub(super) garbage: Vec<Arc<Revision>>,
    /// After which time another one may have become old enough.
    pub(super) look_again: Option<Duration>,
}

/// Chooses among the `revisions`. Never chosen are: the latest, and the latest that is ready, by the
/// Configuration's `status`; one that a Route refers to, by its label or as `is_referenced` says of its
/// name; one that no Route's reconcile has looked at yet; one with the annotation `no-gc`.
pub(super) fn collection(
    configuration: &Configuration,
    status: &ConfigurationStatus,
    revisions: &[Arc<Revision>],
    is_referenced: impl Fn(&str) -> bool,
    config: &GcConfig,
    now: Timestamp,
) -> Collection {
    let latest = [&status.latest_created_revision_name, &status.latest_ready_revision_name];
    let is_latest = |name: &String| latest.into_iter().flatten().any(|latest| latest == name);
    let is_idle = |revision: &&Arc<Revision>| {
        let name = revision.name_any();
        owner::controls(configuration, &***revision)
            && revision.metadata.deletion_timestamp.is_none()
            && !revision.is_reachable()
            && !is_kept(revision)
            && !is_latest(&name)
            && !is_referenced(&name)
    };
    let mut idle: Vec<_> = revisions.iter().filter(is_idle).cloned().collect();
    idle.sort_by_key(|revision| (last_active(revision), revision.name_any()));
    let spare = idle.len().saturating_sub(config.min_non_active);
    let surplus = config.max_non_active.map_or(0, |max| idle.len().saturating_sub(max));
    let stale_at: Vec<_> = idle.iter().map(|revision| stale_at(revision, config)).collect();
    let is_stale = |index: &usize| stale_at[*index].is_some_and(|at| at <= now);
    // Stable: the oldest of both groups first.
    let mut order: Vec<_> = (0..idle.len()).collect();
    order.sort_by_key(|index| Reverse(is_stale(index)));
    let stale = order.iter().filter(|index| is_stale(index)).count().min(spare);
    let chosen = stale.max(surplus);
    let first = order.iter().take(chosen.min(DELETED_MAX));
    let garbage = first.map(|index| idle[*index].clone()).collect();
    let look_again = if chosen > DELETED_MAX {
        Some(NEXT_AFTER)
    } else if spare > chosen {
        let next = order[chosen..].iter().filter_map(|index| stale_at[*index]).min();
        next.map(|at| until(at, now).min(LOOK_AGAIN_MAX))
    } else {
        None
    };
    Collection { garbage, look_again }
}

/// What to tell of the Revisions that were deleted, if any was.
pub(super) fn notice(deleted: &[Arc<Revision>]) -> Option<Notice> {
    let names: Vec<_> = deleted.iter().map(|revision| revision.name_any()).collect();
    (!names.is_empty()).then(|| {
        let note = format!(
            "Deleted what no Route refers to, as config-gc says: Revisions {}",
            names.join(", ")
        );
        Notice::normal("RevisionsDeleted", note)
    })
}

/// Whether its owner keeps it by an annotation.
fn is_kept(revision: &Revision) -> bool {
    let note = revision.annotations().get(annotations::NO_GC);
    note.is_some_and(|note| note.eq_ignore_ascii_case("true"))
}

/// When a Route last referred to it, or else when it was made. It is idle: the time of its label is when
/// the last Route let go of it.
fn last_active(revision: &Revision) -> Timestamp {
    let noted = revision.annotations().get(annotations::ROUTING_STATE_MODIFIED);
    noted.and_then(|time| time.parse().ok()).unwrap_or_else(|| created(revision))
}

fn created(revision: &Revision) -> Timestamp {
    revision.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// When it is old enough to go; `None` if its age does not matter.
fn stale_at(revision: &Revision, config: &GcConfig) -> Option<Timestamp> {
    let after = |time: Timestamp, pause: Option<Duration>| {
        pause.map(|pause| time.saturating_add(pause).unwrap_or(Timestamp::MAX))
    };
    let of_create = after(created(revision), config.retain_since_create);
    of_create.max(after(last_active(revision), config.retain_since_active))
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
