//! One run of a container: from the start of its process to the end of the last of its group.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout_at};

use crate::logs::{LogTask, Source};
use crate::memory::{MEASURED_EVERY, news};
use crate::probe::{ProbeAction, ProbeTarget, Probes, Verdict};
use crate::process::{Launch, Output, Process};
use crate::state::{End, Phase};
use crate::tasks;

use super::{Stop, Supervisor, grace};

/// Verdicts in flight: probes send changes only, so one each is plenty.
const VERDICTS: usize = 4;

/// Least time after SIGTERM, although the hook used the whole grace; kubelet's
/// `minimumGracePeriodInSeconds`.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// Probes of one run, ended with it.
struct Watch {
    task: JoinHandle<()>,
    is_over: bool,
    verdicts: mpsc::Receiver<Verdict>,
}

// === impl Watch ===

impl Watch {
    fn begin(probes: Probes, target: ProbeTarget) -> Self {
        let (sender, verdicts) = mpsc::channel(VERDICTS);
        Self { task: tokio::spawn(probes.watch(target, sender)), is_over: false, verdicts }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Supervisor ===

impl Supervisor {
    /// Starts the process and stays with it. Returns when it and all processes that it left behind
    /// have ended.
    pub(super) async fn run(&mut self, launch: &Launch) -> End {
        let started = launch.start(self.machine.guardian.as_ref());
        let since = Timestamp::now();
        let (mut process, output) = match started {
            Ok(started) => started,
            Err(error) => return End::not_started(error.to_string(), since),
        };
        let probes = Probes::of(&self.container);
        let (is_started, is_ready) = probes.at_once();
        self.publish(|state| {
            state.now = Phase::Running { since };
            state.is_started = is_started;
            state.is_ready = is_ready;
            state.memory = None;
            state.program = Some(format!("file://{}", launch.line.program.display()));
        });
        let log = self.keep(output);
        let target = ProbeTarget::new(launch.clone(), process.leader());
        let mut watch = Watch::begin(probes, target.clone());
        let (status, complaint) = self.attend(&mut process, &mut watch, &target).await;
        let finished = Timestamp::now();
        drop(watch);
        process.clear().await;
        let text = log.finish().await;
        let mut end = match status {
            Ok(status) => End::of(status, since, finished, text),
            Err(error) => End::not_started(error.to_string(), finished),
        };
        if launch.group.as_ref().is_some_and(|group| group.has_run_out()) {
            end.mark_out_of_memory();
        }
        if let Some(complaint) = complaint {
            end.message = Some(complaint);
        }
        end
    }

    fn keep(&self, output: Output) -> LogTask {
        let namespace = self.pod.namespace().unwrap_or_default();
        let pod = self.pod.name_any();
        let uid = self.pod.uid().unwrap_or_default();
        let source = Source {
            namespace: &namespace,
            pod: &pod,
            uid: &uid,
            container: &self.container.name,
            restarts: self.restart_count(),
        };
        self.machine.logs.begin(&source).copy(output)
    }

    /// Follows probes and orders until the process ends. Also returns the message of the probe that
    /// ended it, if one did.
    async fn attend(
        &mut self,
        process: &mut Process,
        watch: &mut Watch,
        target: &ProbeTarget,
    ) -> (io::Result<ExitStatus>, Option<String>) {
        let mut measuring = tokio::time::interval(MEASURED_EVERY);
        measuring.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        measuring.tick().await;
        loop {
            tokio::select! {
                status = process.wait() => return (status, None),
                _ = measuring.tick() => self.measure(process.leader()).await,
                ended = &mut watch.task, if !watch.is_over => {
                    tasks::pass_on(ended);
                    watch.is_over = true;
                }
                () = self.stopped() => return (self.end(process, target).await, None),
                Some(verdict) = watch.verdicts.recv() => match verdict {
                    Verdict::Started => self.publish(|state| state.is_started = true),
                    Verdict::Ready(is_ready) => self.publish(|state| state.is_ready = is_ready),
                    Verdict::Unhealthy(message) => {
                        self.publish(|state| state.is_ready = false);
                        let status = self.end_unhealthy(process).await;
                        return (status, Some(message));
                    }
                },
            }
        }
    }

    /// Tells how much memory the container has, if that is news.
    async fn measure(&self, leader: i32) {
        let bytes = self.machine.memory.of(leader).await;
        self.publish(|state| {
            if let Some(bytes) = news(state.memory, bytes) {
                state.memory = Some(bytes);
            }
        });
    }

    /// Ends the process as ordered: hook, SIGTERM, SIGKILL at the deadline, which a later order
    /// may bring forward.
    async fn end(&mut self, process: &mut Process, target: &ProbeTarget) -> io::Result<ExitStatus> {
        let order = self.order();
        let mut least = Instant::now();
        if let (Some(stop), Some(hook)) = (order.filter(|stop| stop.has_hook), self.hook()) {
            let mut orders = self.stop.clone();
            let is_urgent =
                orders.wait_for(|now| now.is_none_or(|now| now.deadline < stop.deadline));
            tokio::select! {
                status = process.wait() => return status,
                outcome = timeout_at(stop.deadline, hook.perform(target)) => {
                    if let Ok(Err(error)) = outcome {
                        tracing::warn!(%error, pod.name = %self.pod.name_any(), "A preStop hook failed");
                    }
                }
                _ = is_urgent => {}
            }
            least = Instant::now() + LEAST_GRACE;
        }
        process.signal(Signal::SIGTERM);
        // Without an order, because its sender is gone, SIGKILL follows at once.
        while let Some(stop) = self.order() {
            // The time that the hook used up is made good, but not against a later, more urgent
            // order.
            let deadline =
                if Some(stop) == order { stop.deadline.max(least) } else { stop.deadline };
            tokio::select! {
                status = process.wait() => return status,
                () = sleep_until(deadline) => break,
                changed = self.stop.changed() => if changed.is_err() {
                    break;
                },
            }
        }
        process.signal(Signal::SIGKILL);
        process.wait().await
    }

    async fn end_unhealthy(&mut self, process: &mut Process) -> io::Result<ExitStatus> {
        process.signal(Signal::SIGTERM);
        let spec = self.pod.spec.as_ref();
        let grace_s = spec.and_then(|spec| spec.termination_grace_period_seconds);
        let probe = self.container.liveness_probe.as_ref();
        let grace_s = probe.and_then(|probe| probe.termination_grace_period_seconds).or(grace_s);
        let killed_at = Instant::now() + grace(grace_s);
        tokio::select! {
            status = process.wait() => return status,
            () = sleep_until(killed_at) => {}
            () = self.stopped() => {}
        }
        process.signal(Signal::SIGKILL);
        process.wait().await
    }

    fn order(&self) -> Option<Stop> {
        // Copied out, so that no lock is held across an await.
        *self.stop.borrow()
    }

    fn hook(&self) -> Option<ProbeAction> {
        let lifecycle = self.container.lifecycle.as_ref()?;
        ProbeAction::of_hook(lifecycle.pre_stop.as_ref()?, &self.container)
    }
}
