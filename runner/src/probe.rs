//! Probes of one run of a container: when to ask, and what the answers mean.
//!
//! They work as kubelet's, with one difference: until a container was ready for the first time the
//! readiness and startup probes are asked again within milliseconds, not after `periodSeconds`. A
//! request may be waiting for that answer.

mod action;
mod grpc;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

pub(super) use action::{ProbeAction, ProbeTarget};

/// The first pause between two questions, and the longest of the impatient ones.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A start that takes this long is asked about less often, to leave it the processor.
const PATIENT_AFTER: Duration = Duration::from_secs(10);
const PATIENT_PAUSE: Duration = Duration::from_millis(200);

/// Kubernetes' defaults of a probe's fields.
const DEFAULT_PERIOD_S: i32 = 10;
const DEFAULT_TIMEOUT_S: i32 = 1;
const DEFAULT_FAILURES: i32 = 3;

/// What probes found out about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The startup probe succeeded, or there is none.
    Started,
    /// The readiness changed.
    Ready(bool),
    /// The startup or liveness probe failed for good: the container is to be restarted.
    Unhealthy(String),
}

/// The probes of a container.
#[derive(Debug, Clone)]
pub(super) struct Probes {
    startup: Option<Check>,
    readiness: Option<Check>,
    liveness: Option<Check>,
}

/// One probe with its defaults filled in.
#[derive(Debug, Clone)]
struct Check {
    name: &'static str,
    action: ProbeAction,
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    failures: u32,
    successes: u32,
}

/// Counts answers until they make a difference.
#[derive(Debug, Default)]
struct Streak {
    successes: u32,
    failures: u32,
}

// === impl Probes ===

impl Probes {
    pub(super) fn of(container: &Container) -> Self {
        let check = |name, probe: &Option<Probe>| {
            probe.as_ref().and_then(|probe| Check::of(name, probe, container))
        };
        Self {
            startup: check("Startup", &container.startup_probe),
            readiness: check("Readiness", &container.readiness_probe),
            liveness: check("Liveness", &container.liveness_probe),
        }
    }

    /// Whether a container counts as started, and as ready, from the moment its process runs.
    pub(super) fn at_once(&self) -> (bool, bool) {
        let is_started = self.startup.is_none();
        (is_started, is_started && self.readiness.is_none())
    }

    /// Asks until the future is dropped or the container is unhealthy. Sends only changes.
    pub(super) async fn watch(self, target: ProbeTarget, verdicts: mpsc::Sender<Verdict>) {
        let Self { startup, readiness, liveness } = self;
        if let Some(check) = startup {
            if let Err(message) = check.first_success(&target, true).await {
                // If sending fails, the receiver is gone, and so is the container.
                let _ = verdicts.send(Verdict::Unhealthy(message)).await;
                return;
            }
            let _ = verdicts.send(Verdict::Started).await;
            if readiness.is_none() {
                let _ = verdicts.send(Verdict::Ready(true)).await;
            }
        }
        let readiness = async {
            if let Some(check) = readiness {
                check.watch_readiness(&target, &verdicts).await;
            }
        };
        let liveness = async {
            if let Some(check) = liveness {
                let message = check.watch_liveness(&target).await;
                let _ = verdicts.send(Verdict::Unhealthy(message)).await;
            }
        };
        tokio::join!(readiness, liveness);
    }
}

// === impl Check ===

