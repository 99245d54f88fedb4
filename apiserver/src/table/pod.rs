//! What `kubectl get pods` says of a pod, from its status
//! (`printPod` of `pkg/printers/internalversion/printers.go`).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use super::column::{count_at, list_at, str_at};
use crate::resources::ResourceType;

/// What the row of a pod says beside its cells: that the pod has ended.
pub(super) fn ended(resource: &ResourceType, pod: &Value) -> Option<Value> {
    if resource.custom || resource.kind != "Pod" {
        return None;
    }
    let (reason, message) = match str_at(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({ "type": "Completed", "status": "True", "reason": reason, "message": message }))
}

/// `1/2`: containers that are ready, of all.
pub(super) fn ready(pod: &Value) -> String {
    let statuses = list_at(pod, "/status/containerStatuses");
    let ready = statuses
        .iter()
        .filter(|status| is_ready(status) && status.pointer("/state/running").is_some())
        .count();
    format!("{ready}/{}", list_at(pod, "/spec/containers").len())
}

/// `Running`, `CrashLoopBackOff`, `Terminating`, ...: the most telling thing about a pod.
pub(super) fn status(pod: &Value) -> String {
    let mut reason = match str_at(pod, "/status/reason") {
        "" => str_at(pod, "/status/phase").to_owned(),
        reason => reason.to_owned(),
    };
    if let Some(init) = waiting_init(pod) {
        reason = init;
    } else {
        let mut any_running = false;
        for status in list_at(pod, "/status/containerStatuses").iter().rev() {
            if let Some(container) = container_reason(status) {
                reason = container;
            } else if is_ready(status) && status.pointer("/state/running").is_some() {
                any_running = true;
            }
        }
        if reason == "Completed" && any_running {
            let ready = condition(pod, "Ready") == Some("True");
            (if ready { "Running" } else { "NotReady" }).clone_into(&mut reason);
        }
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        let lost = str_at(pod, "/status/reason") == "NodeLost";
        let finished = matches!(str_at(pod, "/status/phase"), "Succeeded" | "Failed");
        if lost {
            "Unknown".clone_into(&mut reason);
        } else if !finished {
            "Terminating".clone_into(&mut reason);
        }
    }
    if reason.is_empty() {
        "Unknown".clone_into(&mut reason);
    }
    reason
}

/// `2 (5s ago)`: how often containers were started again, and when last.
pub(super) fn restarts(pod: &Value, now: Timestamp) -> String {
    let statuses = list_at(pod, "/status/containerStatuses");
    let count: i64 = statuses.iter().map(|status| count_at(status, "/restartCount")).sum();
    let last = statuses
        .iter()
        .filter_map(|status| status.pointer("/lastState/terminated/finishedAt"))
        .max_by_key(|time| time.as_str());
    match last {
        Some(time) if count > 0 => format!("{count} ({} ago)", age::since(Some(time), now)),
        _ => count.to_string(),
    }
}

/// Why a container does not run; `None` if it runs or nothing is known.
fn container_reason(status: &Value) -> Option<String> {
    let waiting = str_at(status, "/state/waiting/reason");
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    let terminated = status.pointer("/state/terminated")?;
    Some(match str_at(terminated, "/reason") {
        "" => exit(terminated),
        reason => reason.to_owned(),
    })
}

/// The state of the first init container that has not succeeded; `None` if there is none.
fn waiting_init(pod: &Value) -> Option<String> {
    let total = list_at(pod, "/spec/initContainers").len();
    for (index, status) in list_at(pod, "/status/initContainerStatuses").iter().enumerate() {
        let terminated = status.pointer("/state/terminated");
        if let Some(terminated) = terminated {
            if count_at(terminated, "/exitCode") == 0 {
                continue;
            }
            return Some(match str_at(terminated, "/reason") {
                "" => format!("Init:{}", exit(terminated)),
                reason => format!("Init:{reason}"),
            });
        }
        return Some(match str_at(status, "/state/waiting/reason") {
            "" | "PodInitializing" => format!("Init:{index}/{total}"),
            reason => format!("Init:{reason}"),
        });
    }
    None
}

fn exit(terminated: &Value) -> String {
    match count_at(terminated, "/signal") {
        0 => format!("ExitCode:{}", count_at(terminated, "/exitCode")),
        signal => format!("Signal:{signal}"),
    }
}

fn is_ready(status: &Value) -> bool {
    status.get("ready").and_then(Value::as_bool) == Some(true)
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a str> {
    list_at(pod, "/status/conditions")
        .iter()
        .find(|condition| str_at(condition, "/type") == kind)
        .map(|condition| str_at(condition, "/status"))
}
