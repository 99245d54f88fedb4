//! Service: one Configuration and one Route, both of its own name.
//!
//! The steps: build the two children; for each of them dereference, validate (is it its own) and
//! apply; status.

use std::sync::Arc;

use ebb_api::serving::{Service, ServiceStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

mod build;
mod status;

use self::build::Desired;
use self::status::{Children, Fate};
use crate::cache::{Cache, Stored};
use crate::configuration;
use crate::owner::{self, Claim};
use crate::reconciler::{Context, Reconcile, StatusReport};
use crate::scribe::WriteError;
use crate::stores::Stores;

impl Reconcile for Service {
    const KIND: &'static str = "Service";

    fn cache(stores: &Stores) -> &Cache<Self> {
        &stores.services
    }

    async fn reconcile(object: Arc<Self>, context: Arc<Context>) -> Result<Action, WriteError> {
        let desired = build(&object);
        let children = apply(&object, &desired, &context).await?;
        let report = status(&object, &children, Timestamp::now());
        let action = context.report(&*object, report).await?;
        children.obstacle(&desired).map_or(Ok(action), Err)
    }
}

/// (no client) The object of one kind that has the name of the children.
fn dereference<K: Stored>(service: &Service, cache: &Cache<K>) -> Option<Arc<K>> {
    cache.get(&service.namespace().unwrap_or_default(), &service.name_any())
}

/// (no client) Whether this object is the Service's own.
fn validate<K: Stored>(service: &Service, known: Option<Arc<K>>) -> Claim<K> {
    owner::claim(service, known)
}

/// (no client) Both children as the Service asks.
fn build(service: &Service) -> Desired {
    Desired { configuration: build::configuration(service), route: build::route(service) }
}

/// (client) Brings the children to what the Service asks for, as far as they are its own.
///
/// Each child is dereferenced and validated right before its write: while the Configuration is
/// written, a foreign object may take the name of the Route.
async fn apply(
    service: &Service,
    desired: &Desired,
    context: &Context,
) -> Result<Children, WriteError> {
    let stores = &context.stores;
    let claim = validate(service, dereference(service, &stores.configurations));
    let configuration =
        child(context, &stores.configurations, claim, &desired.configuration).await?;
    // A Revision name of the author's choice must be checked before traffic may go to that
    // Revision.
    let unread = matches!(&configuration, Fate::Ours(made)
        if build::is_named(service) && !status::is_current(made));
    let taken = matches!(&configuration, Fate::Ours(made)
        if configuration::is_name_taken(made, stores));
    let route = match validate(service, dereference(service, &stores.routes)) {
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
