//! Revision: one Deployment.
//!
//! dereference (the Deployment and pods as known) → build → apply (only what is its own) → status.
//! The scale loop sets the replicas, except for the first number.

use std::sync::Arc;

use ebb_api::serving::Revision;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

mod deployment;
mod failure;
mod pod;
mod status;

use self::status::{Observed, Occupied};
use crate::cache::{By, Cache};
use crate::owner;
use crate::reconciler::{Context, Reconcile};
use crate::route::routing;
use crate::scribe::WriteError;
use crate::stores::Stores;

impl Reconcile for Revision {
    const KIND: &'static str = "Revision";

    fn cache(stores: &Stores) -> &Cache<Self> {
        &stores.revisions
    }

    async fn reconcile(object: Arc<Self>, context: Arc<Context>) -> Result<Action, WriteError> {
        let unmark = routing::unmark(&object, &context.stores, Timestamp::now());
        let object = match unmark {
            Some(patch) => context.scribe.merge(&context.stores.revisions, &*object, patch).await?,
            None => object,
        };
        let (observed, obstacle) = apply(&object, &context).await?;
        let status = status::of(&object, &observed, Timestamp::now());
        let old = object.status.clone().unwrap_or_default();
        let news = status::news(&old, &status);
        let notices = status::notices(&old, &status);
        let action = context.report(&*object, &status, news, notices).await?;
        obstacle.map_or(Ok(action), Err)
    }
}

/// Brings the Deployment to what the Revision asks for; returns what is known of it afterwards, and
/// the error that stood in the way, if any.
async fn apply(
    revision: &Revision,
    context: &Context,
) -> Result<(Observed, Option<WriteError>), WriteError> {
    let (stores, config) = (&context.stores, context.config());
    let namespace = revision.namespace().unwrap_or_default();
    let name = deployment::name(revision);

    let wanted = deployment::build(revision, &config);
    let occupied = |name| {
        let taken = WriteError::taken(&wanted);
        (Observed::occupied(Occupied { kind: "Deployment", name }), Some(taken))
    };
    let known = stores.deployments.get(&namespace, &name);
    if known.as_ref().is_some_and(|known| !owner::controls(revision, &**known)) {
        return Ok(occupied(name));
    }
    let made = if known.is_some() {
        context.scribe.apply(&stores.deployments, &wanted, known.as_ref()).await
    } else {
        // Not by apply: this manager would then own `replicas`, and its next apply would remove the
        // field.
        let first = deployment::with_initial_scale(wanted.clone(), revision, &config);
        context.scribe.create_or_find(&stores.deployments, &first).await
    };
    let deployment = match made {
        Ok(deployment) => deployment,
        Err(error) => match error.refusal() {
            Some(message) => {
                return Ok((Observed::refused(message.to_owned()), Some(error)));
            }
            None => return Err(error),
        },
    };
    if !owner::controls(revision, &*deployment) {
        return Ok(occupied(name));
    }
    let pods = pods(revision, &namespace, stores);
    Ok((Observed::made(deployment, pods, deployment::initial_scale(revision, &config)), None))
}

/// The pods of the Revision.
pub(crate) fn pods(revision: &Revision, namespace: &str, stores: &Stores) -> Vec<Arc<Pod>> {
    let uid = revision.uid().unwrap_or_default();
    stores.pods.marked(namespace, By::Revision, &uid)
}
