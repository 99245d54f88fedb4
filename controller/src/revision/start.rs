//! How long a start took, by the pod that ended it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::condition::Condition;
use ebb_api::model_files::NAME;
use ebb_api::pod;
use ebb_api::start_phase::{self, StartPhase};
use ebb_api::starts::Starts;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::settling::TOLD_LATEST;

/// The latest that a condition is written after what it tells: a status that only goes into detail
/// waits, and then waits for its turn. Kubernetes cuts the times of pods down to seconds.
const TOLD_WITHIN: Duration = TOLD_LATEST.saturating_add(Duration::from_secs(15));

/// How long the start took that made the Revision active: from when the pod that was ready first was
/// made and had a node to its readiness. A pod that waits for room waits for other models, and says
/// nothing about its own. By the pods and not by the condition `Active`, which was `before` and which
/// is written some time later, or not at all where the start was quick: a new Revision may have none.
///
/// `None` if there was no start (a pod that was ready before is ready again), and for one that took
/// longer than `deadline`: somebody had to help.
pub(super) fn measured(
    pods: &[Arc<Pod>],
    before: Option<&Condition>,
    deadline: SignedDuration,
) -> Option<Duration> {
    if before.is_some_and(Condition::is_true) {
        return None;
    }
    let starts = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let (ready, made, placed) = starts.filter_map(|pod| steps(pod)).min()?;
    let since = before.and_then(|active| active.last_transition_time.as_ref()).map(|since| since.0);
    // A pod that was there long before has been ready before.
    let age = since.map(|since| Duration::try_from(since.duration_since(made)));
    if age.is_some_and(|age| age.is_ok_and(|age| age > TOLD_WITHIN)) {
        return None;
    }
    let took = ready.duration_since(placed.unwrap_or(made).max(made));
    (took <= deadline).then_some(took)?.try_into().ok()
}

/// What a start waits for, as JSON for [`start_phase::START`]: the pod that is farthest counts, as it does for an
/// activator. `active` is the condition that says since when there should be pods; it may be yet to be
/// written.
///
/// Each value follows from what the API server has, so that the status settles; how fresh it is, is the
/// matter of [`crate::settling`]: a quick start is never told of.
pub(super) fn under_way(pods: &[Arc<Pod>], active: Option<&Condition>, starts: &Starts) -> String {
    let is_coming = |pod: &&Arc<Pod>| {
        pod.metadata.deletion_timestamp.is_none() && !pod::has_ended(pod) && !pod::is_ready(pod)
    };
    let coming = pods.iter().filter(is_coming);
    // Of several in one phase the one that is in it for longest.
    let farthest = coming.map(|pod| (StartPhase::of(pod), Reverse(start_phase::since(pod)))).max();
    let asked = || active.and_then(|active| active.last_transition_time.as_ref());
    let (phase, since) = match farthest {
        Some((phase, Reverse(since))) => (phase, since),
        None => (StartPhase::Asked, asked().map(|since| since.0)),
    };
    let mut told = json!({"phase": phase.word()});
    if let Some(since) = since {
        told["since"] = json!(since);
    }
    if let Some(usual) = starts.p90() {
        told["usualStartSeconds"] = json!(usual.as_secs());
    }
    told.to_string()
}

/// When a pod became ready, if it is, when it was made, and when it got a node.
fn steps(pod: &Pod) -> Option<(Timestamp, Timestamp, Option<Timestamp>)> {
    let since = |type_: &str| {
        let condition = pod::condition(pod, type_).filter(|it| it.status == "True")?;
        Some(condition.last_transition_time.as_ref()?.0)
    };
    let made = pod.metadata.creation_timestamp.as_ref()?;
    // The next start finds the files of the model, and says nothing about fetching them.
    Some((since("Ready")?, made.0, since("PodScheduled").max(fetched(pod))))
}

