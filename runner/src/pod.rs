//! One pod: its containers in their order, its status, its end. A task of its own.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::container::{Machine, Place, Stop, Supervisor};
use super::state::PodState;
use super::status;
use crate::tasks;

/// Pause before a failed write is tried again.
const WRITE_AGAIN: Duration = Duration::from_millis(200);
/// Tries to remove the object of a pod that ended. More would hold up a shutdown; a pod that is
/// left is stale at the next start and removed then.
const REMOVE_TRIES: u32 = 25;

/// What the shell has ordered for a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// When and how to stop; `None` while the pod is wanted.
    pub(super) stop: Option<Stop>,
    /// Whether the object is left in the API when the pod ended: set when Ebb itself stops.
    pub(super) keeps_object: bool,
}

/// A pod and what it needs to run.
pub(super) struct Worker {
    machine: Arc<Machine>,
    pod: Arc<Pod>,
    orders: watch::Receiver<Orders>,
    states: watch::Sender<PodState>,
    /// The stop in `orders`, passed on to the containers.
    stop: watch::Sender<Option<Stop>>,
    written: Option<PodStatus>,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(machine: Arc<Machine>, pod: Pod, orders: watch::Receiver<Orders>) -> Self {
        let count = |containers: Option<&Vec<Container>>| containers.map_or(0, Vec::len);
        let spec = pod.spec.as_ref();
        let state = PodState::new(
            Timestamp::now(),
            count(spec.and_then(|spec| spec.init_containers.as_ref())),
            count(spec.map(|spec| &spec.containers)),
        );
        let (stop, _) = watch::channel(orders.borrow().stop);
        Self {
            machine,
            pod: Arc::new(pod),
            orders,
            states: watch::Sender::new(state),
            stop,
            written: None,
        }
    }

    /// Runs the pod until it is ordered to stop and all its containers have ended; then removes its
    /// object, unless ordered otherwise.
    pub(super) async fn run(mut self) {
        let mut states = self.states.subscribe();
        let mut containers = self.start();
        let mut is_over = false;
        let mut is_behind = false;
        loop {
            let must_end = self.orders.borrow().stop.is_some();
            if is_over && must_end {
                break;
            }
            tokio::select! {
                changed = self.orders.changed() => self.follow_orders(changed.is_ok()),
                // The status of a pod that is ending is not written: its end shows in the deletion.
                _ = states.changed(), if !must_end => is_behind = true,
                ended = &mut containers, if !is_over => {
                    tasks::pass_on(ended);
                    is_over = true;
                }
                () = sleep(WRITE_AGAIN), if is_behind && !must_end => {}
            }
            if is_behind && self.orders.borrow().stop.is_none() {
                let state = states.borrow_and_update().clone();
                is_behind = state.is_settled() && !self.write_status(&state).await;
            }
        }
        let (namespace, name) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let uid = self.pod.uid().unwrap_or_default();
        if !self.orders.borrow().keeps_object {
            self.remove().await;
            self.machine.logs.forget(&namespace, &name, &uid).await;
        }
        let folders = self.machine.folders.clone();
        tasks::pass_on(tokio::task::spawn_blocking(move || folders.remove(&uid)).await);
    }

    /// Starts init containers one after the other, then all others.
    fn start(&self) -> JoinHandle<()> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let supervisor = |place, container| Supervisor {
            machine: Arc::clone(&self.machine),
            pod: Arc::clone(&self.pod),
            container: Arc::new(container),
            place,
            states: self.states.clone(),
            stop: self.stop.subscribe(),
        };
        let init: Vec<Supervisor> = init
            .into_iter()
            .enumerate()
            .map(|(index, container)| supervisor(Place::Init(index), container))
            .collect();
        let regular: Vec<Supervisor> = spec
            .containers
            .into_iter()
            .enumerate()
            .map(|(index, container)| supervisor(Place::Regular(index), container))
            .collect();
        let states = self.states.clone();
        tokio::spawn(async move {
            for container in init {
                if !container.supervise().await {
                    return;
                }
            }
            states.send_if_modified(|state| {
                state.leave_initialization();
                false
            });
            let mut running = JoinSet::new();
            for container in regular {
                running.spawn(container.supervise().map(drop));
            }
            while let Some(ended) = running.join_next().await {
                tasks::pass_on(ended);
            }
        })
    }

    /// Passes the order to stop on to the containers. Once the shell is gone, which gives the
    /// orders, the pod ends at once.
    fn follow_orders(&mut self, is_ordered: bool) {
        let orders = *self.orders.borrow_and_update();
        if is_ordered {
            self.stop.send_replace(orders.stop);
        } else {
            let stop = Stop { deadline: tokio::time::Instant::now(), has_hook: false };
            self.stop.send_replace(Some(stop));
        }
    }

    fn api(&self) -> Api<Pod> {
        let namespace = self.pod.namespace().unwrap_or_default();
        Api::namespaced(self.machine.client.clone(), &namespace)
    }

    /// Writes the status if it differs from the last; false when it has to be tried again.
    async fn write_status(&mut self, state: &PodState) -> bool {
        let before = self.written.as_ref().or(self.pod.status.as_ref());
        let status = status::build(&self.pod, state, before, Timestamp::now());
        if self.written.as_ref() == Some(&status) {
            return true;
        }
        let name = self.pod.name_any();
        // The UID makes a write to a namesake a conflict.
        let patch = json!({"metadata": {"uid": self.pod.metadata.uid}, "status": status});
        let written =
            self.api().patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match written {
            Ok(_) => {
                self.written = Some(status);
                true
            }
            // Gone, or a namesake is there: the watch says so.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
            Err(error) => {
                tracing::warn!(%error, pod.name = %name, "Cannot write a pod's status");
                false
            }
        }
    }

    /// Removes the object of a pod whose processes have ended.
    async fn remove(&self) {
        let name = self.pod.name_any();
        let params = removal(self.pod.metadata.uid.clone());
        for _ in 0..REMOVE_TRIES {
            match self.api().delete(&name, &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                Err(error) => {
                    tracing::warn!(%error, pod.name = %name, "Cannot remove a pod that ended");
                    sleep(WRITE_AGAIN).await;
                }
            }
        }
    }
}

/// Parameters to delete the object with this UID at once.
pub(super) fn removal(uid: Option<String>) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid, ..Preconditions::default() }),
        ..DeleteParams::default()
    }
}
