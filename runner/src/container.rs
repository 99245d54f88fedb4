//! One container of a pod: started, probed, restarted, ended. A task of its own.

mod mounts;
mod run;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::guardian::Guardian;

use super::backoff::Backoff;
use super::command::{self, CommandError, CommandLine, Surroundings};
use super::environment::{self, References};
use super::limits::{Group, Limiter, Limits};
use super::logs::Logs;
use super::memory::MemoryGauge;
use super::mounts::{Mounter, Plan, is_program};
use super::process::Launch;
use super::refusal::refusal;
use super::state::{CONFIG_ERROR, CRASH_LOOP, CREATING, ContainerState, End, Phase, PodState};
use super::volumes::{Folders, VolumeError};

/// Pause before a container whose ConfigMap or Secret was missing is tried again. Kubelet looks
/// again within some ten seconds; one request a second to this process costs nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The parts that every container of this machine shares.
pub(super) struct Machine {
    pub(super) client: Client,
    pub(super) logs: Logs,
    pub(super) guardian: Option<Guardian>,
    pub(super) instance: String,
    pub(super) surroundings: Surroundings,
    pub(super) memory: MemoryGauge,
    pub(super) folders: Folders,
    pub(super) mounter: Mounter,
    pub(super) limiter: Limiter,
}

/// Kubernetes' default of `terminationGracePeriodSeconds`.
const DEFAULT_GRACE_S: i64 = 30;

/// Longest grace: the API takes any number, but time does not reach that far.
const GRACE_MAX: Duration = Duration::from_hours(365 * 24);

/// The time from SIGTERM to SIGKILL that an object asks for, in seconds.
pub(super) fn grace(asked_s: Option<i64>) -> Duration {
    let seconds = u64::try_from(asked_s.unwrap_or(DEFAULT_GRACE_S)).unwrap_or_default();
    Duration::from_secs(seconds).min(GRACE_MAX)
}

/// The order to end a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    /// When SIGKILL is due.
    pub(super) deadline: Instant,
    /// Whether the preStop hook is run first.
    pub(super) has_hook: bool,
}

/// The place of a container among the pod's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Init(usize),
    Regular(usize),
}

/// A container and what it needs to run.
pub(super) struct Supervisor {
    pub(super) machine: Arc<Machine>,
    pub(super) pod: Arc<Pod>,
    pub(super) container: Arc<Container>,
    pub(super) place: Place,
    pub(super) states: watch::Sender<PodState>,
    pub(super) stop: watch::Receiver<Option<Stop>>,
}

/// Why a container cannot be started.
enum Obstacle {
    /// Only a changed manifest helps.
    Final(String),
    /// It may pass, as when a missing object appears: tried again after a pause.
    Passing(String),
    /// The program cannot be started: counts as an end, with back-off.
    Program(String),
}

// === impl Supervisor ===

impl Supervisor {
    /// Runs the container until it is stopped or, by the restart policy, done. True when its last
    /// run ended well.
    pub(super) async fn supervise(mut self) -> bool {
        let mut backoff = Backoff::default();
        loop {
            if self.stop.borrow().is_some() {
                return false;
            }
            let begin = Instant::now();
            // A volume on a dead server may never come: the order to stop does not wait for it.
            let mut stop = self.stop.clone();
            let prepared = tokio::select! {
                biased;
                _ = stop.wait_for(Option::is_some) => return false,
                prepared = self.prepare() => prepared,
            };
            let end = match prepared {
                Ok(launch) => self.run(&launch).await,
                Err(Obstacle::Program(message)) => End::not_started(message, Timestamp::now()),
                Err(Obstacle::Passing(message)) => {
                    self.wait(CONFIG_ERROR, message);
                    self.pause(LOOK_AGAIN).await;
                    continue;
                }
                Err(Obstacle::Final(message)) => {
                    self.wait(CONFIG_ERROR, message);
                    self.stopped().await;
                    return false;
                }
            };
            let is_well = end.exit_code == 0;
            if self.stop.borrow().is_some() || !self.restarts(is_well) {
                self.publish(|state| {
                    state.now = Phase::Terminated(end);
                    state.is_ready = false;
                    state.is_started = false;
                });
                return is_well;
            }
            self.hold_back(end, backoff.after(begin.elapsed())).await;
        }
    }

