//! Route: hosts, the split of their requests over Revisions, and the Revisions' routing labels.
//!
//! The steps: dereference what the split refers to and the placeholder, validate (are the names
//! free), build the placeholder, apply it, status, which resolves the split; then the labels. The
//! activator serves what the status says, so a split that cannot be resolved leaves the last good
//! one in force.

use std::sync::Arc;

use ebb_api::config::Config;
use ebb_api::serving::{Route, RouteStatus};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

pub(crate) mod claims;
pub(crate) mod models;
mod placeholder;
pub(crate) mod routing;
mod status;
mod traffic;

use self::status::Gateway;
use self::traffic::Referenced;
use crate::cache::Cache;
use crate::owner;
use crate::reconciler::{Context, Reconcile, StatusReport};
use crate::scribe::WriteError;
use crate::stores::Stores;

impl Reconcile for Route {
    const KIND: &'static str = "Route";

    fn cache(stores: &Stores) -> &Cache<Self> {
        &stores.routes
    }

    async fn reconcile(object: Arc<Self>, context: Arc<Context>) -> Result<Action, WriteError> {
        let known = dereference(&object, &context.stores);
        let names = validate(&object, &known, &context.stores);
        let desired = build(&object, &known, context.gateway_host.as_deref());
        let (gateway, obstacle) = apply(&object, names, &known, desired, &context).await?;
        let models = models::standing(&object, &context.stores);
        let is_behind = models.as_ref().is_some_and(models::Standing::is_behind);
        let report = status(&object, &known, gateway, models, &context.config(), Timestamp::now());
        let in_force = report.status.traffic.clone();
        let action = context.report(&*object, report).await?;
        // After the status: requests should not wait for labels.
        apply_routing(&object, &in_force, &known.referenced, &context).await?;
        match obstacle {
            Some(obstacle) => Err(obstacle),
            None if is_behind && action == Action::await_change() => {
                Ok(Action::requeue(models::LOOK_AGAIN_AFTER))
            }
            None => Ok(action),
        }
    }
}

/// The objects that a Route's status depends on.
pub(crate) struct Known {
    /// The Configurations and Revisions that the split names, wanted or in force.
    referenced: Referenced,
    /// The core/v1 Service that has its name.
    placeholder: Option<Arc<core::Service>>,
}

/// Whether the Route may have the names that it needs.
enum Names {
    /// All of them are free for the Route, or its own.
    Free,
    /// Another Route has these hosts.
    HostsTaken(Vec<String>),
    /// A foreign core/v1 Service has the Route's name.
    ServiceTaken,
}

/// (no client) The Configurations and Revisions that the split names, and the placeholder.
pub(crate) fn dereference(route: &Route, stores: &Stores) -> Known {
    let namespace = route.namespace().unwrap_or_default();
    let placeholder = stores.placeholders.get(&namespace, &route.name_any());
    Known { referenced: referenced(route, stores), placeholder }
}

fn referenced(route: &Route, stores: &Stores) -> Referenced {
    let namespace = route.namespace().unwrap_or_default();
    let mut referenced = Referenced::default();
    let in_force = route.status.iter().flat_map(|status| &status.traffic);
    for target in route.spec.traffic.iter().chain(in_force) {
        let mut revisions: Vec<String> = target.revision_name.clone().into_iter().collect();
        if let Some(name) = &target.configuration_name
            && let Some(configuration) = stores.configurations.get(&namespace, name)
        {
            if let Some(status) = &configuration.status {
                revisions.extend(status.latest_ready_revision_name.clone());
                revisions.extend(status.latest_created_revision_name.clone());
            }
            referenced.configurations.insert(name.clone(), configuration);
        }
        for name in revisions {
            if let Some(revision) = stores.revisions.get(&namespace, &name) {
                referenced.revisions.insert(name, revision);
            }
        }
    }
    referenced
}

/// (no client) Whether the Route may have its hosts and the core/v1 Service of its name.
fn validate(route: &Route, known: &Known, stores: &Stores) -> Names {
    let taken = claims::taken(route, stores);
    let is_foreign = |placeholder: &Arc<_>| !owner::controls(route, &**placeholder);
    if !taken.is_empty() {
        Names::HostsTaken(taken)
    } else if known.placeholder.as_ref().is_some_and(is_foreign) {
        Names::ServiceTaken
    } else {
        Names::Free
    }
}

/// (no client) The core/v1 Service of the Route's name; `None` without a gateway to point to.
fn build(route: &Route, known: &Known, gateway_host: Option<&str>) -> Option<core::Service> {
    gateway_host.map(|host| placeholder::build(route, host, known.placeholder.as_deref()))
}

/// (client) Makes the core/v1 Service, unless none is wanted or a name is taken; returns what the
/// gateway can do, and the obstacle if there is one.
async fn apply(
    route: &Route,
    names: Names,
    known: &Known,
    desired: Option<core::Service>,
    context: &Context,
) -> Result<(Gateway, Option<WriteError>), WriteError> {
    if let Names::HostsTaken(taken) = names {
        let obstacle = WriteError::taken(&placeholder::named(route, &taken[0]));
        return Ok((Gateway::HostsTaken(taken), Some(obstacle)));
    }
    let Some(desired) = desired else {
        return Ok((Gateway::Serving, None));
    };
    let name_taken = || (Gateway::NameTaken, Some(WriteError::taken(&desired)));
    // A foreign Service of that name is left alone.
    if matches!(names, Names::ServiceTaken) {
        return Ok(name_taken());
    }
    let cache = &context.stores.placeholders;
    let made = match &known.placeholder {
        Some(existing) => context.scribe.apply(cache, &desired, Some(existing)).await?,
        None => context.scribe.create_or_find(cache, &desired).await?,
    };
    Ok(if owner::controls(route, &*made) { (Gateway::Serving, None) } else { name_taken() })
}

/// (no client) The status that follows from the split and the gateway.
fn status(
    route: &Route,
    known: &Known,
    gateway: Gateway,
    models: Option<models::Standing>,
    config: &Config,
    now: Timestamp,
) -> StatusReport<RouteStatus> {
    let resolved = traffic::resolve(route, &known.referenced);
    let mut status = status::of(route, resolved, gateway, &config.network, now);
    models::tell(&mut status, models, now);
    let old = route.status.clone().unwrap_or_default();
    StatusReport { news: status::news(&old, &status), status, notices: Vec::new() }
}

/// (client) Labels the Revisions that the Route began or ceased to refer to.
async fn apply_routing(
    route: &Route,
    in_force: &[ebb_api::serving::TrafficTarget],
    referenced: &Referenced,
    context: &Context,
) -> Result<(), WriteError> {
    let revisions = &context.stores.revisions;
    let marked = routing::marked(route, &context.stores);
    let changes = routing::changes(route, in_force, referenced, &marked, Timestamp::now());
    for (revision, patch) in changes {
        context.scribe.merge(revisions, &*revision, patch).await?;
    }
    Ok(())
}
