//! Simulated machines: pods that take a while to start, serve over the network, and die without
//! mercy.
//!
//! A process here behaves as badly as is allowed: it drops all its work the moment it gets SIGTERM.
//! Only the preStop sleep stands between the deletion of a pod and that moment. Addresses are few,
//! so that a pod often gets the one that another has just left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::labels;
use ebb_api::pod::WatchedPod;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::chance::Chance;
use crate::identity::{HABIT, Habit, Identity};
use crate::judge::Judge;
use crate::network::Network;
use crate::story::Story;

pub(crate) mod model;
mod object;

use object::{identity, pre_stop, status};

/// Addresses that go round before new ones are given out.
const ADDRESSES: u16 = 6;
/// How long Kubernetes waits until it calls a lost machine's pods not ready, and then deletes them.
/// In a cluster it is 40 s and 5 min; tests need no more than that it is long.
const LOST_AFTER: Duration = Duration::from_secs(8);
const EVICTED_AFTER: Duration = Duration::from_secs(6);

/// How the process of a pod is: what is wrong with it, and how often. Each trouble ends by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Health {
    /// Its readiness probe fails, and it serves.
    unready: u32,
    /// It breaks off every request; the probe does not tell.
    sick: u32,
}

impl Health {
    pub(crate) const fn is_ready(self) -> bool {
        self.unready == 0
    }

    pub(crate) const fn is_sick(self) -> bool {
        self.sick > 0
    }
}

/// The machines that all pods run on. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Machines {
    network: Network,
    chance: Chance,
    judge: Judge,
    story: Story,
    client: Client,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Addresses that were given back; the last one first.
    free: Vec<u16>,
    given: u16,
    processes: BTreeMap<Arc<str>, Process>,
    /// Pods that are deleted, or were.
    ending: BTreeSet<Arc<str>>,
}

/// What has become of the machine under a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    Well,
    /// It is lost, and nobody writes its pods' statuses.
    Lost,
    /// Kubernetes has noticed.
    GivenUp,
}

/// The process of a pod.
struct Process {
    identity: Identity,
    address: IpAddr,
    habit: Habit,
    health: watch::Sender<Health>,
    /// Its listener and connections, while it runs.
    serving: Option<JoinHandle<()>>,
    restarts: i32,
    /// Whether it has ended by itself and waits for its next start.
    is_down: bool,
    machine: Machine,
    is_ending: bool,
}

impl Process {
    fn is_ready(&self) -> bool {
        self.serving.is_some()
            && self.health.borrow().is_ready()
            && self.machine != Machine::GivenUp
    }
}

impl Machines {
    pub(crate) fn new(
        network: &Network,
        chance: Chance,
        judge: &Judge,
        story: &Story,
        client: Client,
    ) -> Self {
        let (network, judge, story) = (network.clone(), judge.clone(), story.clone());
        let state = Arc::new(Mutex::new(State { given: 0, ..State::default() }));
        Self { network, chance, judge, story, client, state }
    }

    /// Does for every pod what a kubelet does, for ever.
    pub(crate) async fn keep(self) {
        let pods: Api<WatchedPod> = Api::all(self.client.clone());
        let config = watcher::Config::default().labels(labels::REVISION);
        let events = watcher(pods, config).default_backoff().applied_objects();
        let mut events = events.boxed();
        let (mut started, mut ending) = (BTreeMap::new(), BTreeMap::new());
        while let Some(event) = events.next().await {
            let Ok(pod) = event else { continue };
            let Some(identity) = identity(&pod) else { continue };
            let machines = self.clone();
            let is_ending = pod.metadata.deletion_timestamp.is_some();
            let begun = if is_ending { &mut ending } else { &mut started };
            begun.entry(identity.uid.clone()).or_insert_with(|| {
                tokio::spawn(async move {
                    if is_ending {
                        machines.end(identity, &pod).await;
                    } else {
                        machines.start(identity, &pod).await;
                    }
                })
            });
        }
    }

    /// The pods that run now.
    pub(crate) fn running(&self) -> Vec<Identity> {
        let state = self.state.lock();
        let runs =
            |process: &&Process| process.serving.is_some() && process.machine == Machine::Well;
        state.processes.values().filter(runs).map(|process| process.identity.clone()).collect()
    }

