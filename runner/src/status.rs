//! A pod's status as kubelet writes it, from the state of its containers: a pure function.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::state::{ContainerState, End, Phase, PodState};

/// The address of every pod and of the machine.
pub(super) const LOOPBACK: &str = "127.0.0.1";

/// The status of `pod`. Times of conditions that did not change are taken from `before`.
pub(super) fn build(
    pod: &Pod,
    state: &PodState,
    before: Option<&PodStatus>,
    now: Timestamp,
) -> PodStatus {
    let Some(spec) = pod.spec.as_ref() else {
        return PodStatus::default();
    };
    let phase = phase(state, spec.restart_policy.as_deref());
    // Before a process runs, nothing can listen on the address.
    let has_address = phase != "Pending";
    PodStatus {
        phase: Some(phase.to_owned()),
        host_ip: Some(LOOPBACK.to_owned()),
        host_ips: Some(vec![HostIP { ip: LOOPBACK.to_owned() }]),
        pod_ip: has_address.then(|| LOOPBACK.to_owned()),
        pod_ips: has_address.then(|| vec![PodIP { ip: LOOPBACK.to_owned() }]),
        start_time: Some(Time(state.since)),
        qos_class: Some("BestEffort".to_owned()),
        conditions: Some(conditions(spec.containers.as_slice(), state, before, now)),
        container_statuses: Some(statuses(&spec.containers, &state.containers)),
        init_container_statuses: spec
            .init_containers
            .as_ref()
            .filter(|containers| !containers.is_empty())
            .map(|containers| statuses(containers, &state.init)),
        ..PodStatus::default()
    }
}

/// Kubelet's `getPhase` (`pkg/kubelet/kubelet_pods.go`).
fn phase(state: &PodState, restart_policy: Option<&str>) -> &'static str {
    if !is_initialized(state) {
        return "Pending";
    }
    let containers = &state.containers;
    let never_ran = |c: &ContainerState| matches!(c.now, Phase::Waiting { .. }) && c.last.is_none();
    if containers.iter().any(never_ran) {
        return "Pending";
    }
    let ended = |c: &ContainerState| match &c.now {
        Phase::Terminated(end) => Some(end.exit_code),
        Phase::Waiting { .. } | Phase::Running { .. } => None,
    };
    let codes: Option<Vec<i32>> = containers.iter().map(ended).collect();
    match (codes, restart_policy) {
        (Some(codes), Some("OnFailure" | "Never")) if codes.iter().all(|code| *code == 0) => {
            "Succeeded"
        }
        (Some(_), Some("Never")) => "Failed",
        _ => "Running",
    }
}

fn is_initialized(state: &PodState) -> bool {
    state
        .init
        .iter()
        .all(|container| matches!(&container.now, Phase::Terminated(end) if end.exit_code == 0))
}

fn conditions(
    containers: &[Container],
    state: &PodState,
    before: Option<&PodStatus>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let pairs = containers.iter().zip(&state.containers);
    let unready: Vec<&str> = pairs
        .filter(|(_, state)| !state.is_ready)
        .map(|(container, _)| container.name.as_str())
        .collect();
    let initialized = is_initialized(state);
    let unready = (!unready.is_empty()).then(|| {
        let names = unready.join(" ");
        ("ContainersNotReady", format!("containers with unready status: [{names}]"))
    });
    let initializing = (!initialized)
        .then(|| ("ContainersNotInitialized", "the init containers have not completed".to_owned()));
    [
        ("PodScheduled", None),
        ("Initialized", initializing),
        ("ContainersReady", unready.clone()),
        ("Ready", unready),
    ]
    .into_iter()
    .map(|(kind, obstacle)| condition(before, kind, obstacle, now))
    .collect()
}

/// A condition; `True` without an obstacle.
fn condition(
    before: Option<&PodStatus>,
    kind: &str,
    obstacle: Option<(&str, String)>,
    now: Timestamp,
) -> PodCondition {
    let value = if obstacle.is_none() { "True" } else { "False" };
    let stored = before
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| conditions.iter().find(|c| c.type_ == kind))
        .filter(|condition| condition.status == value);
    let since = stored.and_then(|stored| stored.last_transition_time.as_ref());
    let (reason, message) = obstacle.unzip();
    PodCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        last_transition_time: Some(Time(since.map_or(now, |time| time.0))),
        ..PodCondition::default()
    }
}

fn statuses(containers: &[Container], states: &[ContainerState]) -> Vec<ContainerStatus> {
    let pairs = containers.iter().zip(states);
    pairs.map(|(container, state)| status(container, state)).collect()
}

