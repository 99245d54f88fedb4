//! When a revision cannot start: all its pods failed, none is ready or still starting.
//!
//! Pure. The judgement is over the pods as they are now, so it lapses as soon as a pod starts
//! again. One crash, or one image that could not be pulled, is no verdict: Kubernetes tries again
//! at once, and most often that helps.

use std::sync::Arc;
use std::time::Duration;

use ebb_api::model_files::REASON_PREFIX;
use ebb_api::pod::{self, Trouble};
use k8s_openapi::api::core::v1::Pod;

/// How long a pod may be unschedulable before it counts as failed: a node autoscaler needs a minute
/// or two for a new node, and until then the request is better off waiting.
pub const UNSCHEDULABLE_GRACE: Duration = Duration::from_mins(2);
/// How long a pod may fail before it counts as failed, where Kubernetes has not said that it holds
/// the pod back. Kubelet's first back-off: by then it has tried again at least once.
pub const FAILING_GRACE: Duration = Duration::from_secs(10);
/// Longest part of Kubernetes' message that is passed on: enough for an image name or an error
/// line, too short for a stack trace.
const MESSAGE_CHARS_MAX: usize = 120;

/// Why a pod does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Kubernetes' reason, or the exit code, and the first line of the message.
    pub reason: Arc<str>,
    /// Whether Kubernetes holds the pod back, or will never run it.
    pub is_lasting: bool,
}

/// What waiting requests may expect of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prospect {
    /// It serves.
    Ready,
    /// It may serve soon.
    Starting,
    /// It has found no node for this long.
    Unschedulable(Duration, Arc<str>),
    /// It has been failing for this long, and Kubernetes tries again.
    Failing(Duration, Arc<str>),
    /// It will not serve soon without help, with the reason.
    Failed(Arc<str>),
    /// It is being deleted, by a decision that says nothing about whether it could have run.
    Leaving,
}

/// The reason why none of the pods will serve, when that is so.
pub fn cannot_start(prospects: impl IntoIterator<Item = Prospect>) -> Option<Arc<str>> {
    let mut reason = None;
    for prospect in prospects {
        match prospect {
            Prospect::Ready | Prospect::Starting => return None,
            Prospect::Unschedulable(since, _) if since < UNSCHEDULABLE_GRACE => return None,
            Prospect::Failing(since, _) if since < FAILING_GRACE => return None,
            Prospect::Unschedulable(_, why) | Prospect::Failing(_, why) | Prospect::Failed(why) => {
                reason.get_or_insert(why);
            }
            Prospect::Leaving => {}
        }
    }
    reason
}

/// The reason why this pod does not run, from its containers' states.
pub fn of_pod(pod: &Pod) -> Option<Failure> {
    let (reason, is_lasting) = match pod::trouble(pod)? {
        Trouble::Unscheduled { .. } => return None,
        Trouble::Waiting { reason, message, is_lasting } => (text(reason, message), is_lasting),
        Trouble::Ended { end, is_lasting } => {
            (text(&format!("ExitCode{}", end.exit_code), end.message.as_deref()), is_lasting)
        }
    };
    Some(Failure { reason, is_lasting })
}

/// Why no node has taken the pod, and may never. A pod that waits for devices waits for its turn: the
/// autoscaler makes room for it, and its requests wait for as long as they may.
pub fn unschedulable(pod: &Pod) -> Option<Arc<str>> {
    let lacking = pod::shortages(pod);
    if !lacking.is_empty() && lacking.iter().all(|it| pod::is_extended(&it.resource)) {
        return None;
    }
    match pod::trouble(pod)? {
        Trouble::Unscheduled { reason, message } => Some(text(reason, message)),
        Trouble::Waiting { .. } | Trouble::Ended { .. } => None,
    }
}

