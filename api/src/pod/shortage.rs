//! Resources of which no node has enough for a pod, by the words of the scheduler.
//!
//! Kubernetes' scheduler tells of them in the message of the condition `PodScheduled` alone:
//! `0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 Insufficient memory.`
//! (k8s.io/kubernetes/pkg/scheduler/framework/plugins/noderesources). Local mode says the same, and in
//! parentheses how much would have to be given back.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;

use super::amounts::is_extended;
use super::condition;

/// The reason of a pod in local mode that will run once others have given back what they hold. It is
/// no trouble: the pod waits for its turn.
pub const WAITING_FOR_ROOM: &str = "WaitingForRoom";
/// The word before each resource.
const INSUFFICIENT: &str = "Insufficient ";
/// Most resources of one message that are looked at.
const RESOURCES_MAX: usize = 16;

/// A resource of which there is not enough for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// The resource.
    pub resource: String,
    /// How much has to be given back; `None` where the scheduler does not say.
    pub lack: Option<u64>,
}

/// What a pod waits for; nothing once a node has taken it.
#[must_use]
pub fn shortages(pod: &Pod) -> Vec<Shortage> {
    let is_placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let scheduled = condition(pod, "PodScheduled").filter(|it| it.status == "False" && !is_placed);
    let message = scheduled.and_then(|it| it.message.as_deref()).unwrap_or_default();
    let mut found: Vec<(u64, Shortage)> = Vec::new();
    let mut before = message.split(INSUFFICIENT);
    for part in message.split(INSUFFICIENT).skip(1).take(RESOURCES_MAX) {
        let nodes = before.next().and_then(|text| text.split_whitespace().next_back());
        let nodes = nodes.and_then(|nodes| nodes.parse().ok()).unwrap_or(0);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
        let end = part.find(|c| !is_name(c)).unwrap_or(part.len());
        let (resource, rest) = part.split_at(end);
        // The full stop ends the sentence.
        let resource = resource.trim_end_matches('.');
        let lack = rest.strip_prefix(" (").and_then(|rest| rest.split_once(' '));
        let lack = lack.and_then(|(lack, _)| lack.parse().ok());
        if !resource.is_empty() && found.iter().all(|(_, known)| known.resource != resource) {
            found.push((nodes, Shortage { resource: resource.to_owned(), lack }));
        }
    }
    // Where all nodes lack the device and fewer lack something else, the nodes without the device may be
    // those. Where some node has the device free, something else is in the way there.
    let all = message.strip_prefix("0/").and_then(|rest| rest.split_once(' '));
    let all: Option<u64> = all.and_then(|(all, _)| all.parse().ok());
    let is_lacked_by_all =
        |(nodes, it): &(u64, Shortage)| is_extended(&it.resource) && Some(*nodes) == all;
    let least = if found.iter().any(is_lacked_by_all) { all.unwrap_or(0) } else { 0 };
    found.into_iter().filter(|(nodes, _)| *nodes >= least).map(|(_, it)| it).collect()
}

/// The message of local mode, which [`shortages`] reads.
#[must_use]
pub fn insufficient(shortages: &[Shortage]) -> String {
    let mut message = "0/1 nodes are available: ".to_owned();
    for (index, Shortage { resource, lack }) in shortages.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(message, "{comma}1 {INSUFFICIENT}{resource}");
        if let Some(lack) = lack {
            let _ = write!(message, " ({lack} more needed)");
        }
    }
    message.push('.');
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(status: &str, message: &str) -> Vec<(String, Option<u64>)> {
        let pod: Pod = serde_json::from_value(json!({"status": {"conditions": [
            {"type": "PodScheduled", "status": status, "reason": "Unschedulable", "message": message},
        ]}}))
        .unwrap();
        shortages(&pod).into_iter().map(|it| (it.resource, it.lack)).collect()
    }

    #[test]
    fn the_words_of_the_scheduler_are_understood() {
        let gpu = || ("nvidia.com/gpu".to_owned(), None);
        let message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes \
                       are available: 1 No preemption victims found for incoming pod.";
        assert_eq!(told("False", message), [gpu()]);
        let message = "0/3 nodes are available: 1 Insufficient memory, 2 Insufficient nvidia.com/gpu, \
                       1 node(s) had untolerated taint {a: b}.";
        let memory = || ("memory".to_owned(), None);
        assert_eq!(told("False", message), [memory(), gpu()], "one node may have GPUs free");
        let mixed =
            "0/2 nodes are available: 1 Insufficient memory, 2 Insufficient nvidia.com/gpu.";
        assert_eq!(told("False", mixed), [gpu()], "one node has all the rest");
        let both = "0/2 nodes are available: 2 Insufficient memory, 2 Insufficient nvidia.com/gpu.";
        assert_eq!(told("False", both), [("memory".to_owned(), None), gpu()]);
        assert_eq!(told("True", message), [], "a node has taken it since");
        for message in
            ["", "Insufficient ", "0/1 nodes are available: 1 Too many pods.", "Insufficient ."]
        {
            assert_eq!(told("False", message), [], "{message}");
        }
    }

    #[test]
    fn what_local_mode_says_is_read_back() {
        let lacks = |resource: &str, lack| Shortage { resource: resource.to_owned(), lack };
        let all = [lacks("memory", Some(1 << 30)), lacks("nvidia.com/gpu", Some(1))];
        let read = told("False", &insufficient(&all));
        assert_eq!(
            read,
            [("memory".to_owned(), Some(1 << 30)), ("nvidia.com/gpu".to_owned(), Some(1))]
        );
        assert_eq!(shortages(&Pod::default()), []);
    }
}
