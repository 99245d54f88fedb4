//! Why a pod does not run: one judgement for the Revision's conditions and for the requests that
//! wait for the pod. Both must agree, or a Revision would count as failed while its requests keep
//! waiting.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::condition;
use super::shortage::WAITING_FOR_ROOM;

/// Reasons of a waiting container that mean progress. Every other reason is trouble, even an
/// unknown one: runtimes and later releases of Kubernetes add reasons for failures, but have kept
/// to these two for a container that is starting.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// The container starts and ends, again and again; its last termination says more.
const CRASH_LOOP: &str = "CrashLoopBackOff";
/// Reasons of a waiting container that was tried more than once, or that can never run. After any
/// other reason Kubernetes tries again, so the trouble may pass.
const LASTING: [&str; 4] =
    [CRASH_LOOP, "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"];

/// What keeps a pod from running.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble<'a> {
    /// No node has taken the pod: there is none with room, the scheduler failed, or a gate holds
    /// the pod back.
    Unscheduled {
        /// The scheduler's reason.
        reason: &'a str,
        /// The scheduler's message.
        message: Option<&'a str>,
    },
    /// A container is not started.
    Waiting {
        /// Kubernetes' reason.
        reason: &'a str,
        /// Kubernetes' message.
        message: Option<&'a str>,
        /// Whether Kubernetes holds the container back, or will never run it.
        is_lasting: bool,
    },
    /// A container has ended.
    Ended {
        /// How the container ended.
        end: &'a ContainerStateTerminated,
        /// Whether the container ended before, too, and Kubernetes holds it back.
        is_lasting: bool,
    },
}

/// What keeps this pod from running now. A container that runs again after a crash is no trouble.
#[must_use]
pub fn trouble(pod: &Pod) -> Option<Trouble<'_>> {
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|it| it.status == "False") {
        if scheduled.reason.as_deref() == Some(WAITING_FOR_ROOM) {
            return None;
        }
        return Some(Trouble::Unscheduled {
            reason: scheduled.reason.as_deref().unwrap_or("Unschedulable"),
            message: scheduled.message.as_deref(),
        });
    }
    containers(pod).find_map(of_container)
}

/// The last termination of a container that runs or starts again and is not ready since.
#[must_use]
pub fn ended_before(pod: &Pod) -> Option<&ContainerStateTerminated> {
    containers(pod).find_map(|status| status.last_state.as_ref()?.terminated.as_ref())
}

/// The containers that are not ready. An init container that ended well is done.
fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init =
        status.into_iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    let main = status.into_iter().flat_map(|status| status.container_statuses.iter().flatten());
    init.filter(|status| !has_ended_well(status)).chain(main).filter(|status| !status.ready)
}

fn has_ended_well(status: &ContainerStatus) -> bool {
    let end = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    end.is_some_and(|end| end.exit_code == 0)
}

fn of_container(status: &ContainerStatus) -> Option<Trouble<'_>> {
    let state = status.state.as_ref()?;
    if let Some(end) = &state.terminated {
        return Some(Trouble::Ended { end, is_lasting: false });
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| !reason.is_empty())?;
    if STARTING.contains(&reason) {
        return None;
    }
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let is_lasting = LASTING.contains(&reason);
    Some(match last {
        // The termination says more than the fact of the crash loop.
        Some(end) if reason == CRASH_LOOP => Trouble::Ended { end, is_lasting },
        _ => Trouble::Waiting { reason, message: waiting.message.as_deref(), is_lasting },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(list: &str, state: &Value, before: &Value) -> Pod {
        serde_json::from_value(json!({"status": {list: [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state, "lastState": before,
        }]}}))
        .unwrap()
    }

    /// The reason or exit code of the trouble, and whether it is lasting.
    fn told(pod: &Pod) -> Option<(String, bool)> {
        trouble(pod).map(|trouble| match trouble {
            Trouble::Unscheduled { reason, .. } => (reason.to_owned(), false),
            Trouble::Waiting { reason, is_lasting, .. } => (reason.to_owned(), is_lasting),
            Trouble::Ended { end, is_lasting } => (end.exit_code.to_string(), is_lasting),
        })
    }

    /// The controller and the activator once had a list of reasons each.
    #[test]
    fn a_reason_to_wait_that_nobody_knows_is_trouble_that_may_pass() {
        let waiting = |reason: &str| {
            let state = json!({"waiting": {"reason": reason}});
            told(&pod("containerStatuses", &state, &json!({})))
        };
        for reason in STARTING.into_iter().chain([""]) {
            assert_eq!(waiting(reason), None, "{reason}");
        }
        for reason in ["ErrImagePull", "CreateContainerError", "RegistryUnavailable", "Odd"] {
            assert_eq!(waiting(reason), Some((reason.to_owned(), false)));
        }
        for reason in LASTING {
            assert_eq!(waiting(reason), Some((reason.to_owned(), true)));
        }
    }

    #[test]
    fn a_crash_is_trouble_until_the_container_runs_again() {
        let end = json!({"terminated": {"exitCode": 5}});
        let looping = json!({"waiting": {"reason": CRASH_LOOP}});
        let list = "containerStatuses";
        assert_eq!(told(&pod(list, &end, &json!({}))), Some(("5".to_owned(), false)));
        assert_eq!(told(&pod(list, &looping, &end)), Some(("5".to_owned(), true)));
        let again = pod(list, &json!({"running": {}}), &end);
        assert_eq!(told(&again), None);
        assert_eq!(ended_before(&again).map(|end| end.exit_code), Some(5));
    }

    #[test]
    fn an_init_container_that_ended_well_is_done() {
        let end = |code: i32| json!({"terminated": {"exitCode": code}});
        let list = "initContainerStatuses";
        let done = pod(list, &end(0), &end(1));
        assert_eq!((told(&done), ended_before(&done)), (None, None));
        assert_eq!(told(&pod(list, &end(1), &json!({}))), Some(("1".to_owned(), false)));
        let main = pod("containerStatuses", &end(0), &json!({}));
        assert_eq!(told(&main), Some(("0".to_owned(), false)), "a server does not end");
    }

    /// The activator once knew one reason only, the controller all of them.
    #[test]
    fn a_pod_that_no_node_has_taken_is_unscheduled_whatever_the_reason() {
        for reason in ["Unschedulable", "SchedulerError", "SchedulingGated"] {
            let of = |status: &str| {
                let scheduled = json!({"type": "PodScheduled", "status": status, "reason": reason});
                let pod = json!({"status": {"conditions": [scheduled]}});
                told(&serde_json::from_value(pod).unwrap())
            };
            assert_eq!(of("False"), Some((reason.to_owned(), false)));
            assert_eq!(of("True"), None);
        }
    }
}