/// `reason`, or `reason: first line of the message`, clipped and without control characters. What
/// fetches a model tells its progress before the reason.
fn text(reason: &str, message: Option<&str>) -> Arc<str> {
    let lines = || message.unwrap_or_default().trim().lines();
    let told = lines().find_map(|line| line.strip_prefix(REASON_PREFIX));
    let line = told.or_else(|| lines().next()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect();
    if line.is_empty() { reason.into() } else { format!("{reason}: {line}").into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(state: &serde_json::Value, last: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"status": {"containerStatuses": [{
            "name": "user-container", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": state, "lastState": last,
        }]}}))
        .unwrap()
    }

    /// The reason that `of_pod` gives, and whether it is lasting.
    fn told(state: &serde_json::Value, last: &serde_json::Value) -> Option<(String, bool)> {
        of_pod(&pod(state, last)).map(|failure| (failure.reason.to_string(), failure.is_lasting))
    }

    /// Only back-off makes a crash a failure that lasts.
    #[test]
    fn a_crash_is_told_by_its_exit_code_and_first_line() {
        let ended = json!({"terminated": {"exitCode": 1, "message": "no model\nat line 3"}});
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
        let why = "ExitCode1: no model".to_owned();
        assert_eq!(told(&ended, &json!({})), Some((why.clone(), false)));
        assert_eq!(told(&waiting, &ended), Some((why, true)));
        let message = "Downloading: 3% of 7Gi\nebb-fetch: the name is unknown: correct it";
        let fetched = json!({"terminated": {"exitCode": 1, "message": message}});
        let why = "ExitCode1: the name is unknown: correct it".to_owned();
        assert_eq!(told(&fetched, &json!({})), Some((why, false)));
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_a_failure_and_a_pull_is_not() {
        let state = json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}});
        let none = json!({});
        assert_eq!(told(&state, &none), Some(("ImagePullBackOff: not found".to_owned(), true)));
        let state = json!({"waiting": {"reason": "ErrImagePull"}});
        assert_eq!(told(&state, &none), Some(("ErrImagePull".to_owned(), false)));
        let state = json!({"waiting": {"reason": "ContainerCreating"}});
        assert_eq!(told(&state, &none), None);
        assert_eq!(told(&json!({"running": {}}), &none), None);
    }

    /// Formerly requests waited for such a pod until their own timeout, though its Revision had
    /// failed at once.
    #[test]
    fn a_reason_that_is_not_known_here_is_a_failure_all_the_same() {
        let state = json!({"waiting": {"reason": "RegistryUnavailable", "message": "try later"}});
        let why = "RegistryUnavailable: try later".to_owned();
        assert_eq!(told(&state, &json!({})), Some((why, false)));
        let condition = json!({"type": "PodScheduled", "status": "False",
            "reason": "SchedulerError", "message": "no answer"});
        let pod = serde_json::from_value(json!({"status": {"conditions": [condition]}})).unwrap();
        assert_eq!(unschedulable(&pod).as_deref(), Some("SchedulerError: no answer"));
        assert_eq!(of_pod(&pod), None, "told apart, for it has longer to pass");
    }

    #[test]
    fn a_pod_that_waits_for_a_device_is_no_failure() {
        let lacks = |what: &str| {
            let message = format!("0/1 nodes are available: 1 Insufficient {what}.");
            let condition = json!({"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": message});
            let pod = json!({"status": {"conditions": [condition]}});
            unschedulable(&serde_json::from_value(pod).unwrap())
        };
        assert_eq!(lacks("nvidia.com/gpu"), None);
        assert!(lacks("memory").is_some() && lacks("nvidia.com/gpu, 1 Insufficient cpu").is_some());
    }

    #[test]
    fn a_long_message_is_clipped() {
        let message = "x".repeat(5000);
        let state = json!({"waiting": {"reason": "ErrImagePull", "message": message}});
        assert!(told(&state, &json!({})).unwrap().0.len() < 150);
    }

    #[test]
    fn one_pod_that_may_still_start_is_hope_for_all() {
        let failed = || Prospect::Failed("ExitCode1".into());
        assert_eq!(cannot_start([]), None, "no pod yet");
        assert_eq!(cannot_start([failed()]).as_deref(), Some("ExitCode1"));
        assert_eq!(cannot_start([failed(), Prospect::Starting]), None);
        assert_eq!(cannot_start([Prospect::Leaving]), None);
        let unschedulable = |s| Prospect::Unschedulable(Duration::from_secs(s), "No".into());
        assert_eq!(cannot_start([failed(), unschedulable(5)]), None);
        assert_eq!(cannot_start([unschedulable(121)]).as_deref(), Some("No"));
        let failing = |s| Prospect::Failing(Duration::from_secs(s), "ExitCode2".into());
        assert_eq!(cannot_start([failed(), failing(9)]), None, "P8: it is tried again");
        assert_eq!(cannot_start([failing(10)]).as_deref(), Some("ExitCode2"));
    }
}
