//! The shell: two watches in, pods and statuses out.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use ebb_api::resource_version::ResourceVersion;
use ebb_runner::{PortReservation, Ports};
use futures::StreamExt;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::core::{Selector, SelectorExt as _};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Change, owner};
use super::plan::{Actions, plan};
use super::status::observe;
use super::writes::{Deletion, create_pod, delete_pod, mark_drained};
use crate::scheduler::Scheduler;

/// Events taken in one go. Those that have arrived are taken together, without a wait for more.
const EVENTS_AT_ONCE: usize = 256;

/// Pods created for one Deployment in one go; their watch events bring it back for the rest. As
/// many processes starting at once as a machine's cores can make use of, and then some.
const CREATED_AT_ONCE: usize = 64;

/// Pause before a Deployment is looked at again after a write of it failed.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Stands for "no timer": further away than any program runs.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// What the shell needs beside the client.
#[derive(Debug, Clone, Default)]
pub struct DeploymentOptions {
    /// Where pods get their ports; shared by everything on this machine that gives out ports.
    /// `None` where each pod has an address of its own, and keeps the ports of its template.
    pub ports: Option<Ports>,
    /// Who places pods on this machine; `None` where there is room for all.
    pub scheduler: Option<Scheduler>,
}

/// What is kept of a Deployment.
#[derive(Debug, Default)]
struct Known {
    namespace: String,
    name: String,
    /// The newest version that was looked at.
    seen: ResourceVersion,
}

struct Shell {
    client: Client,
    ports: Option<Ports>,
    scheduler: Option<Scheduler>,
    /// Every Deployment, by UID. The object is read when it is looked at, for the API is in this
    /// process: ten thousand that sleep would be held for nothing.
    deployments: HashMap<String, Known>,
    /// UIDs of a list that is not complete yet.
    listed: HashSet<String>,
    pods: Cache<Pod>,
    /// Ports by the pod's UID, given back when the pod is gone.
    reservations: HashMap<String, PortReservation>,
    /// Deployments to look at although nothing happened.
    timers: HashMap<String, Instant>,
}

/// Deployments to look at, by UID; with the object if the watch has just delivered it.
type Waiting = HashMap<String, Option<Box<Deployment>>>;

/// Keeps the pods of every Deployment until `shutdown`; leaves everything as it is then.
///
/// Failed writes are logged and tried again; watches reconnect by themselves. Dropping the future
/// between a write and its answer loses nothing: the next start lists what there is.
pub async fn run(client: Client, options: DeploymentOptions, shutdown: CancellationToken) {
    let config = watcher::Config::default();
    let mut deployments = watcher(Api::<Deployment>::all(client.clone()), config.clone())
        .default_backoff()
        .ready_chunks(EVENTS_AT_ONCE)
        .boxed();
    let mut pods = watcher(Api::<Pod>::all(client.clone()), config)
        .default_backoff()
        .ready_chunks(EVENTS_AT_ONCE)
        .boxed();
    let mut shell = Shell {
        client,
        ports: options.ports,
        scheduler: options.scheduler,
        deployments: HashMap::new(),
        listed: HashSet::new(),
        pods: Cache::default(),
        reservations: HashMap::new(),
        timers: HashMap::new(),
    };
    // Before both lists are complete a Deployment would seem to have no pods.
    let (mut has_deployments, mut has_pods) = (false, false);
    let mut waiting = Waiting::new();
    loop {
        let next = shell.timers.values().min().copied();
        let next = next.unwrap_or_else(|| Instant::now() + NEVER);
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(events) = deployments.next() => {
                for event in events.into_iter().filter_map(listened) {
                    has_deployments |= matches!(event, watcher::Event::InitDone);
                    shell.follow_deployment(event, &mut waiting);
                }
            }
            Some(events) = pods.next() => {
                for event in events.into_iter().filter_map(listened) {
                    has_pods |= matches!(event, watcher::Event::InitDone);
                    for uid in shell.follow_pod(event) {
                        waiting.entry(uid).or_default();
                    }
                }
            }
            () = sleep_until(next) => for uid in shell.due() {
                waiting.entry(uid).or_default();
            },
        }
        if has_deployments && has_pods {
            for (uid, told) in waiting.drain() {
                shell.reconcile(&uid, told).await;
            }
        }
    }
}

