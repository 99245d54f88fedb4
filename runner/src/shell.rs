//! The shell: a watch of pods in, a worker for each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::guardian::Guardian;
use crate::tasks;

use super::command::Surroundings;
use super::container::{self, Machine, Stop};
use super::limits::Limiter;
use super::logs::Logs;
use super::memory::MemoryGauge;
use super::mounts::Mounter;
use super::pod::{Orders, Worker, removal};
use super::volumes::Folders;

/// Grace of the processes of a pod whose object was removed by force.
const FORCED_GRACE: Duration = Duration::from_secs(2);

/// Options of the runner, which it needs beside the client.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// Where output of containers is kept.
    pub logs: Logs,
    /// The value of `EBB_INSTANCE` in every replica's environment.
    pub instance: String,
    /// The guardian that is told of process groups; without one, replicas outlive a killed Ebb.
    pub guardian: Option<Guardian>,
    /// Where volumes of pods are kept while the pods are there.
    pub volumes: PathBuf,
    /// The program that [`mounts::main`](crate::mounts::main) is reached by with the word `mounted`;
    /// without one no volume can be mounted.
    pub mounter: Option<PathBuf>,
    /// Makes the groups that limit containers.
    pub limiter: Limiter,
    /// Variables that every container has beside those of its own.
    pub variables: BTreeMap<String, String>,
    /// Time between SIGTERM and SIGKILL of all replicas when Ebb itself stops.
    pub shutdown_grace: Duration,
}

// === impl RunnerOptions ===

impl RunnerOptions {
    /// Options for an Ebb with the data folder `data` and the identity `instance`, five seconds of
    /// grace, no guardian, no mounts and no limits.
    pub fn new(data: &std::path::Path, instance: String) -> Self {
        Self {
            logs: Logs::new(PathBuf::from(data).join("logs")),
            volumes: PathBuf::from(data).join("volumes"),
            mounter: None,
            limiter: Limiter::none("limits were not asked for"),
            variables: BTreeMap::new(),
            instance,
            guardian: None,
            shutdown_grace: Duration::from_secs(5),
        }
    }

    /// Whether programs can have mounts on this machine, as it is set up now: tried, which takes some
    /// milliseconds.
    pub async fn can_mount(&self) -> bool {
        Mounter::new(self.mounter.clone()).obstacle().await.is_none()
    }
}

struct Shell {
    machine: Arc<Machine>,
    /// By UID.
    workers: HashMap<String, watch::Sender<Orders>>,
    tasks: JoinSet<String>,
    listed: HashSet<String>,
}

/// The annotation of a pod in which no request is, nor will be.
pub const DRAINED: &str = "serving.ebb.dev/drained";

/// Removes what a former Ebb left: the pods in the store, whose processes are gone, their volumes and
/// logs. To be called before anything creates pods, so that Deployments make new ones.
///
/// Fails when the API does; pods that were removed until then stay removed.
pub async fn clear_stale_pods(client: &Client, options: &RunnerOptions) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let stale = pods.list(&ListParams::default()).await?;
    let removals = stale.items.into_iter().map(|pod| {
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        async move {
            let params = removal(pod.metadata.uid.clone());
            match api.delete(&pod.name_any(), &params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                outcome => outcome.map(drop),
            }
        }
    });
    join_all(removals).await.into_iter().collect::<Result<(), _>>()?;
    let folders = Folders::new(options.volumes.clone(), &options.instance);
    tasks::pass_on(tokio::task::spawn_blocking(move || folders.clear()).await);
    // There are none before the first start.
    let _ = tokio::fs::remove_dir_all(options.logs.root()).await;
    Ok(())
}

/// Runs every pod until `shutdown`, then ends all replicas: SIGTERM, and SIGKILL after
/// `shutdown_grace`. Returns when the last one ended. Pods stay in the store; the next start
/// clears them.
///
/// Dropping the future kills the replicas' first processes; the guardian ends the rest.
pub async fn run(client: Client, options: RunnerOptions, shutdown: CancellationToken) {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut events = watcher(pods, watcher::Config::default()).default_backoff().boxed();
    let folders = Folders::new(options.volumes, &options.instance);
    let mut shell = Shell {
        machine: Arc::new(Machine {
            client,
            logs: options.logs,
            guardian: options.guardian,
            instance: options.instance,
            surroundings: Surroundings::here(&options.variables),
            memory: MemoryGauge::default(),
            folders: folders.clone(),
            mounter: Mounter::new(options.mounter),
            limiter: options.limiter,
        }),
        workers: HashMap::new(),
        tasks: JoinSet::new(),
        listed: HashSet::new(),
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(event) = events.next() => match event {
                Ok(event) => shell.follow(event),
                Err(error) => tracing::warn!(%error, "The watch of pods failed and starts again"),
            },
            Some(ended) = shell.tasks.join_next() => shell.bury(ended),
        }
    }
    shell.shut_down(options.shutdown_grace).await;
    tasks::pass_on(tokio::task::spawn_blocking(move || folders.clear()).await);
}