    async fn start(&self, identity: Identity, pod: &Pod) {
        let habit = match pod.annotations().get(HABIT).map(String::as_str) {
            Some("broken") => Habit::Broken,
            Some("slow") => Habit::Slow,
            _ => Habit::Well,
        };
        let wait = match habit {
            Habit::Slow => self.chance.between(2_000, 6_000),
            _ => self.chance.between(5, 400),
        };
        sleep(wait).await;
        // A pod that was deleted before it started never does.
        if self.state.lock().ending.contains(&identity.uid) {
            return;
        }
        let address = self.give_address();
        self.network.host(&identity.name, address);
        let process = Process {
            identity: identity.clone(),
            address,
            habit,
            health: watch::Sender::new(Health::default()),
            serving: None,
            restarts: 0,
            is_down: false,
            machine: Machine::Well,
            is_ending: false,
        };
        self.state.lock().processes.insert(identity.uid.clone(), process);
        self.write_status(&identity).await;
        sleep(self.chance.between(0, 200)).await;
        if habit == Habit::Broken {
            return;
        }
        self.listen(&identity.uid);
        sleep(self.chance.between(0, 50)).await;
        self.write_status(&identity).await;
    }

    /// Starts the process of a pod, unless the pod is at its end.
    fn listen(&self, uid: &str) {
        let mut state = self.state.lock();
        let Some(process) = state.processes.get_mut(uid).filter(|process| !process.is_ending)
        else {
            return;
        };
        let identity = process.identity.clone();
        let listener =
            self.network.bind(&identity.name, SocketAddr::new(process.address, model::PORT));
        let health = process.health.subscribe();
        self.judge.pod_runs(&identity);
        let serving = model::serve(listener, identity, health, self.judge.clone());
        process.serving = Some(tokio::spawn(serving));
        process.is_down = false;
    }

