//! Service: one Configuration and one Route, both of its own name.
//!
//! dereference (the two children as known) → validate (are they ours) → build → apply → status.

use std::sync::Arc;

use ebb_api::serving::Service;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

mod build;
mod status;

use self::status::{Children, Fate};
use crate::cache::{Cache, Stored};
use crate::configuration;
use crate::owner;
use crate::reconciler::{Context, Reconcile};
use crate::scribe::WriteError;
use crate::stores::Stores;

impl Reconcile for Service {
    const KIND: &'static str = "Service";

    fn cache(stores: &Stores) -> &Cache<Self> {
        &stores.services
    }

    async fn reconcile(object: Arc<Self>, context: Arc<Context>) -> Result<Action, WriteError> {
        let children = apply(&object, &context).await?;
        let status = status::of(&object, &children, k8s_openapi::jiff::Timestamp::now());
        let old = object.status.clone().unwrap_or_default();
        let news = status::news(&old, &status);
        let action = context.report(&*object, &status, news, Vec::new()).await?;
        children.obstacle(&object).map_or(Ok(action), Err)
    }
}

/// Brings the children to what the Service asks for, as far as they are its own.
async fn apply(service: &Service, context: &Context) -> Result<Children, WriteError> {
    let configuration =
        child(context, &context.stores.configurations, service, build::configuration(service))
            .await?;
    // A Revision name of the author's choice must be checked before traffic may go to that
    // Revision.
    if let Fate::Ours(made) = &configuration
        && build::is_named(service)
        && !status::is_current(made)
    {
        let known = context
            .stores
            .routes
            .get(&service.namespace().unwrap_or_default(), &service.name_any());
        let route = match known {
            Some(route) if owner::controls(service, &*route) => Fate::Ours(route),
            Some(_) => Fate::Foreign,
            None => Fate::Waiting,
        };
        return Ok(Children { configuration, route });
    }
    if let Fate::Ours(made) = &configuration
        && configuration::is_name_taken(made, &context.stores)
    {
        return Ok(Children { configuration, route: Fate::NameTaken });
    }
    let route = child(context, &context.stores.routes, service, build::route(service)).await?;
    Ok(Children { configuration, route })
}

async fn child<K: Stored>(
    context: &Context,
    cache: &Cache<K>,
    service: &Service,
    desired: K,
) -> Result<Fate<K>, WriteError> {
    let namespace = service.namespace().unwrap_or_default();
    let existing = cache.get(&namespace, &desired.name_any());
    if existing.as_ref().is_some_and(|existing| !owner::controls(service, existing.as_ref())) {
        return Ok(Fate::Foreign);
    }
    let made = context.scribe.apply(cache, &desired, existing.as_ref()).await?;
    Ok(Fate::Ours(made))
}

#[cfg(test)]
mod tests;