// === impl Shell ===

impl Shell {
    fn follow(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Apply(pod) => self.apply(pod),
            watcher::Event::Delete(pod) => self.force(&pod.uid().unwrap_or_default()),
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.extend(pod.uid());
                self.apply(pod);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<String> =
                    self.workers.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                for uid in gone {
                    self.force(&uid);
                }
            }
        }
    }

    /// Takes up a pod if it is new, and ends it if it is being deleted.
    fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.uid() else {
            return;
        };
        let stop = pod
            .metadata
            .deletion_timestamp
            .is_some()
            .then(|| Stop { deadline: Instant::now() + grace(&pod), has_hook: has_hook(&pod) });
        if let Some(worker) = self.workers.get(&uid) {
            if let Some(stop) = stop {
                order(worker, stop, false);
            }
            return;
        }
        if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
            // It waits for a place.
            return;
        }
        let (orders, receiver) = watch::channel(Orders { stop, keeps_object: false });
        let worker = Worker::new(Arc::clone(&self.machine), pod, receiver);
        self.workers.insert(uid.clone(), orders);
        self.tasks.spawn(async move {
            worker.run().await;
            uid
        });
    }

    /// The object of a pod is gone: its processes have to end soon.
    fn force(&mut self, uid: &str) {
        if let Some(worker) = self.workers.get(uid) {
            let stop = Stop { deadline: Instant::now() + FORCED_GRACE, has_hook: false };
            order(worker, stop, false);
        }
    }

    fn bury(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.workers.remove(&uid);
            }
            Err(error) => tasks::pass_on(Err(error)),
        }
    }

    async fn shut_down(mut self, grace: Duration) {
        let stop = Stop { deadline: Instant::now() + grace, has_hook: false };
        for worker in self.workers.values() {
            order(worker, stop, true);
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.bury(ended);
        }
    }
}

/// Orders a stop. A later order only ever brings the deadline forward, as in Kubernetes: each
/// event of a terminating pod would otherwise put it off.
fn order(worker: &watch::Sender<Orders>, stop: Stop, keeps_object: bool) {
    worker.send_if_modified(|orders| {
        let before = *orders;
        orders.keeps_object |= keeps_object;
        orders.stop = match orders.stop {
            Some(ordered) if ordered.deadline <= stop.deadline => Some(ordered),
            _ => Some(stop),
        };
        *orders != before
    });
}

/// Whether hooks run before the processes end. A pause waits for requests that are on their way, of
/// which a drained pod has none; hooks of other kinds are the model's own.
fn has_hook(pod: &Pod) -> bool {
    let is_drained = pod.annotations().contains_key(DRAINED);
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut hooks = containers.filter_map(|it| it.lifecycle.as_ref()?.pre_stop.as_ref());
    !is_drained || hooks.any(|hook| hook.sleep.is_none())
}

fn grace(pod: &Pod) -> Duration {
    let spec = pod.spec.as_ref();
    let asked_s = pod.metadata.deletion_grace_period_seconds;
    container::grace(
        asked_s.or_else(|| spec.and_then(|spec| spec.termination_grace_period_seconds)),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_drained_pod_makes_no_pause_before_its_end() {
        let pod = |hook: serde_json::Value, is_drained: bool| -> Pod {
            let notes = if is_drained { json!({DRAINED: "true"}) } else { json!({}) };
            serde_json::from_value(json!({
                "metadata": {"annotations": notes},
                "spec": {"containers": [{"name": "c", "lifecycle": {"preStop": hook}}, {"name": "d"}]},
            }))
            .expect("a pod")
        };
        let pause = || json!({"sleep": {"seconds": 3}});
        let own = || json!({"exec": {"command": ["save"]}});
        assert!(has_hook(&pod(pause(), false)) && has_hook(&pod(own(), false)));
        assert!(!has_hook(&pod(pause(), true)), "nothing is on its way");
        assert!(has_hook(&pod(own(), true)), "the model's own");
    }
}
