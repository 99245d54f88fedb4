//! Route: hosts, the split of their requests over Revisions, and the Revisions' routing labels.
//!
//! dereference (what the split refers to, and the placeholder) → validate and resolve the split
//! → build → apply (placeholder, labels) → status. The activator serves what the status says, so
//! a split that cannot be resolved leaves the last good one in force.

use std::sync::Arc;

use ebb_api::serving::Route;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

pub(crate) mod claims;
mod placeholder;
pub(crate) mod routing;
mod status;
mod traffic;

use self::status::Gateway;
use self::traffic::Referenced;
use crate::cache::Cache;
use crate::owner;
use crate::reconciler::{Context, Reconcile};
use crate::scribe::WriteError;
use crate::stores::Stores;

impl Reconcile for Route {
    const KIND: &'static str = "Route";

    fn cache(stores: &Stores) -> &Cache<Self> {
        &stores.routes
    }

    async fn reconcile(object: Arc<Self>, context: Arc<Context>) -> Result<Action, WriteError> {
        let config = context.config();
        let referenced = dereference(&object, &context.stores);
        let resolved = traffic::resolve(&object, &referenced);
        let (gateway, obstacle) = match claims::taken(&object, &context.stores) {
            taken if !taken.is_empty() => {
                let obstacle = WriteError::taken(&placeholder::named(&object, &taken[0]));
                (Gateway::HostsTaken(taken), Some(obstacle))
            }
            _ => apply_placeholder(&object, &context).await?,
        };
        let status = status::of(&object, resolved, gateway, &config.network, Timestamp::now());
        let old = object.status.clone().unwrap_or_default();
        let news = status::news(&old, &status);
        let action = context.report(&*object, &status, news, Vec::new()).await?;
        // After the status: requests should not wait for labels.
        apply_routing(&object, &status.traffic, &referenced, &context).await?;
        obstacle.map_or(Ok(action), Err)
    }
}

/// The Configurations and Revisions that the split names, wanted or in force.
pub(crate) fn dereference(route: &Route, stores: &Stores) -> Referenced {
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

/// Makes the core/v1 Service of the Route's name, unless none is wanted or the name is taken; a
/// taken name is also returned as the error that stands in the way.
async fn apply_placeholder(
    route: &Route,
    context: &Context,
) -> Result<(Gateway, Option<WriteError>), WriteError> {
    let Some(host) = &context.gateway_host else {
        return Ok((Gateway::Serving, None));
    };
    let (namespace, name) = (route.namespace().unwrap_or_default(), route.name_any());
    let cache = &context.stores.placeholders;
    let existing = cache.get(&namespace, &name);
    let desired = placeholder::build(route, host, existing.as_deref());
    let made = match &existing {
        // A foreign Service of that name is left alone.
        Some(existing) if !owner::controls(route, &**existing) => existing.clone(),
        Some(_) => context.scribe.apply(cache, &desired, existing.as_ref()).await?,
        None => context.scribe.create_or_find(cache, &desired).await?,
    };
    Ok(if owner::controls(route, &*made) {
        (Gateway::Serving, None)
    } else {
        (Gateway::NameTaken, Some(WriteError::taken(&desired)))
    })
}

/// Labels the Revisions that the Route began or ceased to refer to.
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