/// The event, unless the watch failed, which reconnects by itself.
fn listened<K>(event: Result<watcher::Event<K>, watcher::Error>) -> Option<watcher::Event<K>> {
    event.inspect_err(|error| tracing::warn!(%error, "The watch failed and starts again")).ok()
}

// === impl Known ===

impl Known {
    /// Whether a state of that version may be looked at: none that is older than one before. A read
    /// overtakes the watch, whose older scale would undo what the read has led to.
    fn admits(&mut self, version: ResourceVersion) -> bool {
        let is_newest = version.shows(self.seen);
        if is_newest {
            self.seen = version;
        }
        is_newest
    }
}

// === impl Shell ===

impl Shell {
    /// Takes in the event; adds the Deployments to look at to `waiting`.
    fn follow_deployment(&mut self, event: watcher::Event<Deployment>, waiting: &mut Waiting) {
        match event {
            watcher::Event::Apply(deployment) => self.note(deployment, waiting),
            watcher::Event::Delete(deployment) => {
                self.forget(&deployment.uid().unwrap_or_default());
            }
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(deployment) => {
                self.listed.extend(deployment.uid());
                self.note(deployment, waiting);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let known = self.deployments.keys();
                let gone: Vec<String> =
                    known.filter(|uid| !listed.contains(*uid)).cloned().collect();
                for uid in gone {
                    self.forget(&uid);
                }
            }
        }
    }

    fn note(&mut self, deployment: Deployment, waiting: &mut Waiting) {
        let Some(uid) = deployment.uid() else {
            return;
        };
        let known = self.deployments.entry(uid.clone()).or_default();
        known.namespace = deployment.namespace().unwrap_or_default();
        known.name = deployment.name_any();
        waiting.insert(uid, Some(Box::new(deployment)));
    }

    fn forget(&mut self, uid: &str) {
        self.deployments.remove(uid);
        self.timers.remove(uid);
    }

    fn follow_pod(&mut self, event: watcher::Event<Pod>) -> Vec<String> {
        let changes = self.pods.follow(event);
        let mut concerned = Vec::new();
        for change in changes {
            let pod = match &change {
                Change::Stored(uid) => self.pods.get(uid),
                Change::Gone(pod) => {
                    self.reservations.remove(&pod.uid().unwrap_or_default());
                    Some(pod)
                }
            };
            concerned.extend(pod.and_then(owner).map(str::to_owned));
        }
        concerned
    }

    fn due(&mut self) -> Vec<String> {
        let now = Instant::now();
        self.timers.extract_if(|_, at| *at <= now).map(|(uid, _)| uid).collect()
    }

    /// Looks at one Deployment: the object that the watch `told`, or else a fresh read.
    async fn reconcile(&mut self, uid: &str, told: Option<Box<Deployment>>) {
        let deployment = match told {
            Some(told) => told,
            None => match self.read(uid).await {
                Some(deployment) => deployment,
                None => return,
            },
        };
        let version = ResourceVersion::of(&deployment.metadata);
        let is_newest = self.deployments.get_mut(uid).is_some_and(|known| known.admits(version));
        if !is_newest {
            return;
        }
        self.timers.remove(uid);
        if deployment.metadata.deletion_timestamp.is_some() {
            return;
        }
        let actions = plan(&deployment, self.pods_of(&deployment), Timestamp::now());
        let mut is_done = self.act(&deployment, actions).await;

        // After the writes, so that one status says all of it.
        let (status, mut next) = observe(&deployment, self.pods_of(&deployment), Timestamp::now());
        if deployment.status.as_ref() != Some(&status) {
            is_done &= self.write_status(&deployment, &status).await;
        }
        if !is_done {
            next = Some(next.map_or(RETRY_AFTER, |next| next.min(RETRY_AFTER)));
        }
        if let Some(next) = next {
            self.timers.insert(uid.to_owned(), Instant::now() + next);
        }
    }

