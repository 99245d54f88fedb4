//! Service: one Configuration and one Route, both of its own name.
//!
//! The steps: dereference the two children, validate (are they its own), build, apply, status.

use std::sync::Arc;

use ebb_api::serving::{Configuration, Route, Service, ServiceStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

mod build;
mod status;

use self::build::Desired;
use self::status::{Children, Fate};
use crate::cache::{Cache, Stored};
use crate::configuration;
use crate::owner;
use crate::reconciler::{Context, Reconcile, StatusReport};
use crate::scribe::WriteError;
use crate::stores::Stores;

impl Reconcile for Service {
    const KIND: &'static str = "Service";

    fn cache(stores: &Stores) -> &Cache<Self> {
        &stores.services
    }

    async fn reconcile(object: Arc<Self>, context: Arc<Context>) -> Result<Action, WriteError> {
        let known = dereference(&object, &context.stores);
        let claims = validate(&object, known);
        let desired = build(&object);
        let children = apply(&object, claims, &desired, &context).await?;
        let report = status(&object, &children, Timestamp::now());
        let action = context.report(&*object, report).await?;
        children.obstacle(&desired).map_or(Ok(action), Err)
    }
}

/// The objects that have the names of the children.
struct Known {
    configuration: Option<Arc<Configuration>>,
    route: Option<Arc<Route>>,
}

/// Whose the names of the children are.
struct Claims {
    configuration: Claim<Configuration>,
    route: Claim<Route>,
}

/// Whose the name of a child is.
enum Claim<K> {
    /// No object has the name.
    Free,
    /// The Service's own child has the name.
    Ours(Arc<K>),
    /// A foreign object has the name.
    Foreign,
}

/// (no client) The objects that have the names of the children.
fn dereference(service: &Service, stores: &Stores) -> Known {
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    Known {
        configuration: stores.configurations.get(&namespace, &name),
        route: stores.routes.get(&namespace, &name),
    }
}

/// (no client) Whether these objects are the Service's own.
fn validate(service: &Service, known: Known) -> Claims {
    Claims {
        configuration: claim(service, known.configuration),
        route: claim(service, known.route),
    }
}

fn claim<K: Stored>(service: &Service, known: Option<Arc<K>>) -> Claim<K> {
    match known {
        None => Claim::Free,
        Some(known) if owner::controls(service, &*known) => Claim::Ours(known),
        Some(_) => Claim::Foreign,
    }
}

/// (no client) Both children as the Service asks.
fn build(service: &Service) -> Desired {
    Desired { configuration: build::configuration(service), route: build::route(service) }
}

/// (client) Makes the children be as they are desired, as far as they are the Service's own.
async fn apply(
    service: &Service,
    claims: Claims,
    desired: &Desired,
    context: &Context,
) -> Result<Children, WriteError> {
    let stores = &context.stores;
    let configuration =
        child(context, &stores.configurations, claims.configuration, &desired.configuration)
            .await?;
    // A revision name of the author's choice must be found good before traffic may go to it.
    let unread = matches!(&configuration, Fate::Ours(made)
        if build::is_named(service) && !status::is_current(made));
    let taken = matches!(&configuration, Fate::Ours(made)
        if configuration::is_name_taken(made, stores));
    let route = match claims.route {
        Claim::Ours(route) if unread => Fate::Ours(route),
        Claim::Foreign if unread => Fate::Foreign,
        Claim::Free if unread => Fate::Waiting,
        _ if taken => Fate::NameTaken,
        claim => child(context, &stores.routes, claim, &desired.route).await?,
    };
    Ok(Children { configuration, route })
}

async fn child<K: Stored>(
    context: &Context,
    cache: &Cache<K>,
    claim: Claim<K>,
    desired: &K,
) -> Result<Fate<K>, WriteError> {
    let existing = match claim {
        Claim::Foreign => return Ok(Fate::Foreign),
        Claim::Ours(existing) => Some(existing),
        Claim::Free => None,
    };
    Ok(Fate::Ours(context.scribe.apply(cache, desired, existing.as_ref()).await?))
}

/// (no client) The status that follows from the children.
fn status(service: &Service, children: &Children, now: Timestamp) -> StatusReport<ServiceStatus> {
    let status = status::of(service, children, now);
    let old = service.status.clone().unwrap_or_default();
    StatusReport { news: status::news(&old, &status), status, notices: Vec::new() }
}

#[cfg(test)]
mod tests;
