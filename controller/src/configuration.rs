//! Configuration: one Revision for each template it ever had.
//!
//! dereference (its Revisions as known) → validate (which one is the latest, is its name free) →
//! build → apply (create at most one) → status.

use std::sync::Arc;

use ebb_api::serving::{Configuration, Revision};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

mod build;
mod status;
mod validate;

use self::validate::{Latest, Newest};
use crate::cache::{By, Cache};
use crate::reconciler::{Context, Reconcile};
use crate::scribe::WriteError;
use crate::stores::Stores;

impl Reconcile for Configuration {
    const KIND: &'static str = "Configuration";

    fn cache(stores: &Stores) -> &Cache<Self> {
        &stores.configurations
    }

    async fn reconcile(object: Arc<Self>, context: Arc<Context>) -> Result<Action, WriteError> {
        let revisions = dereference(&object, &context.stores);
        let (newest, obstacle) = apply(&object, &revisions, &context).await?;
        let status = status::of(&object, &newest, &revisions, Timestamp::now());
        let old = object.status.clone().unwrap_or_default();
        let news = status::news(&old, &status);
        let notices = status::notices(&old, &status);
        let action = context.report(&*object, &status, news, notices).await?;
        obstacle.map_or(Ok(action), Err)
    }
}

/// All Revisions that this Configuration made, and any that has the name of the next one.
pub(crate) fn dereference(configuration: &Configuration, stores: &Stores) -> Vec<Arc<Revision>> {
    let namespace = configuration.namespace().unwrap_or_default();
    let name = configuration.name_any();
    let mut revisions = stores.revisions.marked(&namespace, By::Configuration, &name);
    let next = build::name(configuration);
    if !revisions.iter().any(|revision| revision.name_any() == next) {
        revisions.extend(stores.revisions.get(&namespace, &next));
    }
    revisions
}

/// Whether the name that the author chose for the next Revision belongs to another one.
pub(crate) fn is_name_taken(configuration: &Configuration, stores: &Stores) -> bool {
    build::chosen_name(configuration).is_some()
        && matches!(
            validate::latest(configuration, &dereference(configuration, stores)),
            Latest::Taken(_)
        )
}

/// Makes the newest Revision; returns the outcome, and the error that stood in the way, if any.
async fn apply(
    configuration: &Configuration,
    revisions: &[Arc<Revision>],
    context: &Context,
) -> Result<(Newest, Option<WriteError>), WriteError> {
    let latest = validate::latest(configuration, revisions);
    if let Latest::Exists(revision) = latest {
        return Ok((Newest::Made(revision), None));
    }
    let desired = build::revision(configuration, Timestamp::now());
    if let Latest::Taken(message) = latest {
        return Ok((Newest::Impossible(message), Some(WriteError::taken(&desired))));
    }
    match context.scribe.create(&context.stores.revisions, &desired).await {
        Ok(revision) => Ok((Newest::Made(revision), None)),
        // The store will show in a moment whose Revision that is.
        Err(error) if error.is_already_exists() => Err(error),
        Err(error) => match error.refusal() {
            Some(message) => Ok((Newest::Impossible(message.to_owned()), Some(error))),
            None => Err(error),
        },
    }
}