/// When the files of its model were there.
fn fetched(pod: &Pod) -> Option<Timestamp> {
    let init = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let state = init.iter().find(|init| init.name == NAME)?.state.as_ref()?;
    Some(state.terminated.as_ref()?.finished_at.as_ref()?.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn pod(made: i64, ready: i64, status: &str) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": "p", "creationTimestamp": at(made)},
            "status": {"conditions": [
                {"type": "Ready", "status": status, "lastTransitionTime": at(ready)},
            ]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn the_fetch_of_a_model_is_no_part_of_a_start() {
        let mut fetched = Pod::clone(&pod(100, 145, "True"));
        let init = json!([{"name": "ebb-model", "image": "", "imageID": "", "ready": true,
            "restartCount": 0, "state": {"terminated": {"exitCode": 0, "finishedAt": at(140)}}}]);
        let status = fetched.status.as_mut().expect("a status");
        status.init_container_statuses = Some(serde_json::from_value(init).expect("statuses"));
        let took = measured(&[Arc::new(fetched)], None, SignedDuration::from_mins(10));
        assert_eq!(took, Some(Duration::from_secs(5)));
    }

    #[test]
    fn the_wait_for_a_node_is_no_part_of_a_start() {
        let placed = |at_s: i64| {
            let mut waited = Pod::clone(&pod(100, 145, "True"));
            let placed =
                json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": at(at_s)});
            let conditions = waited.status.as_mut().and_then(|status| status.conditions.as_mut());
            conditions.unwrap().push(serde_json::from_value(placed).unwrap());
            seconds(&[Arc::new(waited)], &active("Unknown", 101))
        };
        assert_eq!((placed(140), placed(100), placed(90)), (Some(5), Some(45), Some(45)));
    }

    #[test]
    fn a_start_under_way_tells_its_phase_since_when_and_how_long_it_usually_takes() {
        let told = |pods: &[Arc<Pod>], starts: &str| -> serde_json::Value {
            let told = under_way(pods, Some(&active("Unknown", 100)), &Starts::parse(starts));
            serde_json::from_str(&told).unwrap()
        };
        assert_eq!(told(&[], ""), json!({"phase": "asked", "since": at(100)}));
        let pending = pod(101, 101, "False");
        let mut loading = Pod::clone(&pod(103, 103, "False"));
        loading.status.as_mut().unwrap().phase = Some("Running".to_owned());
        let mut ending = loading.clone();
        ending.metadata.deletion_timestamp = ending.metadata.creation_timestamp.clone();
        let mut waits = Pod::clone(&pending);
        waits.status.as_mut().unwrap().phase = Some("Pending".to_owned());
        let waits = Arc::new(waits);
        let later = Arc::new({
            let mut later = Pod::clone(&waits);
            later.metadata.creation_timestamp = ending.metadata.creation_timestamp.clone();
            later
        });
        let pods = [later, Arc::clone(&waits), Arc::new(ending)];
        assert_eq!(told(&pods, ""), json!({"phase": "pending", "since": at(101)}));
        let ready = pod(90, 95, "True");
        assert_eq!(
            told(&[waits, ready, Arc::new(loading)], "4,40"),
            json!({"phase": "loading", "since": at(103), "usualStartSeconds": 40}),
            "the pod that is farthest"
        );
    }

    fn active(status: &str, since: i64) -> Condition {
        let active = json!({"type": "Active", "status": status, "lastTransitionTime": at(since)});
        serde_json::from_value(active).unwrap()
    }

    fn seconds(pods: &[Arc<Pod>], before: &Condition) -> Option<u64> {
        let deadline = SignedDuration::from_secs(600);
        measured(pods, Some(before), deadline).map(|took| took.as_secs())
    }

    #[test]
    fn a_start_is_measured_whether_or_not_its_begin_was_written() {
        let pods = [pod(100, 103, "True")];
        assert_eq!(seconds(&pods, &active("False", 50)), Some(3), "nobody wrote that it began");
        assert_eq!(seconds(&pods, &active("Unknown", 102)), Some(3));
        let new = measured(&pods, None, SignedDuration::MAX);
        assert_eq!(new, Some(Duration::from_secs(3)), "its first status");
        assert_eq!(seconds(&[pod(100, 145, "True")], &active("Unknown", 129)), Some(45));
        let first = [pod(100, 190, "True"), pod(100, 145, "True"), pod(100, 120, "False")];
        assert_eq!(seconds(&first, &active("Unknown", 105)), Some(45), "the first that was ready");
    }

    #[test]
    fn what_was_no_start_is_not_measured() {
        assert_eq!(seconds(&[pod(100, 103, "True")], &active("True", 50)), None);
        assert_eq!(seconds(&[pod(100, 103, "False")], &active("Unknown", 102)), None);
        // A pod that was ready before was not for a while.
        assert_eq!(seconds(&[pod(100, 900, "True")], &active("Unknown", 890)), None);
        // One that was to go was kept.
        assert_eq!(seconds(&[pod(100, 103, "True")], &active("False", 890)), None);
        // Somebody had to help; a clock was set.
        assert_eq!(seconds(&[pod(100, 701, "True")], &active("Unknown", 105)), None);
        assert_eq!(seconds(&[pod(100, 99, "True")], &active("False", 50)), None);
        let mut ending = (*pod(100, 103, "True")).clone();
        ending.metadata.deletion_timestamp = ending.metadata.creation_timestamp.clone();
        assert_eq!(seconds(&[Arc::new(ending)], &active("False", 50)), None);
    }
}
