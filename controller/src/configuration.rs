//! Configuration: one Revision for each template it ever had.
//!
//! The steps: dereference its Revisions, validate (which one is the latest, is its name free),
//! build the next one, apply it if it is missing, status; then those that have become garbage are
//! deleted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::serving::{Configuration, ConfigurationStatus, Revision};
use ebb_api::starts::Starts;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

mod build;
mod collection;
mod status;
mod validate;

use self::collection::{Collection, collection};
use self::validate::{Latest, Newest};
use crate::cache::{By, Cache};
use crate::owner;
use crate::reconciler::{Context, Reconcile, StatusReport};
use crate::scribe::WriteError;
use crate::stores::Stores;

impl Reconcile for Configuration {
    const KIND: &'static str = "Configuration";

    fn cache(stores: &Stores) -> &Cache<Self> {
        &stores.configurations
    }

    async fn reconcile(object: Arc<Self>, context: Arc<Context>) -> Result<Action, WriteError> {
        let revisions = dereference(&object, &context.stores);
        let latest = validate(&object, &revisions);
        let start_timeout = &context.config().defaults.start_timeout;
        let starts = validate::starts(&revisions);
        let desired = build(&object, start_timeout, &starts, Timestamp::now());
        let (newest, obstacle) = apply(latest, &desired, &context).await?;
        let report = status(&object, &newest, &revisions, Timestamp::now());
        let status = report.status.clone();
        let action = context.report(&*object, report).await?;
        // Before an obstacle: garbage may be what fills a quota.
        let look_again = collect(&object, &status, &revisions, &context).await;
        if let Some(obstacle) = obstacle {
            return Err(obstacle);
        }
        Ok(match look_again? {
            Some(pause) if action == Action::await_change() => Action::requeue(pause),
            _ => action,
        })
    }
}

/// (no client) All Revisions that this Configuration made, and any that has the name of the next
/// one.
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

/// (no client) Whether the Revision of the current template exists, is missing, or cannot be made.
fn validate(configuration: &Configuration, revisions: &[Arc<Revision>]) -> Latest {
    validate::latest(configuration, revisions)
}

/// (no client) The Revision of the current template.
fn build(
    configuration: &Configuration,
    start_timeout: &str,
    starts: &Starts,
    now: Timestamp,
) -> Revision {
    build::revision(configuration, start_timeout, starts, now)
}

/// (client) Creates the Revision if it is missing; returns the outcome, and the error that stood in
/// the way, if any.
async fn apply(
    latest: Latest,
    desired: &Revision,
    context: &Context,
) -> Result<(Newest, Option<WriteError>), WriteError> {
    match latest {
        Latest::Exists(revision) => return Ok((Newest::Made(revision), None)),
        Latest::Taken(message) => {
            return Ok((Newest::Impossible(message), Some(WriteError::taken(desired))));
        }
        Latest::Missing => {}
    }
    match context.scribe.create(&context.stores.revisions, desired).await {
        Ok(revision) => Ok((Newest::Made(revision), None)),
        // The store will show in a moment whose Revision that is.
        Err(error) if error.is_already_exists() => Err(error),
        Err(error) => match error.refusal() {
            Some(message) => Ok((Newest::Impossible(message.to_owned()), Some(error))),
            None => Err(error),
        },
    }
}

/// (client) Deletes the Revisions that have become garbage; returns when to look again.
async fn collect(
    configuration: &Configuration,
    status: &ConfigurationStatus,
    revisions: &[Arc<Revision>],
    context: &Context,
) -> Result<Option<Duration>, WriteError> {
    let namespace = configuration.namespace().unwrap_or_default();
    let stores = &context.stores;
    let service = owner::controller(configuration);
    let service = service.and_then(|service| stores.services.get(&namespace, &service.name));
    let asked: BTreeSet<_> = service
        .iter()
        .flat_map(|service| &service.spec.traffic)
        .filter_map(|target| target.revision_name.as_deref())
        .collect();
    // Routes follow their Service after a moment, and the label of a Revision its Routes.
    let is_referenced = |name: &str| {
        asked.contains(name) || !stores.routes.marked(&namespace, By::Names, name).is_empty()
    };
    let (config, now) = (context.config(), Timestamp::now());
    let Collection { garbage, look_again } =
        collection(configuration, status, revisions, is_referenced, &config.gc, now);
    let mut outcome = Ok(look_again);
    let mut deleted = Vec::new();
    for revision in garbage {
        match context.scribe.delete(&*revision).await {
            Ok(()) => deleted.push(revision),
            // One that a policy keeps must not keep the others.
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    if let Some(notice) = collection::notice(&deleted) {
        context.events.publish(configuration, notice).await;
    }
    outcome
}

/// (no client) The status that follows from the Revisions.
fn status(
    configuration: &Configuration,
    newest: &Newest,
    revisions: &[Arc<Revision>],
    now: Timestamp,
) -> StatusReport<ConfigurationStatus> {
    let status = status::of(configuration, newest, revisions, now);
    let old = configuration.status.clone().unwrap_or_default();
    let (news, notices) = (status::news(&old, &status), status::notices(&old, &status));
    StatusReport { status, news, notices }
}