    /// Reads a Deployment; `None` if it is gone, or cannot be read, and then it is due again.
    async fn read(&mut self, uid: &str) -> Option<Box<Deployment>> {
        let Known { namespace, name, .. } = self.deployments.get(uid)?;
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        match api.get_opt(name).await {
            Ok(found) => found.filter(|own| own.uid().as_deref() == Some(uid)).map(Box::new),
            Err(error) => {
                tracing::warn!(%error, deployment.name = %name, "Cannot read a Deployment");
                self.timers.insert(uid.to_owned(), Instant::now() + RETRY_AFTER);
                None
            }
        }
    }

    /// The pods that are `deployment`'s own and selected by it.
    fn pods_of<'a>(&'a self, deployment: &'a Deployment) -> impl Iterator<Item = &'a Pod> {
        let spec = deployment.spec.as_ref();
        let selector = spec.and_then(|spec| Selector::try_from(spec.selector.clone()).ok());
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        self.pods.owned_by(uid).filter(move |pod| {
            selector.as_ref().is_some_and(|selector| selector.matches(pod.labels()))
        })
    }

    /// Creates and deletes; false when something is to be tried again.
    async fn act(&mut self, deployment: &Deployment, actions: Actions) -> bool {
        let Actions { create, delete } = actions;
        let create = create.min(CREATED_AT_ONCE);
        if create == 0 && delete.is_empty() {
            return true;
        }
        let namespace = deployment.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let (created, deleted) = tokio::join!(
            join_all((0..create).map(|_| create_pod(
                &api,
                (self.ports.as_ref(), self.scheduler.as_ref()),
                deployment
            ))),
            join_all(delete.iter().map(async |victim| {
                if victim.is_drained && self.scheduler.is_some() {
                    mark_drained(&api, victim).await;
                }
                delete_pod(&api, victim).await
            })),
        );
        let mut is_done = true;
        for outcome in created {
            let Some((pod, reservation)) = outcome else {
                is_done = false;
                continue;
            };
            if let Some(reservation) = reservation {
                self.reservations.insert(pod.uid().unwrap_or_default(), reservation);
            }
            self.pods.store(pod);
        }
        for outcome in deleted {
            match outcome {
                Deletion::Terminating(pod) => {
                    self.pods.store(*pod);
                }
                Deletion::Gone(uid) => {
                    self.pods.remove(&uid);
                }
                Deletion::Failed => is_done = false,
            }
        }
        is_done
    }

    async fn write_status(
        &mut self,
        deployment: &Deployment,
        status: &k8s_openapi::api::apps::v1::DeploymentStatus,
    ) -> bool {
        let namespace = deployment.namespace().unwrap_or_default();
        let name = deployment.name_any();
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let patch = Patch::Merge(json!({"metadata": {"uid": deployment.uid()}, "status": status}));
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => true,
            // Deleted in the meantime; the watch says so.
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(error) => {
                tracing::warn!(%error, deployment.name = %name, "Cannot write a Deployment's status");
                false
            }
        }
    }
}
#[cfg(test)]
#[test]
fn no_state_is_followed_that_is_older_than_one_before() {
    let mut known = Known::default();
    let admitted = [5, 5, 4, 7, 6].map(|version: u128| known.admits(version.into()));
    assert_eq!(admitted, [true, true, false, true, false]);
    assert!(known.admits(ResourceVersion::default()), "the watch wins where nothing is known");
}
