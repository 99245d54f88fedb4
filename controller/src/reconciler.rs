//! Runs the reconcilers: their shared context, their queues, retries and shutdown.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::backoff;
use ebb_api::config::Config;
use ebb_daemon::tasks::TaskError;
use futures::channel::mpsc;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::controller::{self, Action, applier};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource as _, ResourceExt as _};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::ModelFetcher;
use crate::cache::{Cache, Packed, Stored};
use crate::events::{Events, Notice};
use crate::metrics::ControllerMetrics;
use crate::queues::{ReconcileQueues, Trigger};
use crate::scale::{Fact, Scaler};
use crate::scribe::{Scribe, WriteError, chain};
use crate::settling::{News, Settlement, Settling};
use crate::stores::{Stores, Watches};
use crate::triggers;

/// Reconciles of one kind at the same time. Each waits for the API server most of its time; more
/// would only move the queue there (client-go's controllers commonly run 5 to 30).
const CONCURRENCY: u16 = 16;
/// Events that may wait between a watch and a reconciler. The reconciler's scheduler merges equal
/// ones as fast as it is polled, so this is filled only by a relist.
const QUEUE_EVENTS_MAX: usize = 1024;
/// First pause after a failed reconcile; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// Longest pause after failed reconciles: an object that cannot be helped costs two tries a
/// minute.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// First and longest pause after a refusal or while a name is taken: only a person can end that,
/// and no event reports that a quota was raised.
const LASTING_MIN: Duration = Duration::from_secs(1);
const LASTING_MAX: Duration = Duration::from_mins(1);

/// Everything that reconcilers share.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) stores: Stores,
    pub(crate) scribe: Scribe,
    pub(crate) events: Events,
    pub(crate) gateway_host: Option<String>,
    pub(crate) model_fetcher: Option<ModelFetcher>,
    config: watch::Receiver<Arc<Config>>,
    metrics: ControllerMetrics,
    settling: Settling<(&'static str, String, String)>,
}

/// A kind that has a reconciler.
pub(crate) trait Reconcile: Stored {
    /// The kind, for logs and metrics.
    const KIND: &'static str;

    /// The cache with the objects of the kind.
    fn cache(stores: &Stores) -> &Cache<Self>;

    /// Brings the cluster one step closer to what the object asks for. Must be safe to repeat.
    ///
    /// Five steps, each a function of this name in the kind's file: `dereference` reads the objects
    /// that matter from the stores, `validate` decides what may be made, `build` makes the wanted
    /// children, `apply` writes them, `status` makes a [`StatusReport`] of the outcome. `apply`
    /// alone uses the client; [`Context::report`] then writes the status.
    fn reconcile(
        object: Arc<Self>,
        context: Arc<Context>,
    ) -> impl Future<Output = Result<Action, WriteError>> + Send;
}

/// The outcome of a reconcile, for the status of its object.
pub(crate) struct StatusReport<S> {
    /// The new status, whole.
    pub(crate) status: S,
    /// How urgent the change of the status is.
    pub(crate) news: News,
    /// Events about the change, published when the status is written.
    pub(crate) notices: Vec<Notice>,
}

/// The state of one reconciler.
struct Driver<K: Reconcile> {
    context: Arc<Context>,
    /// Failures in a row of each object that fails now.
    failures: Mutex<HashMap<ObjectRef<Packed<K>>, u32>>,
}

// === impl Context ===

impl Context {
    /// The context of all reconcilers.
    pub(crate) fn new(
        client: Client,
        stores: Stores,
        config: watch::Receiver<Arc<Config>>,
        metrics: ControllerMetrics,
        gateway_host: Option<String>,
        model_fetcher: Option<ModelFetcher>,
    ) -> Self {
        Self {
            scribe: Scribe::new(client.clone(), metrics.clone()),
            events: Events::new(client.clone()),
            client,
            stores,
            gateway_host,
            model_fetcher,
            config,
            metrics,
            settling: Settling::new(),
        }
    }

    /// The settings as of now.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Writes the status and publishes the notices once [`Settling`] judges the news worth it.
    pub(crate) async fn report<K: Reconcile, S: Serialize + Sync>(
        &self,
        object: &K,
        report: StatusReport<S>,
    ) -> Result<Action, WriteError> {
        let StatusReport { status, news, notices } = report;
        let key = (K::KIND, object.namespace().unwrap_or_default(), object.name_any());
        match self.settling.judge(key.clone(), news, Instant::now()) {
            Settlement::Keep => return Ok(Action::await_change()),
            Settlement::Wait(rest) => return Ok(Action::requeue(rest)),
            Settlement::Write => {}
        }
        self.scribe.status(K::cache(&self.stores), object, &status).await?;
        self.settling.forget(&key);
        for notice in notices {
            self.events.publish(object, notice).await;
        }
        Ok(Action::await_change())
    }

    fn forget<K: Reconcile>(&self, object: &ObjectRef<K>) {
        let namespace = object.namespace.clone().unwrap_or_default();
        self.settling.forget(&(K::KIND, namespace, object.name.clone()));
    }
}

