//! The status of a Service: what its Configuration and its Route say. Reasons and texts:
//! knative/serving pkg/apis/serving/v1/service_lifecycle.go.

use std::sync::Arc;

use ebb_api::condition::{self, Condition, Conditions, READY, Status};
use ebb_api::serving::{
    Configuration, ConfigurationStatus, Route, RouteStatus, Service, ServiceStatus, TrafficTarget,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::build;
use super::build::Desired;
use crate::owner;
use crate::scribe::WriteError;
use crate::settling::{self, News};

const OUT_OF_DATE: &str = "OutOfDate";

/// The state of a child.
pub(super) enum Fate<K> {
    /// The child exists and is as it should be.
    Ours(Arc<K>),
    /// A foreign object has the child's name.
    Foreign,
    /// The child is not made yet: something else must be known first.
    Waiting,
    /// The child was left as it is: the name of the next Revision is taken.
    NameTaken,
}

/// Both children.
pub(super) struct Children {
    pub(super) configuration: Fate<Configuration>,
    pub(super) route: Fate<Route>,
}

// === impl Children ===

impl Children {
    /// The error if a foreign object has the name of a child: only somebody else can remove that
    /// object. A taken name of the next Revision is the Configuration's to find out.
    pub(super) fn obstacle(&self, desired: &Desired) -> Option<WriteError> {
        if matches!(self.configuration, Fate::Foreign) {
            Some(WriteError::taken(&desired.configuration))
        } else if matches!(self.route, Fate::Foreign) {
            Some(WriteError::taken(&desired.route))
        } else {
            None
        }
    }
}

/// Whether the Configuration's status describes its spec.
pub(super) fn is_current(configuration: &Configuration) -> bool {
    let status = configuration.status.as_ref();
    status.and_then(|status| status.observed_generation) == configuration.metadata.generation
}

/// The status that follows from the children.
pub(super) fn of(service: &Service, children: &Children, now: Timestamp) -> ServiceStatus {
    let Children { configuration, route } = children;
    let mut status = service.status.clone().unwrap_or_default();
    let mut list = std::mem::take(&mut status.conditions);
    let mut conditions = ServiceStatus::CONDITIONS.manage(&mut list, now);
    conditions.initialize();
    follow_configuration(service, configuration, &mut status, &mut conditions);
    follow_route(service, route, &mut status, &mut conditions);
    if let (Fate::Ours(configuration), Fate::Ours(route)) = (configuration, route)
        && conditions.get(ServiceStatus::ROUTES_READY).is_some_and(Condition::is_true)
        && !has_migrated(configuration, route)
    {
        conditions.mark_unknown(
            ServiceStatus::ROUTES_READY,
            "TrafficNotMigrated",
            "Traffic is not yet migrated to the latest revision.",
        );
    }
    status.conditions = list;
    status.observed_generation = service.metadata.generation;
    status
}

/// How urgent the change from `old` to `new` is.
pub(super) fn news(old: &ServiceStatus, new: &ServiceStatus) -> News {
    if old == new {
        return News::None;
    }
    // Tools that shift traffic wait until the new split is in this status.
    if !old.traffic.is_empty() && old.traffic != new.traffic {
        return News::Urgent;
    }
    let generations = (old.observed_generation, new.observed_generation);
    settling::weigh(&old.conditions, &new.conditions, generations)
}

fn follow_configuration(
    service: &Service,
    fate: &Fate<Configuration>,
    status: &mut ServiceStatus,
    conditions: &mut Conditions<'_>,
) {
    const CONDITION: &str = ServiceStatus::CONFIGURATIONS_READY;
    match fate {
        Fate::Ours(configuration) if is_current(configuration) => {
            let known = configuration.status.clone().unwrap_or_default();
            let ConfigurationStatus {
                observed_generation: _,
                conditions: theirs,
                latest_created_revision_name,
                latest_ready_revision_name,
            } = known;
            status.latest_created_revision_name = latest_created_revision_name;
            status.latest_ready_revision_name = latest_ready_revision_name;
            follow(CONDITION, &theirs, conditions);
        }
        Fate::Ours(_) => conditions.mark_unknown(
            CONDITION,
            OUT_OF_DATE,
            "The Configuration is still working to reflect the latest desired specification.",
        ),
        Fate::Foreign => {
            let text = owner::not_owned("Configuration", &service.name_any());
            conditions.mark_false(CONDITION, "NotOwned", &text);
            conditions.clear(RouteStatus::MODELS_REACHABLE);
        }
        Fate::Waiting | Fate::NameTaken => conditions.mark_unknown(CONDITION, "", ""),
    }
}

fn follow_route(
    service: &Service,
    fate: &Fate<Route>,
    status: &mut ServiceStatus,
    conditions: &mut Conditions<'_>,
) {
    const CONDITION: &str = ServiceStatus::ROUTES_READY;
    match fate {
        Fate::Ours(route) if is_route_current(route) => {
            let known = route.status.clone().unwrap_or_default();
            let RouteStatus { conditions: theirs, url, address, traffic, .. } = known;
            status.url = url;
            status.address = address;
            status.traffic = traffic;
            follow(CONDITION, &theirs, conditions);
            match condition::find(&theirs, RouteStatus::MODELS_REACHABLE) {
                Some(models) => conditions.propagate(RouteStatus::MODELS_REACHABLE, Some(models)),
                None => conditions.clear(RouteStatus::MODELS_REACHABLE),
            }
        }
        Fate::Ours(_) => conditions.mark_unknown(
            CONDITION,
            OUT_OF_DATE,
            "The Route is still working to reflect the latest desired specification.",
        ),
        Fate::Foreign => {
            let text = owner::not_owned("Route", &service.name_any());
            conditions.mark_false(CONDITION, "NotOwned", &text);
        }
        Fate::Waiting => conditions.mark_unknown(CONDITION, "", ""),
        Fate::NameTaken => {
            let name = build::template_name(service).unwrap_or_default();
            let text = format!(
                "The revision name {name:?} is taken by a conflicting Revision, \
                 so traffic will not be migrated"
            );
            conditions.mark_false(CONDITION, "RevisionNameTaken", &text);
        }
    }
}

/// Takes over a child's Ready; a child that has none yet leaves the condition as it is.
fn follow(type_: &str, theirs: &[Condition], conditions: &mut Conditions<'_>) {
    match condition::find(theirs, READY) {
        Some(ready) if ready.status == Status::True => conditions.mark_true(type_),
        Some(ready) => conditions.propagate(type_, Some(ready)),
        None => {}
    }
}

fn is_route_current(route: &Route) -> bool {
    let status = route.status.as_ref();
    status.and_then(|status| status.observed_generation) == route.metadata.generation
}

/// Whether the split in force is the one asked for, with the latest ready Revision where the
/// Configuration is named. Addresses and the latest-flag do not count.
fn has_migrated(configuration: &Configuration, route: &Route) -> bool {
    let latest =
        configuration.status.as_ref().and_then(|status| status.latest_ready_revision_name.clone());
    let wanted = route.spec.traffic.iter().map(|target| {
        let mut target = target.clone();
        if target.configuration_name.as_deref() == Some(&configuration.name_any()) {
            target.configuration_name = None;
            target.revision_name.clone_from(&latest);
        }
        plain(target)
    });
    let in_force = route.status.iter().flat_map(|status| &status.traffic);
    wanted.eq(in_force.cloned().map(plain))
}

fn plain(mut target: TrafficTarget) -> TrafficTarget {
    target.url = None;
    target.latest_revision = None;
    target
}

#[cfg(test)]
mod tests;