impl Check {
    /// `None` for a probe that names no action and so asks nothing.
    fn of(name: &'static str, probe: &Probe, container: &Container) -> Option<Self> {
        let seconds = |value: Option<i32>, default: i32| {
            let value = value.filter(|value| *value > 0).unwrap_or(default);
            Duration::from_secs(u64::try_from(value).unwrap_or_default())
        };
        let times = |value: Option<i32>, default: i32| {
            let value = value.filter(|value| *value > 0).unwrap_or(default);
            u32::try_from(value).unwrap_or(1)
        };
        Some(Self {
            name,
            action: ProbeAction::of(probe, container)?,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, DEFAULT_PERIOD_S),
            timeout: seconds(probe.timeout_seconds, DEFAULT_TIMEOUT_S),
            failures: times(probe.failure_threshold, DEFAULT_FAILURES),
            successes: times(probe.success_threshold, 1),
        })
    }

    async fn ask(&self, target: &ProbeTarget) -> Result<(), String> {
        match timeout(self.timeout, self.action.perform(target)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }

    /// Asks impatiently until it succeeds. With `is_bounded`, fails after the time that kubelet
    /// would have waited.
    async fn first_success(&self, target: &ProbeTarget, is_bounded: bool) -> Result<(), String> {
        let begin = Instant::now();
        sleep(self.initial_delay).await;
        let patience = self.initial_delay + self.period * self.failures;
        let mut is_told = false;
        let mut streak = Streak::default();
        for attempt in 0_u32.. {
            let answer = self.ask(target).await;
            if streak.note(answer.is_ok(), self) == Some(true) {
                break;
            }
            let elapsed = begin.elapsed();
            if let Err(problem) = answer {
                if is_bounded && elapsed >= patience {
                    return Err(self.message(&problem));
                }
                if elapsed >= PATIENT_AFTER && !is_told {
                    is_told = true;
                    tracing::warn!(
                        replica = %target.replica(),
                        waited_ms = elapsed.as_millis(),
                        problem,
                        "A replica is not ready yet: its program has to listen on $PORT"
                    );
                }
            }
            sleep(pause(elapsed, attempt)).await;
        }
        Ok(())
    }

    async fn watch_readiness(&self, target: &ProbeTarget, verdicts: &mpsc::Sender<Verdict>) {
        // Unbounded: only a liveness or startup probe gives up on a container.
        let _ = self.first_success(target, false).await;
        let mut is_ready = true;
        let mut streak = Streak::default();
        loop {
            if verdicts.send(Verdict::Ready(is_ready)).await.is_err() {
                return;
            }
            loop {
                sleep(self.period).await;
                let answer = self.ask(target).await;
                match streak.note(answer.is_ok(), self) {
                    Some(now) if now != is_ready => {
                        is_ready = now;
                        break;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Returns when the container is to be restarted, with the reason.
    async fn watch_liveness(&self, target: &ProbeTarget) -> String {
        sleep(self.initial_delay).await;
        let mut streak = Streak::default();
        loop {
            let answer = self.ask(target).await;
            if streak.note(answer.is_ok(), self) == Some(false) {
                return self.message(&answer.err().unwrap_or_default());
            }
            sleep(self.period).await;
        }
    }

    fn message(&self, problem: &str) -> String {
        format!("{} probe failed: {problem}", self.name)
    }
}

// === impl Streak ===

impl Streak {
    /// Counts an answer; `Some` when enough in a row agree.
    fn note(&mut self, is_success: bool, check: &Check) -> Option<bool> {
        if is_success {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            (self.successes >= check.successes).then_some(true)
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            (self.failures >= check.failures).then_some(false)
        }
    }
}

/// How long to wait before the question after number `attempt`, `elapsed` after the start.
fn pause(elapsed: Duration, attempt: u32) -> Duration {
    if elapsed >= PATIENT_AFTER {
        return PATIENT_PAUSE;
    }
    let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(probe: serde_json::Value) -> Check {
        let probe: Probe = serde_json::from_value(probe).expect("a probe");
        Check::of("Readiness", &probe, &Container::default()).expect("it has an action")
    }

    #[test]
    fn pauses_double_from_two_milliseconds_and_grow_patient() {
        let pauses: Vec<u128> =
            (0..7).map(|attempt| pause(Duration::ZERO, attempt).as_millis()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 50, 50]);
        assert_eq!(pause(Duration::ZERO, 4000), LONGEST_PAUSE);
        assert_eq!(pause(PATIENT_AFTER, 3), PATIENT_PAUSE);
    }

    #[test]
    fn a_period_of_zero_is_the_default_and_not_a_spin() {
        let check = check(json!({"tcpSocket": {"port": 1}, "periodSeconds": 0}));
        assert_eq!(check.period, Duration::from_secs(10));
        assert_eq!((check.failures, check.successes), (3, 1));
    }

    #[test]
    fn only_a_row_of_failures_counts() {
        let check = check(json!({"tcpSocket": {"port": 1}, "failureThreshold": 2}));
        let mut streak = Streak::default();
        let notes: Vec<Option<bool>> = [false, true, false, false, true]
            .into_iter()
            .map(|answer| streak.note(answer, &check))
            .collect();
        assert_eq!(notes, [None, Some(true), None, Some(false), Some(true)]);
    }
}