// === impl Driver ===

impl<K: Reconcile> Driver<K> {
    async fn reconcile(self: Arc<Self>, packed: Arc<Packed<K>>) -> Result<Action, WriteError> {
        let started = Instant::now();
        let (namespace, name) = (packed.namespace().unwrap_or_default(), packed.name_any());
        // The packed object may be older than our own last write.
        let Some(object) = K::cache(&self.context.stores).get(&namespace, &name) else {
            return Ok(Action::await_change());
        };
        let result = if object.meta().deletion_timestamp.is_some() {
            // Owned objects are deleted along with it; further writes would hold the deletion up.
            Ok(Action::await_change())
        } else {
            K::reconcile(object.clone(), self.context.clone()).await
        };
        if result.is_ok() {
            self.failures.lock().remove(&ObjectRef::from_obj(&*packed));
        }
        // A conflict with another writer is no failure.
        let failed = result.as_ref().err().filter(|error| !error.is_conflict());
        let lasting = failed.map(WriteError::is_lasting);
        self.context.metrics.reconciled(K::KIND, started.elapsed(), lasting);
        result
    }

    fn retry(&self, object: &Packed<K>, error: &WriteError) -> Action {
        let key = ObjectRef::from_obj(object);
        let pause = {
            let mut failures = self.failures.lock();
            let count = failures.entry(key).or_insert(0);
            *count = count.saturating_add(1);
            spread(pause_after(*count, error.is_lasting()), (object.meta(), *count))
        };
        let (namespace, name) = (object.namespace(), object.name_any());
        let pause_ms = pause.as_millis();
        if error.is_conflict() {
            // The watch will show in a moment what changed.
            debug!(object.kind = K::KIND, namespace, name, pause_ms, "Changed meanwhile");
        } else {
            let error = chain(error);
            warn!(
                error,
                object.kind = K::KIND,
                namespace,
                name,
                pause_ms,
                "Cannot reconcile, trying again"
            );
        }
        Action::requeue(pause)
    }
}

/// Runs watches, reconcilers and the scale loop until `shutdown`.
pub(crate) async fn run_all(
    context: Arc<Context>,
    watches: Watches,
    shutdown: CancellationToken,
) -> Result<(), TaskError> {
    let (services, service_queue) = mpsc::channel(QUEUE_EVENTS_MAX);
    let (configurations, configuration_queue) = mpsc::channel(QUEUE_EVENTS_MAX);
    let (revisions, revision_queue) = mpsc::channel(QUEUE_EVENTS_MAX);
    let (routes, route_queue) = mpsc::channel(QUEUE_EVENTS_MAX);
    let (facts, fact_queue) = mpsc::channel(QUEUE_EVENTS_MAX);
    let queues = ReconcileQueues { services, configurations, revisions, routes, facts };

    // The first task to end stops the rest: half a controller is worse than a restart.
    let stop = shutdown.child_token();
    let mut tasks = JoinSet::new();
    let scaler = Scaler::new(context.client.clone(), context.metrics.clone());
    tasks.spawn(scaler.run(fact_queue).map(|()| "scale"));
    spawn_watches(&mut tasks, watches, &context.stores, &queues, &stop);
    tasks.spawn(follow_config(context.clone(), queues, stop.clone()).map(|()| "config"));
    // One task waits for the stores: kube wakes only the last of several that wait for one store.
    let mut outcome = Ok(());
    let ready = tokio::select! {
        biased;
        () = stop.cancelled() => false,
        // Only a bug ends a task before the reconcilers have begun.
        Some(ended) = tasks.join_next() => {
            outcome = count(&ended, outcome, &stop);
            false
        }
        ready = context.stores.ready() => ready.is_ok(),
    };
    if ready {
        tasks.spawn(drive(context.clone(), service_queue).map(|()| "service"));
        tasks.spawn(drive(context.clone(), configuration_queue).map(|()| "configuration"));
        tasks.spawn(drive(context.clone(), revision_queue).map(|()| "revision"));
        tasks.spawn(drive(context, route_queue).map(|()| "route"));
    } else {
        // Closes the queues: otherwise a watch that waits for room in one would wait for ever.
        drop((service_queue, configuration_queue, revision_queue, route_queue));
    }

    while let Some(ended) = tasks.join_next().await {
        outcome = count(&ended, outcome, &stop);
    }
    outcome
}

/// Adds the end of one more task to the `outcome` of those that ended before, and stops the rest.
fn count(
    ended: &Result<&'static str, JoinError>,
    outcome: Result<(), TaskError>,
    stop: &CancellationToken,
) -> Result<(), TaskError> {
    let failure = match ended {
        Ok(task) => TaskError::Ended(task),
        Err(_) => TaskError::Panicked("controller"),
    };
    // A panic in the shutdown may have left work undone.
    let counts = !stop.is_cancelled() || matches!(failure, TaskError::Panicked(_));
    stop.cancel();
    outcome.and(if counts { Err(failure) } else { Ok(()) })
}

