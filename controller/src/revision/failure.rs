//! Why the pods of a Revision do not run, as far as Kubernetes says.
//!
//! Knative looks at the first pod only, and at a waiting container only after the progress
//! deadline: ten minutes of silence for a misspelt image. Here a failure is reported at once.

use std::sync::Arc;

use ebb_api::pod::{self, Trouble};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt as _;

/// Advice for a process that runs and is never ready: by far the most common cause, and its cure.
const SILENT: &str = "the process runs but its readiness probe never passed: it must listen on \
                      the port that the variable PORT names";

/// Which condition a failure belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// There is no room, no image, no configuration.
    Resources,
    /// The process itself fails.
    Container,
}

/// One reason why a pod does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) part: Part,
    pub(super) reason: String,
    pub(super) message: String,
}

/// The first failure among the pods that are meant to run, in an order that does not change between
/// reconciles.
pub(super) fn find(pods: &[Arc<Pod>]) -> Option<Failure> {
    let mut living: Vec<&Pod> = pods
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    living.sort_by_key(|pod| pod.name_any());
    living.into_iter().find_map(of_pod)
}

/// A pod's message about not being ready, for a Revision that ran out of time.
pub(super) fn unready(pods: &[Arc<Pod>]) -> Option<String> {
    pods.iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| {
            let ready = pod::condition(pod, "Ready").filter(|ready| ready.status == "False")?;
            let message = ready.message.as_deref().filter(|message| !message.is_empty())?;
            Some(if is_silent(pod) { format!("{message}; {SILENT}") } else { message.to_owned() })
        })
        .min()
}

/// Whether all containers of the pod run; asked only of a pod that is not ready.
fn is_silent(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let runs = |container: &ContainerStatus| {
        container.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    containers.is_some_and(|containers| containers.iter().all(runs))
}

/// The trouble that keeps the pod from running now, or else the way in which a container ended
/// before: until the pod is ready, that is the best explanation there is.
fn of_pod(pod: &Pod) -> Option<Failure> {
    Some(match pod::trouble(pod) {
        Some(Trouble::Unscheduled { reason, message }) => Failure {
            part: Part::Resources,
            reason: reason.to_owned(),
            message: message.unwrap_or_default().to_owned(),
        },
        Some(Trouble::Waiting { reason, message, is_lasting: _ }) => of_waiting(reason, message),
        Some(Trouble::Ended { end, is_lasting: _ }) => of_end(end),
        None => of_end(pod::ended_before(pod)?),
    })
}

fn of_waiting(reason: &str, message: Option<&str>) -> Failure {
    let message = message.filter(|text| !text.is_empty()).map(str::to_owned);
    Failure {
        part: Part::Resources,
        reason: reason.to_owned(),
        message: message.unwrap_or_else(|| format!("The container is waiting: {reason}.")),
    }
}

/// Texts: knative/serving pkg/apis/serving/v1/revision_lifecycle.go.
fn of_end(end: &ContainerStateTerminated) -> Failure {
    // Without a termination message, the runtime's reason (OOMKilled, Error) is all there is.
    let words = end.message.as_deref().filter(|text| !text.trim().is_empty());
    let said = words.or(end.reason.as_deref()).unwrap_or_default();
    Failure {
        part: Part::Container,
        reason: format!("ExitCode{}", end.exit_code),
        message: format!("Container failed with: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Arc<Pod> {
        let mut pod = json!({"metadata": {"name": "p"}});
        pod["status"] = status;
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn container(state: serde_json::Value, last: serde_json::Value) -> Arc<Pod> {
        let mut status = json!({"name": "user-container", "ready": false, "restartCount": 0,
            "image": "", "imageID": ""});
        status["state"] = state;
        status["lastState"] = last;
        pod(json!({"containerStatuses": [status]}))
    }

    fn told(pod: Arc<Pod>) -> Option<(Part, String, String)> {
        find(&[pod]).map(|failure| (failure.part, failure.reason, failure.message))
    }

    #[test]
    fn waiting_reasons_are_surfaced_at_once() {
        for reason in
            ["CreateContainerConfigError", "ErrImagePull", "ImagePullBackOff", "InvalidImageName"]
        {
            let state = json!({"waiting": {"reason": reason, "message": "why"}});
            let expected = (Part::Resources, reason.to_owned(), "why".to_owned());
            assert_eq!(told(container(state, json!({}))), Some(expected));
        }
        for reason in ["ContainerCreating", "PodInitializing"] {
            let state = json!({"waiting": {"reason": reason}});
            assert_eq!(told(container(state, json!({}))), None, "{reason}");
        }
    }

    #[test]
    fn a_crash_is_told_by_its_exit_code_and_last_words() {
        let end = json!({"terminated": {"exitCode": 5, "reason": "Error", "message": "boom"}});
        let expected =
            (Part::Container, "ExitCode5".to_owned(), "Container failed with: boom".to_owned());
        let looping = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
        let running = json!({"running": {}});
        assert_eq!(told(container(end.clone(), json!({}))), Some(expected.clone()));
        assert_eq!(told(container(looping.clone(), end.clone())), Some(expected.clone()));
        assert_eq!(told(container(running, end)), Some(expected));
        assert_eq!(told(container(looping, json!({}))).unwrap().1, "CrashLoopBackOff");
    }

    #[test]
    fn a_process_that_could_not_start_or_was_killed_is_told_so() {
        let start = json!({"terminated": {"exitCode": 128, "reason": "StartError",
            "message": "exec: no such file"}});
        assert_eq!(
            told(container(start, json!({}))),
            Some((
                Part::Container,
                "ExitCode128".to_owned(),
                "Container failed with: exec: no such file".to_owned()
            ))
        );
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        assert_eq!(
            told(container(killed, json!({}))),
            Some((
                Part::Container,
                "ExitCode137".to_owned(),
                "Container failed with: OOMKilled".to_owned()
            ))
        );
    }

    #[test]
    fn no_room_is_told_before_anything_else() {
        let conditions = json!([{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available"}]);
        assert_eq!(
            told(pod(json!({"conditions": conditions}))),
            Some((
                Part::Resources,
                "Unschedulable".to_owned(),
                "0/1 nodes are available".to_owned()
            ))
        );
    }

    #[test]
    fn ready_finished_and_leaving_are_no_failures() {
        let ready = json!({"name": "c", "ready": true, "restartCount": 3, "image": "", "imageID": "",
            "lastState": {"terminated": {"exitCode": 1}}});
        assert_eq!(told(pod(json!({"containerStatuses": [ready]}))), None);
        let done = json!({"name": "i", "ready": false, "restartCount": 0, "image": "",
            "imageID": "", "state": {"terminated": {"exitCode": 0}}});
        assert_eq!(told(pod(json!({"initContainerStatuses": [done]}))), None);
        let end = json!({"terminated": {"exitCode": 5}});
        let mut leaving = Pod::clone(&container(end, json!({})));
        leaving.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
            ));
        assert_eq!(told(Arc::new(leaving)), None);
    }
}
