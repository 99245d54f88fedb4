//! The stand-in for Kubernetes' scheduler: which pods this machine has room for.
//!
//! A pod for which there is room is placed as it is made, which costs a cold start no write. One for
//! which there is none is made without a node, waits for its turn, and says so in its condition
//! `PodScheduled`, in the scheduler's own words: the autoscaler reads them and lets idle replicas go.
//! The decisions are pure (`ledger`); the shell below feeds them from a watch of pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::annotations::MIN_SCALE;
use ebb_api::pod::{self, Amounts};
use ebb_api::{labels, priority};
use ebb_runner::devices::{DEVICES, Devices};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::ledger::{Ask, Ledger, Placed, Verdict};
use crate::terminal::{Terminal, TerminalEvent};

mod capacity;
mod ledger;

pub use capacity::{Capacity, DeviceCount};

/// The name of the one node: this machine.
pub const NODE_NAME: &str = "local";
/// Pause before a write that failed is tried again.
const WRITE_AGAIN: Duration = Duration::from_millis(500);

/// Places pods on this machine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Scheduler(Arc<Mutex<Ledger>>);

// === impl Scheduler ===

impl Scheduler {
    /// A machine with this capacity, and nothing on it.
    pub fn new(capacity: Capacity) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(capacity))))
    }

    /// Places a pod that is about to be made. Without room, or while others wait for what it needs, it
    /// stays without a node, and [`run`] places it later.
    pub fn place(&self, pod: &mut Pod) {
        let placed = self.0.lock().place(&ask(pod));
        if let Some(placed) = placed {
            let spec = pod.spec.get_or_insert_default();
            spec.node_name = Some(NODE_NAME.to_owned());
            let devices = placed.devices.to_string();
            if !devices.is_empty() {
                pod.annotations_mut().insert(DEVICES.to_owned(), devices);
            }
        }
    }

    /// Takes back the place of a pod that was not made.
    pub fn take_back(&self, pod: &Pod) {
        self.0.lock().release(&name(pod));
    }
}

/// Places the pods that wait until `shutdown`. Dropping the future loses nothing: all pods of a run of
/// Ebb end with it.
pub async fn run(
    client: Client,
    scheduler: Scheduler,
    terminal: Terminal,
    shutdown: CancellationToken,
) {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut events = watcher(pods, watcher::Config::default()).default_backoff().boxed();
    let mut shell = Shell { client, scheduler, terminal, listed: BTreeSet::new() };
    let mut is_behind = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = events.next() => match event {
                Ok(event) => shell.follow(event),
                Err(error) => tracing::warn!(%error, "The watch of pods failed and starts again"),
            },
            () = sleep(WRITE_AGAIN), if is_behind => {}
        }
        is_behind = !shell.act().await;
    }
}

struct Shell {
    client: Client,
    scheduler: Scheduler,
    terminal: Terminal,
    /// Names of a list that is not complete yet.
    listed: BTreeSet<String>,
}

// === impl Shell ===