fn spawn_watches(
    tasks: &mut JoinSet<&'static str>,
    watches: Watches,
    stores: &Stores,
    queues: &ReconcileQueues,
    stop: &CancellationToken,
) {
    let Watches { services, configurations, revisions, routes, deployments, pods, placeholders } =
        watches;
    let (out, stop) = (|| queues.clone(), || stop.clone());
    let ended = |()| "watch";
    let react = |object: &_, _| triggers::of_deployment(object);
    tasks.spawn(deployments.run(Fact::of_deployment, react, out(), stop()).map(ended));
    let react = |object: &_, _| triggers::of_service(object);
    tasks.spawn(services.run(no_fact, react, out(), stop()).map(ended));
    let known = stores.clone();
    let react = move |object: &_, _| triggers::of_configuration(&known, object);
    tasks.spawn(configurations.run(no_fact, react, out(), stop()).map(ended));
    let known = stores.clone();
    let react = move |object: &_, _| triggers::of_revision(&known, object);
    tasks.spawn(revisions.run(Fact::of_revision, react, out(), stop()).map(ended));
    let known = stores.clone();
    let react = move |object: &_, gone| triggers::of_route(&known, object, gone);
    tasks.spawn(routes.run(no_fact, react, out(), stop()).map(ended));
    let react = |object: &_, _| triggers::of_pod(object);
    tasks.spawn(pods.run(no_fact, react, out(), stop()).map(ended));
    let react = |object: &_, _| triggers::of_placeholder(object);
    tasks.spawn(placeholders.run(no_fact, react, out(), stop()).map(ended));
}

/// The fact of an object that has no part in scaling: none.
fn no_fact<K>(_: &K, _: bool) -> Option<Fact> {
    None
}

/// Reconciles the objects that depend on settings whenever the settings change: Routes for their
/// hosts, Revisions for their deadlines, Configurations for what they keep.
async fn follow_config(
    context: Arc<Context>,
    mut queues: ReconcileQueues,
    stop: CancellationToken,
) {
    let mut config = context.config.clone();
    let mut gc = config.borrow().gc.clone();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = config.changed() => if changed.is_err() {
                // The settings will not change any more.
                return stop.cancelled().await;
            },
        }
        let revisions = context.stores.revisions.names().into_iter();
        let routes = context.stores.routes.names().into_iter();
        let mut triggers: Vec<_> =
            revisions.map(Trigger::Revision).chain(routes.map(Trigger::Route)).collect();
        let now = context.config().gc.clone();
        if gc != now {
            gc = now;
            let all = context.stores.configurations.names().into_iter();
            triggers.extend(all.map(Trigger::Configuration));
        }
        queues.reconcile(triggers).await;
    }
}

/// Reconciles the objects from the queue until it ends, then finishes the reconciles under way.
async fn drive<K: Reconcile>(context: Arc<Context>, queue: mpsc::Receiver<ObjectRef<K>>) {
    let driver =
        Arc::new(Driver::<K> { context: context.clone(), failures: Mutex::new(HashMap::new()) });
    applier(
        |packed, driver: Arc<Driver<K>>| driver.reconcile(packed).boxed(),
        |packed, error, driver| driver.retry(&packed, error),
        driver.clone(),
        K::cache(&context.stores).store(),
        queue.map(|object| Ok::<_, Infallible>(packed(&object))),
        controller::Config::default().concurrency(CONCURRENCY),
    )
    .for_each(|outcome| {
        if let Err(controller::Error::ObjectNotFound(object)) = outcome {
            // Deleted, or missing although another object names it as its owner. Its last event was
            // for other objects.
            debug!(%object, "Nothing to reconcile");
            let mut gone = ObjectRef::<K>::new(&object.name);
            gone.namespace.clone_from(&object.namespace);
            context.forget(&gone);
            driver.failures.lock().remove(&packed(&gone));
        }
        std::future::ready(())
    })
    .await;
}

/// The reference to the object in its store.
fn packed<K: Reconcile>(object: &ObjectRef<K>) -> ObjectRef<Packed<K>> {
    let mut packed = ObjectRef::new(&object.name);
    packed.namespace.clone_from(&object.namespace);
    packed
}

/// The pause after so many failures in a row.
fn pause_after(failures: u32, is_lasting: bool) -> Duration {
    let (first, longest) =
        if is_lasting { (LASTING_MIN, LASTING_MAX) } else { (RETRY_MIN, RETRY_MAX) };
    backoff::pause_after(failures, first, longest)
}

/// A pause of three quarters to all of that length, so that objects which failed together are not
/// tried again together. By a hash and not at random: a simulation must be repeatable.
fn spread(pause: Duration, (object, failures): (&ObjectMeta, u32)) -> Duration {
    let mut hasher = DefaultHasher::new();
    (&object.namespace, &object.name, failures).hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 256).unwrap_or(0);
    pause.saturating_sub(pause / 1024 * share)
}

#[cfg(test)]
mod tests;
