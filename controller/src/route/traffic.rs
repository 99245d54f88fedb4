//! Resolves the split that was asked for to Revisions. Source: knative/serving
//! pkg/reconciler/route/traffic.
//!
//! All or nothing: one target that cannot be resolved leaves the whole split as it was, for half
//! of a split is a split that nobody asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebb_api::condition::{self, Condition, READY};
use ebb_api::labels;
use ebb_api::serving::{Configuration, Revision, Route, TrafficTarget};
use kube::ResourceExt as _;

/// Everything that a Route refers to, by name.
#[derive(Debug, Default)]
pub(crate) struct Referenced {
    pub(super) configurations: BTreeMap<String, Arc<Configuration>>,
    pub(super) revisions: BTreeMap<String, Arc<Revision>>,
}

/// Why a split cannot be resolved, in Knative's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Whether waiting alone will not help.
    pub(super) failed: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The split with every target resolved to a Revision, in the order that was asked for; equal
/// targets are one.
pub(super) fn resolve(
    route: &Route,
    referenced: &Referenced,
) -> Result<Vec<TrafficTarget>, Problem> {
    let mut resolved: Vec<TrafficTarget> = Vec::with_capacity(route.spec.traffic.len());
    let mut problem: Option<Problem> = None;
    for target in &route.spec.traffic {
        match resolve_one(route, target, referenced) {
            Ok(Some(target)) => merge(&mut resolved, target),
            // A failure outweighs a problem that may pass.
            Err(found) if found.failed || problem.is_none() => problem = Some(found),
            Ok(None) | Err(_) => {}
        }
    }
    match problem {
        None => Ok(resolved),
        Some(problem) => Err(problem),
    }
}

fn resolve_one(
    route: &Route,
    target: &TrafficTarget,
    referenced: &Referenced,
) -> Result<Option<TrafficTarget>, Problem> {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let revision = if let Some(name) = named(&target.revision_name) {
        let revision = find(&referenced.revisions, "Revision", &name)?;
        check_owner(route, revision)?;
        check_ready(revision)?;
        revision
    } else if let Some(name) = named(&target.configuration_name) {
        let configuration = find(&referenced.configurations, "Configuration", &name)?;
        let status = configuration.status.as_ref();
        let latest = status
            .and_then(|status| status.latest_ready_revision_name.as_ref())
            .ok_or_else(|| never_ready(configuration))?;
        find(&referenced.revisions, "Revision", latest)?
    } else {
        return Ok(None);
    };
    Ok(Some(TrafficTarget {
        configuration_name: None,
        revision_name: Some(revision.name_any()),
        url: None,
        latest_revision: target.latest_revision,
        percent: target.percent,
        tag: target.tag.clone().filter(|tag| !tag.is_empty()),
    }))
}

fn find<'a, K>(
    all: &'a BTreeMap<String, Arc<K>>,
    kind: &'static str,
    name: &str,
) -> Result<&'a K, Problem> {
    all.get(name).map(AsRef::as_ref).ok_or_else(|| Problem {
        failed: true,
        reason: if kind == "Revision" { "RevisionMissing" } else { "ConfigurationMissing" },
        message: format!("{kind} {name:?} referenced in traffic not found."),
    })
}

/// A Service's Route must not send requests to another Service's Revision: the Route's author may
/// not have been allowed to see that Revision.
fn check_owner(route: &Route, revision: &Revision) -> Result<(), Problem> {
    let Some(service) = route.labels().get(labels::SERVICE) else {
        return Ok(());
    };
    if revision.labels().get(labels::SERVICE) == Some(service) {
        return Ok(());
    }
    let name = revision.name_any();
    Err(Problem {
        failed: true,
        reason: "RevisionNotOwned",
        message: format!("Revision {name:?} is not owned by Service {service:?}."),
    })
}

fn check_ready(revision: &Revision) -> Result<(), Problem> {
    let status = revision.status.as_ref();
    let ready = status.and_then(|status| condition::find(&status.conditions, READY));
    let observed = status.and_then(|status| status.observed_generation);
    if observed == revision.metadata.generation && ready.is_some_and(Condition::is_true) {
        return Ok(());
    }
    let name = revision.name_any();
    Err(if ready.is_some_and(Condition::is_false) {
        Problem {
            failed: true,
            reason: "RevisionMissing",
            message: format!("Revision {name:?} failed to become ready."),
        }
    } else {
        Problem {
            failed: false,
            reason: "RevisionMissing",
            message: format!("Revision {name:?} is not yet ready."),
        }
    })
}

fn never_ready(configuration: &Configuration) -> Problem {
    let name = configuration.name_any();
    let failed = configuration
        .status
        .as_ref()
        .and_then(|status| condition::find(&status.conditions, READY))
        .is_some_and(Condition::is_false);
    let message = if failed {
        format!("Configuration {name:?} does not have any ready Revision.")
    } else {
        format!("Configuration {name:?} is waiting for a Revision to become ready.")
    };
    Problem { failed, reason: "RevisionMissing", message }
}

/// Adds a target, or only its share where one with the same Revision, tag and latest-flag exists.
fn merge(resolved: &mut Vec<TrafficTarget>, target: TrafficTarget) {
    let same = resolved.iter_mut().find(|other| {
        other.tag == target.tag
            && other.revision_name == target.revision_name
            && other.latest_revision == target.latest_revision
    });
    let Some(same) = same else {
        resolved.push(target);
        return;
    };
    if same.percent.is_some() || target.percent.is_some() {
        let percent = same.percent.unwrap_or(0).saturating_add(target.percent.unwrap_or(0));
        same.percent = Some(percent);
    }
}

#[cfg(test)]
pub(super) mod tests;
