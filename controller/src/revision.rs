//! Revision: one Deployment.
//!
//! dereference (the Deployment and pods as known) → build → apply (only what is its own) → status.
//! Replicas are the scale loop's business, except for the first number.

use std::sync::Arc;

use ebb_api::labels;
use ebb_api::serving::Revision;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};

mod deployment;
mod failure;
mod pod;
mod status;

use self::status::{Observed, Occupied};
use crate::cache::Cache;
use crate::owner;
use crate::reconciler::{Context, Reconcile, ReconcileError};
use crate::stores::Stores;

impl Reconcile for Revision {
    const KIND: &'static str = "Revision";

    fn cache(stores: &Stores) -> &Cache<Self> {
        &stores.revisions
    }

    async fn reconcile(object: Arc<Self>, context: Arc<Context>) -> Result<Action, ReconcileError> {
        let observed = apply(&object, &context).await?;
        let status = status::of(&object, &observed, Timestamp::now());
        let old = object.status.clone().unwrap_or_default();
        let news = status::news(&old, &status);
        let notices = status::notices(&old, &status);
        context.report(&*object, &status, news, notices).await
    }
}

/// Makes the Deployment be as the Revision asks; answers what is known of it afterwards.
async fn apply(revision: &Revision, context: &Context) -> Result<Observed, ReconcileError> {
    let stores = &context.stores;
    let namespace = revision.namespace().unwrap_or_default();

    let known_deployment = stores.deployments.get(&namespace, &deployment::name(revision));
    if let Some(existing) = &known_deployment
        && !owner::controls(revision, &**existing)
    {
        let name = existing.name_any();
        return Ok(Observed::occupied(Occupied { kind: "Deployment", name }));
    }
    let deployment = match apply_deployment(revision, known_deployment, context).await? {
        Ok(deployment) => deployment,
        Err(observed) => return Ok(observed),
    };
    let pods = pods(revision, &namespace, stores);
    let first = deployment::initial_scale(revision, &context.config());
    Ok(Observed::made(deployment, pods, first))
}

/// Makes the Deployment be as the Revision asks, or answers why it cannot be.
async fn apply_deployment(
    revision: &Revision,
    known: Option<Arc<Deployment>>,
    context: &Context,
) -> Result<Result<Arc<Deployment>, Observed>, ReconcileError> {
    let config = context.config();
    let cache = &context.stores.deployments;
    let wanted = deployment::build(revision, &config);
    let made = if known.is_some() {
        context.scribe.apply(cache, &wanted, known.as_ref()).await
    } else {
        // Not by apply: `replicas` is written here and must never be this manager's to remove.
        let first = deployment::with_initial_scale(wanted, revision, &config);
        context.scribe.create(cache, &first).await
    };
    let error = match made {
        Ok(deployment) => return Ok(Ok(deployment)),
        Err(error) => error,
    };
    if let Some(message) = error.refusal() {
        return Ok(Err(Observed::refused(message.to_owned())));
    }
    if !error.is_already_exists() {
        return Err(error.into());
    }
    // Ours, and the store is behind; or somebody else's, and without our label in no store.
    let (namespace, name) = (revision.namespace().unwrap_or_default(), deployment::name(revision));
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    let found = deployments.get_opt(&name).await;
    let found = found.map_err(|source| ReconcileError::Read {
        what: format!("Deployment {namespace}/{name}"),
        source: Box::new(source),
    })?;
    match found {
        Some(found) if owner::controls(revision, &found) => Ok(Ok(cache.wrote(found))),
        Some(_) => Ok(Err(Observed::occupied(Occupied { kind: "Deployment", name }))),
        // Deleted in between: the next try creates it.
        None => Err(error.into()),
    }
}

fn pods(revision: &Revision, namespace: &str, stores: &Stores) -> Vec<Arc<Pod>> {
    let uid = revision.uid();
    stores.pods.select(namespace, |pod| {
        uid.is_some() && pod.labels().get(labels::REVISION_UID) == uid.as_ref()
    })
}