impl Shell {
    fn follow(&mut self, event: watcher::Event<Pod>) {
        let mut ledger = self.scheduler.0.lock();
        match event {
            watcher::Event::Apply(pod) => note(&mut ledger, &pod),
            watcher::Event::Delete(pod) => ledger.release(&name(&pod)),
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.insert(name(&pod));
                note(&mut ledger, &pod);
            }
            watcher::Event::InitDone => ledger.keep_only(&std::mem::take(&mut self.listed)),
        }
    }

    /// Writes what has changed; false if some of it has to be tried again.
    async fn act(&self) -> bool {
        let mut is_done = true;
        loop {
            let next = self.scheduler.0.lock().next();
            let Some(placed) = next else { break };
            is_done &= self.bind(&placed).await;
            if !is_done {
                // The write fails for all, so that the next one is not even tried.
                return false;
            }
        }
        let crowded = self.scheduler.0.lock().crowded();
        for ask in crowded {
            is_done &= self.evict(&ask).await;
        }
        let verdicts = self.scheduler.0.lock().verdicts();
        for verdict in verdicts {
            if !self.tell(&verdict).await {
                self.scheduler.0.lock().forget_told(&verdict.ask.name);
                is_done = false;
            }
        }
        is_done
    }

    async fn bind(&self, placed: &Placed) -> bool {
        let Placed { ask, devices } = placed;
        let devices = devices.to_string();
        let mut patch = json!({"metadata": {"uid": ask.uid}, "spec": {"nodeName": NODE_NAME}});
        if !devices.is_empty() {
            patch["metadata"]["annotations"] = json!({DEVICES: devices});
        }
        let is_done = self.write(ask, patch, false).await;
        if !is_done {
            self.scheduler.0.lock().put_back(placed);
        }
        is_done
    }

    async fn tell(&self, verdict: &Verdict) -> bool {
        let Verdict { ask, reason, message, is_first } = verdict;
        if *is_first {
            let (pod, message) = (ask.name.clone(), message.clone());
            self.terminal.show(&TerminalEvent::Waiting { pod, message });
        }
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        });
        let status = json!({"phase": "Pending", "conditions": [condition]});
        self.write(ask, json!({"metadata": {"uid": ask.uid}, "status": status}), true).await
    }

    /// Ends a pod whose model sleeps, and has no room left to wake in: a new start waits for room, a call
    /// that wakes would not.
    async fn evict(&self, ask: &Ask) -> bool {
        let Some((namespace, name)) = ask.name.split_once('/') else { return true };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let preconditions = Preconditions { uid: ask.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(name, &params).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
            Err(error) => {
                tracing::warn!(%error, pod.name = %name, "Cannot end a pod, will try again");
                false
            }
        }
    }

    /// Whether the write was made, or is no longer needed.
    async fn write(&self, ask: &Ask, patch: serde_json::Value, is_status: bool) -> bool {
        let Some((namespace, name)) = ask.name.split_once('/') else { return true };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let (patch, params) = (Patch::Merge(patch), PatchParams::default());
        let written = if is_status {
            api.patch_status(name, &params, &patch).await
        } else {
            api.patch(name, &params, &patch).await
        };
        match written {
            Ok(_) => true,
            // Gone, or a namesake is there: the watch says so.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
            Err(error) => {
                tracing::warn!(%error, pod.name = %name, "Cannot place a pod, will try again");
                false
            }
        }
    }
}

/// Takes in a pod as it is now.
fn note(ledger: &mut Ledger, pod: &Pod) {
    let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let is_ending = pod.metadata.deletion_timestamp.is_some();
    if pod::has_ended(pod) || (is_ending && !is_placed) {
        ledger.release(&name(pod));
    } else if is_placed {
        let devices = Devices::of_pod(pod);
        // While it loads, it has a part of what it will have.
        let is_measured = Amounts::is_given(pod) && pod::is_ready(pod);
        let is_asleep = pod::is_asleep(pod);
        let ask = Ask { amounts: Amounts::held(pod), is_asleep, is_ending, ..ask(pod) };
        let placed = Placed { ask, devices };
        ledger.follow(placed, is_measured);
    } else {
        ledger.queue(ask(pod));
    }
}

fn name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

fn ask(pod: &Pod) -> Ask {
    let namespace = pod.namespace().unwrap_or_default();
    let model = pod.labels().get(labels::REVISION).map(|name| format!("{namespace}/{name}"));
    let notes: Option<&BTreeMap<String, String>> = pod.metadata.annotations.as_ref();
    Ask {
        name: name(pod),
        uid: pod.uid(),
        model,
        amounts: Amounts::requested(pod),
        priority: priority::of(notes).unwrap_or_default(),
        // Of the template: the default of all models in `config-autoscaler` is not known here.
        min_scale: MIN_SCALE.get(notes).and_then(|text| text.parse().ok()).unwrap_or_default(),
        is_asleep: false,
        is_ending: false,
    }
}
