//! Revision: one Deployment.
//!
//! The steps: dereference the Deployment, validate (is it its own), build, apply, status, which
//! reads the pods too. The scale loop sets the replicas, except for the first number.

use std::sync::Arc;

use ebb_api::config::Config;
use ebb_api::serving::{Revision, RevisionStatus};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

mod deployment;
mod failure;
mod pod;
mod start;
mod status;

use self::status::{Observed, Occupied};
use crate::ModelFetcher;
use crate::cache::{By, Cache};
use crate::owner::{self, Claim};
use crate::reconciler::{Context, Reconcile, StatusReport};
use crate::route::routing;
use crate::scribe::WriteError;
use crate::stores::Stores;

impl Reconcile for Revision {
    const KIND: &'static str = "Revision";

    fn cache(stores: &Stores) -> &Cache<Self> {
        &stores.revisions
    }

    async fn reconcile(object: Arc<Self>, context: Arc<Context>) -> Result<Action, WriteError> {
        let object = unmark(object, &context).await?;
        let config = context.config();
        let known = dereference(&object, &context.stores);
        let fetcher = context.model_fetcher.as_ref();
        let desired = build(&object, &config, fetcher, known.as_deref());
        let claim = validate(&object, known);
        let (observed, obstacle) = match desired {
            Ok(desired) => apply(&object, claim, &desired, &config, &context).await?,
            // Only another Revision or another command line of this process helps: no retry. What runs
            // goes on.
            Err(message) => (refused(&object, claim, message, &config, &context.stores), None),
        };
        let report = status(&object, &observed, Timestamp::now());
        let action = context.report(&*object, report).await?;
        obstacle.map_or(Ok(action), Err)
    }
}

/// (client) Before the steps: takes off the routing labels of a Route that is gone.
async fn unmark(revision: Arc<Revision>, context: &Context) -> Result<Arc<Revision>, WriteError> {
    let revisions = &context.stores.revisions;
    match routing::unmark(&revision, &context.stores, Timestamp::now()) {
        Some(patch) => context.scribe.merge(revisions, &*revision, patch).await,
        None => Ok(revision),
    }
}

/// (no client) The Deployment that has the name.
fn dereference(revision: &Revision, stores: &Stores) -> Option<Arc<Deployment>> {
    deployment::find(revision, stores)
}

/// (no client) Whether this Deployment is the Revision's own.
fn validate(revision: &Revision, known: Option<Arc<Deployment>>) -> Claim<Deployment> {
    owner::claim(revision, known)
}

/// (no client) The Deployment as the Revision asks, without a number of replicas.
fn build(
    revision: &Revision,
    config: &Config,
    fetcher: Option<&ModelFetcher>,
    known: Option<&Deployment>,
) -> Result<Deployment, String> {
    deployment::build(revision, config, fetcher, known)
}

/// (client) Brings the Deployment to what the Revision asks for; returns what is known of it
/// afterwards, and the error that stood in the way, if any.
async fn apply(
    revision: &Revision,
    claim: Claim<Deployment>,
    desired: &Deployment,
    config: &Config,
    context: &Context,
) -> Result<(Observed, Option<WriteError>), WriteError> {
    let stores = &context.stores;
    let occupied = || {
        let by = Occupied { kind: "Deployment", name: desired.name_any() };
        (Observed::occupied(by), Some(WriteError::taken(desired)))
    };
    let made = match claim {
        Claim::Foreign => return Ok(occupied()),
        Claim::Ours(known) => {
            context.scribe.apply(&stores.deployments, desired, Some(&known)).await
        }
        // Not by apply: this manager would then own `replicas`, and its next apply would remove the
        // field.
        Claim::Free => {
            let first = deployment::with_initial_scale(desired.clone(), revision, config);
            context.scribe.create_or_find(&stores.deployments, &first).await
        }
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
        return Ok(occupied());
    }
    let pods = pods(revision, &revision.namespace().unwrap_or_default(), stores);
    Ok((Observed::made(deployment, pods, deployment::initial_scale(revision, config)), None))
}

/// (no client) What is known of a Deployment that cannot be built: it may be there already.
fn refused(
    revision: &Revision,
    claim: Claim<Deployment>,
    message: String,
    config: &Config,
    stores: &Stores,
) -> Observed {
    let Claim::Ours(deployment) = claim else {
        return Observed::refused(message);
    };
    let pods = pods(revision, &revision.namespace().unwrap_or_default(), stores);
    Observed::made(deployment, pods, deployment::initial_scale(revision, config))
}

/// (no client) The status that follows from the Deployment and its pods.
fn status(
    revision: &Revision,
    observed: &Observed,
    now: Timestamp,
) -> StatusReport<RevisionStatus> {
    let status = status::of(revision, observed, now);
    let old = revision.status.clone().unwrap_or_default();
    let (news, notices) = (status::news(&old, &status), status::notices(&old, &status));
    StatusReport { status, news, notices }
}

/// The pods of the Revision.
pub(crate) fn pods(revision: &Revision, namespace: &str, stores: &Stores) -> Vec<Arc<Pod>> {
    let uid = revision.uid().unwrap_or_default();
    stores.pods.marked(namespace, By::Revision, &uid)
}