    async fn end(&self, identity: Identity, pod: &Pod) {
        {
            let mut state = self.state.lock();
            state.ending.insert(identity.uid.clone());
            if let Some(process) = state.processes.get_mut(&identity.uid) {
                process.is_ending = true;
            }
        }
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        if grace > 0 {
            // The watch reads no hooks.
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &identity.namespace);
            let whole = pods.get_opt(&identity.name).await.ok().flatten();
            sleep(whole.as_ref().map(pre_stop).unwrap_or_default()).await;
        }
        self.judge.pod_ends(&identity);
        self.stop(&identity);
        self.state.lock().processes.remove(&identity.uid);
        self.network.unhost(&identity.name);
        sleep(self.chance.between(0, 50)).await;
        self.remove(&identity).await;
    }

    /// Ends the process of a pod with everything that it does.
    fn stop(&self, identity: &Identity) {
        let mut state = self.state.lock();
        let Some(process) = state.processes.get_mut(&identity.uid) else { return };
        if let Some(serving) = process.serving.take() {
            serving.abort();
        }
        if let IpAddr::V4(address) = process.address {
            let [.., high, low] = address.octets();
            state.free.push(u16::from_be_bytes([high, low]));
        }
        drop(state);
        self.network.kill(&identity.name);
    }

    /// The process ends by itself; Kubernetes starts it again after a while.
    pub(crate) async fn crash(&self, identity: Identity, back_off: Duration) {
        {
            let mut state = self.state.lock();
            let Some(process) = state.processes.get_mut(&identity.uid) else { return };
            if process.is_ending {
                return;
            }
            let Some(serving) = process.serving.take() else { return };
            serving.abort();
            process.restarts += 1;
            process.is_down = true;
        }
        self.judge.pod_fails(&identity);
        self.story.tell(format!("The process of pod {} crashes", identity.name));
        self.network.kill(&identity.name);
        sleep(self.chance.between(0, 300)).await;
        self.write_status(&identity).await;
        sleep(back_off).await;
        self.listen(&identity.uid);
        sleep(self.chance.between(0, 50)).await;
        self.write_status(&identity).await;
    }

    /// The readiness probe fails for a while. Requests are served as before.
    pub(crate) async fn unwell(&self, identity: Identity, time: Duration) {
        if !self.change_health(&identity, |health| health.unready += 1) {
            return;
        }
        self.story.tell(format!("The readiness probe of pod {} fails", identity.name));
        self.judge.pod_turns_unready(&identity);
        sleep(self.chance.between(0, 1_000)).await;
        self.write_status(&identity).await;
        sleep(time).await;
        self.change_health(&identity, |health| health.unready -= 1);
        sleep(self.chance.between(0, 1_000)).await;
        self.write_status(&identity).await;
    }

    /// The process breaks off every request for a while.
    pub(crate) async fn sicken(&self, identity: Identity, time: Duration) {
        if !self.change_health(&identity, |health| health.sick += 1) {
            return;
        }
        self.story.tell(format!("Pod {} breaks off every request for {time:?}", identity.name));
        let fault = self.judge.sickens(&identity);
        sleep(time).await;
        self.change_health(&identity, |health| health.sick -= 1);
        self.judge.recovers(&identity, fault);
    }

    /// Whether the pod is there and not at its end, and so its health has changed.
    fn change_health(&self, identity: &Identity, change: impl FnOnce(&mut Health)) -> bool {
        let state = self.state.lock();
        let process = state.processes.get(&identity.uid).filter(|process| !process.is_ending);
        process.inspect(|process| process.health.send_modify(change)).is_some()
    }

    /// The machine under a pod is lost; Kubernetes notices after a while and replaces the pod.
    pub(crate) async fn lose(&self, identity: Identity) {
        {
            let mut state = self.state.lock();
            let Some(process) = state.processes.get_mut(&identity.uid) else { return };
            if process.is_ending || process.machine != Machine::Well {
                return;
            }
            process.machine = Machine::Lost;
        }
        let fault = self.judge.pod_is_lost(&identity);
        self.story.tell(format!("The machine of pod {} is lost", identity.name));
        self.network.lose(&identity.name);
        sleep(LOST_AFTER).await;
        if let Some(process) = self.state.lock().processes.get_mut(&identity.uid) {
            process.machine = Machine::GivenUp;
        }
        self.write_status(&identity).await;
        sleep(EVICTED_AFTER).await;
        self.stop(&identity);
        self.judge.settle(fault);
        self.state.lock().processes.remove(&identity.uid);
        self.network.unhost(&identity.name);
        self.remove(&identity).await;
    }

    async fn remove(&self, identity: &Identity) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &identity.namespace);
        let own = Preconditions { uid: Some(identity.uid.to_string()), ..Preconditions::default() };
        let now = DeleteParams::default().grace_period(0).preconditions(own);
        // The pod may have been removed with its Deployment meanwhile.
        drop(pods.delete(&identity.name, &now).await);
    }

    fn give_address(&self) -> IpAddr {
        let mut state = self.state.lock();
        let reuse = !state.free.is_empty() && (state.given >= ADDRESSES || self.chance.one_in(2));
        let last = if let Some(last) = reuse.then(|| state.free.pop()).flatten() {
            last
        } else {
            state.given += 1;
            state.given
        };
        let [high, low] = last.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 3, high, low))
    }

    /// Writes how the pod is now, if anybody there can.
    async fn write_status(&self, identity: &Identity) {
        let (address, restarts, state, is_ready) = {
            let state = self.state.lock();
            let Some(process) = state.processes.get(&identity.uid) else { return };
            let is_dark = process.machine == Machine::Lost;
            let is_ready = process.is_ready();
            if is_dark || (is_ready && process.is_ending) {
                return;
            }
            let state = match (process.habit, process.is_down) {
                (Habit::Broken, _) => json!({"running": null, "waiting": {
                    "reason": "CrashLoopBackOff", "message": "exit 1",
                }}),
                (_, true) => json!({"running": null, "terminated": {"exitCode": 3}}),
                (_, false) => json!({"running": {}, "terminated": null}),
            };
            (process.address, process.restarts, state, is_ready)
        };
        let status = status(address, restarts, &state, is_ready);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &identity.namespace);
        let patch = json!({"metadata": {"uid": &*identity.uid}, "status": status});
        // A pod that is gone needs no status.
        drop(
            pods.patch_status(&identity.name, &PatchParams::default(), &Patch::Merge(patch)).await,
        );
    }
}
