//! The state of a pod's containers while they run: values, changed by the tasks of the containers
//! and read by the writer of the status.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use jiff::Timestamp;

/// Reason while a container has not been started yet.
pub(super) const CREATING: &str = "ContainerCreating";
/// Reason while the init containers run.
pub(super) const INITIALIZING: &str = "PodInitializing";
/// Reason when the container as written cannot be started.
pub(super) const CONFIG_ERROR: &str = "CreateContainerConfigError";
/// Reason while a restart is held back.
pub(super) const CRASH_LOOP: &str = "CrashLoopBackOff";

/// Kubelet's exit code for a program that could not be started.
const START_ERROR_CODE: i32 = 128;
/// Exit code of a program that the kernel, or a shell in its place, says was ended by SIGKILL.
const OUT_OF_MEMORY_CODE: i32 = SIGNAL_BASE + 9;
/// Added to the number of the signal that ended a process, this gives its exit code.
const SIGNAL_BASE: i32 = 128;

/// State of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodState {
    /// When the runner took the pod up.
    pub(super) since: Timestamp,
    pub(super) init: Vec<ContainerState>,
    pub(super) containers: Vec<ContainerState>,
}

/// State of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerState {
    pub(super) now: Phase,
    pub(super) last: Option<End>,
    pub(super) restarts: i32,
    pub(super) is_ready: bool,
    /// Whether the startup probe, if any, succeeded.
    pub(super) is_started: bool,
    /// The program that runs, for `imageID`.
    pub(super) program: Option<String>,
    /// Bytes of memory that it was last told to have; `None` for little.
    pub(super) memory: Option<u64>,
}

/// Kubernetes' three states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting { reason: &'static str, message: Option<String> },
    Running { since: Timestamp },
    Terminated(End),
}

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) exit_code: i32,
    pub(super) signal: Option<i32>,
    pub(super) reason: &'static str,
    pub(super) message: Option<String>,
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Timestamp,
}

// === impl PodState ===

impl PodState {
    pub(super) fn new(since: Timestamp, init: usize, containers: usize) -> Self {
        let reason = if init > 0 { INITIALIZING } else { CREATING };
        Self {
            since,
            init: vec![ContainerState::waiting(INITIALIZING); init],
            containers: vec![ContainerState::waiting(reason); containers],
        }
    }

    /// Marks the regular containers as about to start, after the last init container.
    pub(super) fn leave_initialization(&mut self) {
        for container in &mut self.containers {
            if matches!(container.now, Phase::Waiting { reason, .. } if reason == INITIALIZING) {
                *container = ContainerState::waiting(CREATING);
            }
        }
    }

    /// Whether the state says more than that the pod starts: false only in the instant before its
    /// processes run, which is not worth a write.
    pub(super) fn is_settled(&self) -> bool {
        let starts = |container: &ContainerState| matches!(container.now, Phase::Waiting { reason, .. } if reason == CREATING);
        !self.containers.iter().any(starts) && !self.init.iter().any(starts)
    }
}

// === impl ContainerState ===

impl ContainerState {
    pub(super) fn waiting(reason: &'static str) -> Self {
        Self {
            now: Phase::Waiting { reason, message: None },
            last: None,
            restarts: 0,
            is_ready: false,
            is_started: false,
            program: None,
            memory: None,
        }
    }
}

// === impl End ===

impl End {
    /// The end of a process, with the last lines of its log.
    pub(super) fn of(
        status: ExitStatus,
        started: Timestamp,
        finished: Timestamp,
        log: String,
    ) -> Self {
        let signal = status.signal();
        let exit_code = status.code().unwrap_or_else(|| SIGNAL_BASE + signal.unwrap_or_default());
        let is_error = exit_code != 0;
        Self {
            exit_code,
            signal,
            reason: if is_error { "Error" } else { "Completed" },
            // As with terminationMessagePolicy FallbackToLogsOnError: there is no
            // file that the container would write its message to.
            message: Some(log).filter(|log| is_error && !log.is_empty()),
            started: Some(started),
            finished,
        }
    }

    /// Says of a program that was killed, in a group in which the kernel has killed for want of memory,
    /// that this is why; as kubelet does. A program that has lived through the end of another process of
    /// its own has ended for another reason.
    pub(super) fn mark_out_of_memory(&mut self) {
        if self.exit_code == OUT_OF_MEMORY_CODE {
            self.reason = "OOMKilled";
        }
    }

    /// A program that could not be started.
    pub(super) fn not_started(message: String, now: Timestamp) -> Self {
        Self {
            exit_code: START_ERROR_CODE,
            signal: None,
            reason: "StartError",
            message: Some(message),
            started: None,
            finished: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_tells_code_signal_and_the_log_of_a_failure() {
        let at = Timestamp::UNIX_EPOCH;
        let end = |raw: i32| End::of(ExitStatus::from_raw(raw), at, at, "boom".to_owned());
        let done = end(0);
        assert_eq!((done.exit_code, done.signal, done.reason), (0, None, "Completed"));
        assert_eq!(done.message, None);
        let failed = end(3 << 8);
        assert_eq!((failed.exit_code, failed.signal, failed.reason), (3, None, "Error"));
        assert_eq!(failed.message.as_deref(), Some("boom"));
        let killed = end(9);
        assert_eq!((killed.exit_code, killed.signal), (137, Some(9)));
        for (raw, reason) in [(9, "OOMKilled"), (1 << 8, "Error"), (0, "Completed")] {
            let mut end = end(raw);
            end.mark_out_of_memory();
            assert_eq!(end.reason, reason);
        }
    }

    #[test]
    fn a_pod_is_settled_once_no_container_is_about_to_start() {
        let mut state = PodState::new(Timestamp::UNIX_EPOCH, 0, 2);
        assert!(!state.is_settled());
        for container in &mut state.containers {
            container.now = Phase::Running { since: Timestamp::UNIX_EPOCH };
        }
        assert!(state.is_settled());
    }
}