fn status(container: &Container, state: &ContainerState) -> ContainerStatus {
    let ContainerState { now, last, restarts, is_ready, is_started, program, memory } = state;
    let now = match now {
        Phase::Waiting { reason, message } => ApiState {
            waiting: Some(ContainerStateWaiting {
                reason: Some((*reason).to_owned()),
                message: message.clone(),
            }),
            ..ApiState::default()
        },
        Phase::Running { since } => ApiState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
            ..ApiState::default()
        },
        Phase::Terminated(end) => terminated(end),
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: program.clone().unwrap_or_default(),
        state: Some(now),
        last_state: Some(last.as_ref().map(terminated).unwrap_or_default()),
        ready: *is_ready,
        started: Some(*is_started),
        restart_count: *restarts,
        // What kubelet says here is what it has set aside; here it is what the model has taken.
        allocated_resources: memory.map(|bytes| {
            let mebibytes = Quantity(format!("{}Mi", bytes >> 20));
            [("memory".to_owned(), mebibytes)].into()
        }),
        ..ContainerStatus::default()
    }
}

fn terminated(end: &End) -> ApiState {
    let End { exit_code, signal, reason, message, started, finished } = end;
    ApiState {
        terminated: Some(ContainerStateTerminated {
            exit_code: *exit_code,
            signal: *signal,
            reason: Some((*reason).to_owned()),
            message: message.clone(),
            started_at: started.map(Time),
            finished_at: Some(Time(*finished)),
            container_id: None,
        }),
        ..ApiState::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::{CRASH_LOOP, CREATING};

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "spec": {"containers": [{"name": "user-container", "image": "x"}]},
        }))
        .expect("a pod")
    }

    fn state(now: Phase, last: Option<End>, is_ready: bool) -> PodState {
        let container = ContainerState { now, last, is_ready, ..ContainerState::waiting(CREATING) };
        PodState { since: Timestamp::UNIX_EPOCH, init: Vec::new(), containers: vec![container] }
    }

    fn running() -> Phase {
        Phase::Running { since: Timestamp::UNIX_EPOCH }
    }

    fn failed() -> End {
        End::not_started("no such program".to_owned(), Timestamp::UNIX_EPOCH)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn ready_of(status: &PodStatus) -> &PodCondition {
        let conditions = status.conditions.as_ref().expect("conditions");
        conditions.iter().find(|c| c.type_ == "Ready").expect("Ready")
    }

    #[test]
    fn an_address_is_told_as_soon_as_the_process_runs_and_before_it_is_ready() {
        let status = build(&pod(), &state(running(), None, false), None, at(1));
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert_eq!(status.pod_ip.as_deref(), Some(LOOPBACK));
        let ready = ready_of(&status);
        assert_eq!(ready.status, "False");
        assert_eq!(
            ready.message.as_deref(),
            Some("containers with unready status: [user-container]")
        );
    }

    #[test]
    fn a_pod_that_never_ran_is_pending_without_an_address() {
        let waiting = Phase::Waiting {
            reason: "CreateContainerConfigError",
            message: Some("why".to_owned()),
        };
        let status = build(&pod(), &state(waiting, None, false), None, at(1));
        assert_eq!(status.phase.as_deref(), Some("Pending"));
        assert_eq!(status.pod_ip, None);
    }

    #[test]
    fn a_crash_loop_keeps_the_last_end() {
        let waiting = Phase::Waiting { reason: CRASH_LOOP, message: None };
        let status = build(&pod(), &state(waiting, Some(failed()), false), None, at(1));
        assert_eq!(status.phase.as_deref(), Some("Running"));
        let container = &status.container_statuses.as_ref().expect("statuses")[0];
        let last = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        let last = last.expect("the last end");
        assert_eq!((last.exit_code, last.reason.as_deref()), (128, Some("StartError")));
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let first = build(&pod(), &state(running(), None, false), None, at(1));
        let second = build(&pod(), &state(running(), None, false), Some(&first), at(2));
        assert_eq!(first, second);
        let third = build(&pod(), &state(running(), None, true), Some(&second), at(3));
        assert_eq!(ready_of(&third).last_transition_time, Some(Time(at(3))));
    }

    #[test]
    fn the_restart_policy_decides_what_an_end_means() {
        let ended = |policy| phase(&state(Phase::Terminated(failed()), None, false), policy);
        assert_eq!(ended(Some("Never")), "Failed");
        assert_eq!(ended(Some("OnFailure")), "Running");
        assert_eq!(ended(None), "Running");
    }
}
