//! What a revision that starts waits for, as far as its pods tell.
//!
//! The activator tells it of its own requests, in lists and to clients that wait. The controller writes
//! it into the status of the Revision, as the annotation [`START`], for as long as a start goes on.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};

use crate::model_files::NAME;

/// The annotation of a Revision's status: the phase of the start that is under way, since when it is in
/// this phase, and the time within which nine of ten starts were done, where any was measured. JSON, as
/// in `{"phase":"loading","since":"2026-11-28T07:00:00Z","usualStartSeconds":12}`.
pub const START: &str = "serving.ebb.dev/start";

/// What a start waits for, in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StartPhase {
    /// For a pod to be made.
    Asked,
    /// For a node, and for its image.
    Pending,
    /// For the files of the model.
    Fetching,
    /// For the model to answer its probe.
    Loading,
}

// === impl StartPhase ===

impl StartPhase {
    /// What this pod waits for, if it does not serve yet.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let Some(status) = &pod.status else { return Self::Pending };
        if status.phase.as_deref() != Some("Pending") {
            return Self::Loading;
        }
        let is_fetching = fetch(status).is_some_and(|state| state.running.is_some());
        if is_fetching { Self::Fetching } else { Self::Pending }
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Pending => "pending",
            Self::Fetching => "fetching",
            Self::Loading => "loading",
        }
    }
}

/// Since when the pod waits for what [`StartPhase::of`] says. A container that is started again begins
/// to load again.
#[must_use]
pub fn since(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref();
    let fetch = status.and_then(fetch);
    let made = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let begun = match StartPhase::of(pod) {
        StartPhase::Asked => None,
        StartPhase::Pending => {
            fetch.and_then(|state| Some(state.terminated.as_ref()?.finished_at.as_ref()?.0))
        }
        StartPhase::Fetching => fetch.and_then(started),
        StartPhase::Loading => {
            let containers = status.and_then(|status| status.container_statuses.as_deref());
            let unready = containers.unwrap_or_default().iter().filter(|it| !it.ready);
            unready.filter_map(|it| started(it.state.as_ref()?)).max()
        }
    };
    begun.max(made)
}

fn started(state: &ContainerState) -> Option<Timestamp> {
    Some(state.running.as_ref()?.started_at.as_ref()?.0)
}

/// The container that running_fetch the files of the model.
fn fetch(status: &PodStatus) -> Option<&ContainerState> {
    let is_fetch = |init: &&ContainerStatus| init.name == NAME;
    status.init_container_statuses.iter().flatten().find(is_fetch)?.state.as_ref()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The phase of a pod that was made at second 1, and the second since which it is in it.
    fn told(status: &Value) -> (&'static str, i64) {
        let made = Timestamp::from_second(1).unwrap();
        let pod = json!({"metadata": {"creationTimestamp": made}, "status": status});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        (StartPhase::of(&pod).word(), since(&pod).unwrap().as_second())
    }

    fn container(name: &str, state: &Value) -> Value {
        json!([{"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state}])
    }

    #[test]
    fn a_pod_tells_what_it_waits_for_and_since_when() {
        assert_eq!(told(&Value::Null), ("pending", 1));
        assert_eq!(told(&json!({"phase": "Pending"})), ("pending", 1));
        let running = |second: i64| json!({"running": {"startedAt": Timestamp::from_second(second).unwrap()}});
        let running_fetch = container("ebb-model", &running(5));
        let pending = |init: &Value| json!({"phase": "Pending", "initContainerStatuses": init});
        assert_eq!(told(&pending(&running_fetch)), ("fetching", 5));
        assert_eq!(told(&pending(&container("another", &running(5)))), ("pending", 1));
        let done = json!({"terminated": {"exitCode": 0,
            "finishedAt": Timestamp::from_second(9).unwrap()}});
        let ended_fetch = container("ebb-model", &done);
        assert_eq!(
            told(&pending(&ended_fetch)),
            ("pending", 9),
            "the image of the model is pulled"
        );
        let loads = json!({"phase": "Running", "initContainerStatuses": ended_fetch,
            "containerStatuses": container("model", &running(12))});
        assert_eq!(told(&loads), ("loading", 12));
        let waits = container("model", &json!({"waiting": {"reason": "CrashLoopBackOff"}}));
        assert_eq!(told(&json!({"phase": "Running", "containerStatuses": waits})), ("loading", 1));
    }
}