    /// Whether the container is started again after an end.
    fn restarts(&self, is_well: bool) -> bool {
        let spec = self.pod.spec.as_ref();
        match spec.and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => false,
            Some("OnFailure") => !is_well,
            // An init container that ended well is done under any policy.
            _ => !(is_well && matches!(self.place, Place::Init(_))),
        }
    }

    /// Everything up to the start; on the fast path, without references, no request to the API.
    async fn prepare(&self) -> Result<Launch, Obstacle> {
        if let Some(message) = refusal(&self.container) {
            return Err(Obstacle::Final(message));
        }
        let references = References::of(&self.container);
        let namespace = self.pod.namespace().unwrap_or_default();
        let sources = if references == References::default() {
            environment::Sources::default()
        } else {
            environment::fetch(&self.machine.client, &namespace, &references)
                .await
                .map_err(|error| Obstacle::Passing(error.to_string()))?
        };
        let surroundings = &self.machine.surroundings;
        let variables =
            environment::build(&self.pod, &self.container, &sources, &surroundings.inherited)
                .map_err(|error| Obstacle::Passing(error.to_string()))?;
        let mounts = self.mounts(&variables).await.map_err(|error| match error {
            VolumeError::Final(message) => Obstacle::Final(message),
            VolumeError::Passing(message) => Obstacle::Passing(message),
        })?;
        let plan = Plan::of(command::directory(&self.container, surroundings), mounts, &variables);
        let line = self.resolve(&plan, &variables).await?;
        let uid = self.pod.uid().unwrap_or_default();
        let replica = format!("{uid}/{}", self.container.name);
        Ok(Launch {
            group: self.group(&replica).map(Arc::new),
            line,
            entry: self.entry(plan).map_err(Obstacle::Final)?,
            variables,
            instance: self.machine.instance.clone(),
            replica,
        })
    }

    /// The group that limits this run. A container whose group cannot be made runs without limits, as
    /// where there are no groups at all.
    fn group(&self, replica: &str) -> Option<Group> {
        let made = self.machine.limiter.group(replica, Limits::of(&self.container));
        made.unwrap_or_else(|error| {
            let (pod, container) = (self.pod.name_any(), &self.container.name);
            tracing::warn!(%error, pod.name = %pod, %container, "A container has no limits");
            None
        })
    }

    /// The program. Its file is looked for on a thread for blocking work if there are volumes, which
    /// may be slow.
    async fn resolve(
        &self,
        plan: &Plan,
        variables: &BTreeMap<String, String>,
    ) -> Result<CommandLine, Obstacle> {
        let surroundings = &self.machine.surroundings;
        let found = if plan.mounts.is_empty() {
            command::resolve(&self.container, variables, surroundings, command::is_program)
        } else {
            let (plan, variables) = (plan.clone(), variables.clone());
            let (container, machine) = (Arc::clone(&self.container), Arc::clone(&self.machine));
            let look = move || {
                let is_program = |path: &Path| is_program(&plan, path);
                command::resolve(&container, &variables, &machine.surroundings, is_program)
            };
            let looked = tokio::task::spawn_blocking(look).await;
            looked.map_err(|error| Obstacle::Passing(error.to_string()))?
        };
        found.map_err(|error| match error {
            CommandError::Missing(_) | CommandError::TooLong(_) | CommandError::TooLarge => {
                Obstacle::Final(error.to_string())
            }
            CommandError::NotFound { .. } => Obstacle::Program(error.to_string()),
        })
    }

    /// Waits before the next start, and shows that in the status unless the start is immediate:
    /// then the next status is that of the new run, with this end as its last.
    async fn hold_back(&mut self, end: End, wait: Duration) {
        let pod = self.pod.name_any();
        let namespace = self.pod.namespace().unwrap_or_default();
        let name = self.container.name.clone();
        tracing::warn!(
            pod.name = %pod,
            pod.namespace = %namespace,
            container = %name,
            exit_code = end.exit_code,
            reason = end.reason,
            message = end.message.as_deref(),
            wait_s = wait.as_secs(),
            "A container ended and is started again"
        );
        let uid = self.pod.uid().unwrap_or_default();
        self.publish(|state| {
            state.now = if wait.is_zero() {
                Phase::Waiting {
                    reason: CREATING,
                    message: None,
                }
            } else {
                Phase::Waiting {
                    reason: CRASH_LOOP,
                    message: Some(format!(
                        "back-off {}s restarting failed container={name} pod={pod}_{namespace}({uid})",
                        wait.as_secs()
                    )),
                }
            };
            state.last = Some(end);
            state.restarts = state.restarts.saturating_add(1);
            state.is_ready = false;
            state.is_started = false;
        });
        self.pause(wait).await;
    }

    fn wait(&self, reason: &'static str, message: String) {
        self.publish(|state| {
            state.now = Phase::Waiting { reason, message: Some(message) };
            state.is_ready = false;
            state.is_started = false;
        });
    }

    /// Sleeps; ends early when the container is to stop.
    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.stopped() => {}
        }
    }

    /// Returns when the container is to stop.
    async fn stopped(&mut self) {
        // An error means that the sender of orders is gone: that is an order as well.
        let _ = self.stop.wait_for(Option::is_some).await;
    }

    /// Changes this container's state; wakes the writer of the status only if it changed.
    fn publish(&self, change: impl FnOnce(&mut ContainerState)) {
        self.states.send_if_modified(|pod| {
            let state = match self.place {
                Place::Init(index) => pod.init.get_mut(index),
                Place::Regular(index) => pod.containers.get_mut(index),
            };
            let Some(state) = state else {
                return false;
            };
            let before = state.clone();
            change(state);
            *state != before
        });
    }

    fn restart_count(&self) -> i32 {
        let pod = self.states.borrow();
        let state = match self.place {
            Place::Init(index) => pod.init.get(index),
            Place::Regular(index) => pod.containers.get(index),
        };
        state.map_or(0, |state| state.restarts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_of_any_length_ends_some_day() {
        assert_eq!(grace(None), Duration::from_secs(30));
        assert_eq!(grace(Some(5)), Duration::from_secs(5));
        assert_eq!(grace(Some(-1)), Duration::ZERO);
        assert!(Instant::now().checked_add(grace(Some(i64::MAX))).is_some());
    }
}
