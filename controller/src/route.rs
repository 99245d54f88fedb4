//! Route: hosts, the split of their requests over Revisions, and the Revisions' routing labels.
//!
//! The steps: dereference what the split refers to and the placeholders, validate (are the names
//! free), build the placeholders, apply them, status, which resolves the split; then the labels. The
//! activator serves what the status says, so a split that cannot be resolved leaves the last good
//! one in force.

use std::sync::Arc;

use ebb_api::config::{Config, NetworkConfig};
use ebb_api::labels::CONFIGURATION;
use ebb_api::serving::{Route, RouteStatus};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

pub(crate) mod claims;
pub(crate) mod models;
mod placeholder;
mod rollout;
pub(crate) mod routing;
mod status;
mod traffic;

use self::placeholder::Placeholders;
use self::rollout::Rolled;
use self::status::{Gateway, Hosts};
use self::traffic::{Problem, Referenced};
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
        let names = validate(&object, &context.stores);
        let desired = build(&object, &known, context.gateway_host.as_deref());
        let (gateway, mut obstacle) = apply(&object, names, desired, &context).await?;
        let models = models::standing(&object, &context.stores);
        let is_behind = models.as_ref().is_some_and(models::Standing::is_behind);
        let (config, now) = (context.config(), Timestamp::now());
        let split = split(&object, &known, &config.network, now);
        let next_step = split.as_ref().ok().and_then(|rolled| rolled.next);
        let hosts = Hosts { gateway, hidden: known.placeholders.hidden(&object) };
        let report = status(&object, split, hosts, models, &config, now);
        let in_force = report.status.traffic.clone();
        let action = context.report(&*object, report).await?;
        // After the status: requests should not wait for these.
        apply_routing(&object, &in_force, &known.referenced, &context).await?;
        for orphan in &known.placeholders.orphans {
            if let Err(error) = context.scribe.delete(&**orphan).await {
                obstacle = obstacle.or(Some(error));
            }
        }
        // A rollout goes on at its pace whatever else stands in the way: each step looks at all again.
        if let Some(pause) = next_step {
            return Ok(Action::requeue(pause));
        }
        match obstacle {
            Some(obstacle) => Err(obstacle),
            None if is_behind && action == Action::await_change() => {
                Ok(Action::requeue(models::LOOK_AGAIN_AFTER))
            }
            None => Ok(action),
        }
    }
}

/// A core/v1 Service as it should be, and as it is if it is there.
type Placeholder = (core::Service, Option<Arc<core::Service>>);

/// The objects that a Route's status depends on.
pub(crate) struct Known {
    /// The Configurations and Revisions that the split names, wanted or in force.
    referenced: Referenced,
    /// The core/v1 Services of its name and its tags.
    placeholders: Placeholders,
}

/// Whether the Route may have the names that it needs.
enum Names {
    /// All of them are free for the Route, or its own.
    Free,
    /// Another Route has these hosts.
    HostsTaken(Vec<String>),
}

/// (no client) The Configurations and Revisions that the split names, and the placeholders.
pub(crate) fn dereference(route: &Route, stores: &Stores) -> Known {
    let placeholders = Placeholders::of(route, stores);
    Known { referenced: referenced(route, stores), placeholders }
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

/// (no client) Whether the Route may have its hosts.
fn validate(route: &Route, stores: &Stores) -> Names {
    let taken = claims::taken(route, stores);
    if taken.is_empty() { Names::Free } else { Names::HostsTaken(taken) }
}

/// (no client) The core/v1 Services of the Route, wanted and known; none without a gateway to point to.
fn build(route: &Route, known: &Known, gateway_host: Option<&str>) -> Vec<Placeholder> {
    gateway_host.map(|host| known.placeholders.build(route, host)).unwrap_or_default()
}

/// (client) Makes the core/v1 Services whose names are free; returns what the gateway can do, and the
/// first obstacle if there is one.
async fn apply(
    route: &Route,
    names: Names,
    desired: Vec<Placeholder>,
    context: &Context,
) -> Result<(Gateway, Option<WriteError>), WriteError> {
    if let Names::HostsTaken(taken) = names {
        let obstacle = WriteError::taken(&placeholder::named(route, &taken[0]));
        return Ok((Gateway::HostsTaken(taken), Some(obstacle)));
    }
    let cache = &context.stores.placeholders;
    let mut outcome = (Gateway::Serving, None);
    for (desired, existing) in desired {
        let made = match &existing {
            // A foreign Service of that name is left alone.
            Some(existing) if !owner::controls(route, &**existing) => Ok(existing.clone()),
            Some(existing) => context.scribe.apply(cache, &desired, Some(existing)).await,
            None => context.scribe.create_or_find(cache, &desired).await,
        };
        let met = match made {
            Ok(made) if owner::controls(route, &*made) => continue,
            Ok(_) => (Gateway::NameTaken(desired.name_any()), WriteError::taken(&desired)),
            Err(error) => match error.refusal() {
                Some(why) => (Gateway::Refused(why.to_owned()), error),
                None => return Err(error),
            },
        };
        if outcome.1.is_none() {
            outcome = (met.0, Some(met.1));
        }
    }
    Ok(outcome)
}

/// (no client) The split that the Route asks for, as far as a gradual rollout has come.
fn split(
    route: &Route,
    known: &Known,
    network: &NetworkConfig,
    now: Timestamp,
) -> Result<Rolled, Problem> {
    let Referenced { revisions, .. } = &known.referenced;
    let goal = traffic::resolve(route, &known.referenced)?;
    let configuration_of = |name: &str| revisions.get(name)?.labels().get(CONFIGURATION).cloned();
    let old = route.status.clone().unwrap_or_default();
    let duration = rollout::duration_of(route, network);
    Ok(rollout::roll(goal, &old, configuration_of, duration, now))
}

/// (no client) The status that follows from the split and the gateway.
fn status(
    route: &Route,
    split: Result<Rolled, Problem>,
    hosts: Hosts,
    models: Option<models::Standing>,
    config: &Config,
    now: Timestamp,
) -> StatusReport<RouteStatus> {
    let mut status = status::of(route, split, hosts, &config.network, now);
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
