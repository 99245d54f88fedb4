//! Decisions and statuses, case by case.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn deployment(replicas: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "d", "namespace": "ns", "uid": "u", "generation": 1},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "d"}},
            "template": {
                "metadata": {"labels": {"app": "d"}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            },
        },
    }))
    .expect("a deployment")
}

fn current_hash() -> String {
    template_hash(&deployment(1).spec.expect("a spec").template)
}

/// A ready pod of the current template, changed by `change`.
fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": name,
            "uid": name,
            "labels": {"app": "d", POD_TEMPLATE_HASH: current_hash()},
            "annotations": {},
            "creationTimestamp": at(10),
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at(20)}],
        },
    });
    change(&mut pod);
    serde_json::from_value(pod).expect("a pod")
}

fn ready(name: &str) -> Pod {
    pod(name, |_| {})
}

fn unready(name: &str) -> Pod {
    pod(name, |pod| {
        pod["status"]["conditions"][0]["status"] = json!("False");
    })
}

fn old(name: &str) -> Pod {
    pod(name, |pod| {
        pod["metadata"]["labels"][POD_TEMPLATE_HASH] = json!("old");
    })
}

fn terminating(name: &str) -> Pod {
    pod(name, |pod| {
        pod["metadata"]["deletionTimestamp"] = json!(at(30));
    })
}

fn decide(deployment: &Deployment, pods: &[Pod]) -> (usize, Vec<String>) {
    let Actions { create, delete } = plan(deployment, pods.iter(), at(100));
    let mut names: Vec<String> = delete.into_iter().map(|victim| victim.name).collect();
    names.sort();
    (create, names)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_scale_is_followed_up_and_down() {
    assert_eq!(decide(&deployment(0), &[]), (0, names(&[])));
    assert_eq!(decide(&deployment(3), &[]), (3, names(&[])));
    assert_eq!(decide(&deployment(3), &[ready("a")]), (2, names(&[])));
    assert_eq!(decide(&deployment(0), &[ready("a"), unready("b")]), (0, names(&["a", "b"])));
}

/// Only what Ebb has drained ends without a pause for requests on their way.
#[test]
fn a_pod_counts_as_drained_by_its_mark_or_where_none_is_left() {
    let drained = |replicas: i32, pods: &[Pod]| -> Vec<(String, bool)> {
        let Actions { delete, .. } = plan(&deployment(replicas), pods.iter(), at(100));
        delete.into_iter().map(|victim| (victim.name, victim.is_drained)).collect()
    };
    let marked = pod("b", |pod| {
        pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"] =
            json!("-1000");
    });
    assert_eq!(drained(1, &[ready("a"), marked]), [("b".to_owned(), true)]);
    assert_eq!(drained(1, &[ready("a"), unready("b")]), [("b".to_owned(), false)], "by hand");
    assert_eq!(drained(0, &[ready("a")]), [("a".to_owned(), true)]);
    assert_eq!(drained(1, &[ready("a"), old("b")]), [("b".to_owned(), false)], "a rollout's");
}

/// Found by the simulation: the wall clock was an hour ahead when the pod became ready.
#[test]
fn a_ready_pod_is_available_at_once_although_the_clock_has_gone_back() {
    let ahead = pod("a", |pod| {
        pod["status"]["conditions"][0]["lastTransitionTime"] = json!(at(4_000));
    });
    let (status, next) = observe(&deployment(1), [&ahead].into_iter(), at(100));
    assert_eq!((status.available_replicas, next), (Some(1), None));
    assert_eq!(decide(&deployment(1), &[ahead, old("b")]), (0, names(&["b"])));
}

#[test]
fn pods_that_end_or_are_being_deleted_are_replaced() {
    let failed = pod("failed", |pod| pod["status"]["phase"] = json!("Failed"));
    let pods = [failed, terminating("gone"), ready("a")];
    assert_eq!(decide(&deployment(2), &pods), (1, names(&["failed"])));
}

#[test]
fn unready_pods_go_first_then_the_cheapest_then_the_latest() {
    let cheap = pod("cheap", |pod| {
        pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"] = json!("-10");
    });
    let late = pod("late", |pod| {
        pod["status"]["conditions"][0]["lastTransitionTime"] = json!(at(50));
    });
    let restarted = pod("restarted", |pod| {
        pod["status"]["containerStatuses"] = json!([{
            "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 4,
        }]);
    });
    let young = pod("young", |pod| {
        pod["metadata"]["creationTimestamp"] = json!(at(15));
    });
    let pods = [ready("kept"), young, restarted, late, cheap, unready("unready")];
    let order = ["unready", "cheap", "late", "restarted", "young"];
    for left in 1..6 {
        let replicas = i32::try_from(left).expect("small");
        let mut expected = names(&order[..6 - left]);
        expected.sort();
        assert_eq!(decide(&deployment(replicas), &pods), (0, expected), "{left} left");
    }
}

#[test]
fn a_new_template_is_ready_before_the_old_one_goes() {
    let wanted = deployment(2);
    let olds = [old("o1"), old("o2")];
    assert_eq!(decide(&wanted, &olds), (1, names(&[])), "one more at a time");
    let started = [old("o1"), old("o2"), unready("n1")];
    assert_eq!(decide(&wanted, &started), (0, names(&[])), "not ready yet");
    let served = [old("o1"), old("o2"), ready("n1")];
    let (create, delete) = decide(&wanted, &served);
    assert_eq!((create, delete.len()), (0, 1));
    let half = [old("o2"), ready("n1")];
    assert_eq!(decide(&wanted, &half), (1, names(&[])));
    let done = [old("o2"), ready("n1"), ready("n2")];
    assert_eq!(decide(&wanted, &done), (0, names(&["o2"])));
}

#[test]
fn a_rollout_always_comes_to_its_end_and_never_serves_less() {
    for replicas in 1..6_i32 {
        let wanted = deployment(replicas);
        let mut pods: Vec<Pod> = (0..replicas).map(|n| old(&format!("o{n}"))).collect();
        let mut made = 0;
        for _ in 0..50 {
            let actions = plan(&wanted, pods.iter(), at(100));
            pods.retain(|pod| {
                let uid = pod.metadata.uid.as_deref();
                !actions.delete.iter().any(|victim| Some(victim.uid.as_str()) == uid)
            });
            assert!(pods.len() >= usize::try_from(replicas).expect("positive"));
            for _ in 0..actions.create {
                made += 1;
                pods.push(ready(&format!("n{made}")));
            }
        }
        let names: Vec<_> = pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        assert!(names.iter().all(|name| name.starts_with('n')), "{names:?}");
        assert_eq!(made, replicas);
    }
}

#[test]
fn recreate_ends_the_old_before_it_starts_the_new() {
    let mut wanted = deployment(1);
    let spec = wanted.spec.as_mut().expect("a spec");
    spec.strategy = serde_json::from_value(json!({"type": "Recreate"})).ok();
    assert_eq!(decide(&wanted, &[old("o")]), (0, names(&["o"])));
    let ending = pod("o", |pod| {
        pod["metadata"]["labels"][POD_TEMPLATE_HASH] = json!("old");
        pod["metadata"]["deletionTimestamp"] = json!(at(30));
    });
    assert_eq!(decide(&wanted, &[ending]), (0, names(&[])));
    assert_eq!(decide(&wanted, &[]), (1, names(&[])));
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> &'a DeploymentCondition {
    let conditions = status.conditions.as_ref().expect("conditions");
    let found = conditions.iter().find(|condition| condition.type_ == kind);
    found.expect("the condition")
}

fn reason(status: &DeploymentStatus) -> &str {
    find(status, "Progressing").reason.as_deref().expect("a reason")
}

#[test]
fn a_status_counts_pods_and_says_whether_they_suffice() {
    let pods = [ready("a"), unready("b"), terminating("c"), old("d")];
    let (status, _) = observe(&deployment(3), pods.iter(), at(100));
    assert_eq!(status.replicas, Some(3));
    assert_eq!(status.updated_replicas, Some(2));
    assert_eq!(status.ready_replicas, Some(2));
    assert_eq!(status.available_replicas, Some(2));
    assert_eq!(status.unavailable_replicas, Some(1));
    assert_eq!(status.terminating_replicas, Some(1));
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(find(&status, "Available").status, "False");
    let (status, _) = observe(&deployment(2), pods.iter(), at(100));
    assert_eq!(find(&status, "Available").status, "True");
}

#[test]
fn a_status_is_the_same_until_something_happens() {
    let mut wanted = deployment(1);
    let pods = [ready("a")];
    let (status, _) = observe(&wanted, pods.iter(), at(100));
    wanted.status = Some(status.clone());
    let (again, next) = observe(&wanted, pods.iter(), at(200));
    assert_eq!(again, status);
    assert_eq!(next, None);
}

/// Anybody may write a status; an Ebb that ended by it would end at each start.
#[test]
fn a_status_of_absurd_numbers_is_replaced() {
    let mut wanted = deployment(1);
    let (expected, _) = observe(&wanted, [unready("a")].iter(), at(100));
    let mut absurd = expected.clone();
    (absurd.replicas, absurd.updated_replicas) = (Some(i32::MIN), Some(1));
    wanted.status = Some(absurd);
    let (status, _) = observe(&wanted, [unready("a")].iter(), at(100));
    assert_eq!((status.replicas, status.updated_replicas), (Some(1), Some(1)));
}

#[test]
fn a_start_that_takes_too_long_exceeds_its_deadline() {
    let mut wanted = deployment(1);
    let pods = [unready("a")];
    let (status, next) = observe(&wanted, pods.iter(), at(100));
    assert_eq!(reason(&status), "ReplicaSetUpdated");
    assert_eq!(next, Some(Duration::from_mins(10)));
    wanted.status = Some(status);
    let (status, next) = observe(&wanted, pods.iter(), at(699));
    assert_eq!(reason(&status), "ReplicaSetUpdated");
    assert_eq!(next, Some(Duration::from_secs(1)));
    wanted.status = Some(status);
    let (status, next) = observe(&wanted, pods.iter(), at(700));
    assert_eq!(reason(&status), "ProgressDeadlineExceeded");
    assert_eq!(find(&status, "Progressing").status, "False");
    assert_eq!(next, None);
    wanted.status = Some(status);
    let (status, _) = observe(&wanted, [ready("a")].iter(), at(800));
    assert_eq!(reason(&status), "NewReplicaSetAvailable", "late is better than never");
}

#[test]
fn a_change_of_scale_after_a_rollout_exceeds_no_deadline() {
    let mut wanted = deployment(0);
    let (status, _) = observe(&wanted, [].iter(), at(100));
    assert_eq!(reason(&status), "NewReplicaSetAvailable");
    wanted.status = Some(status);
    wanted.spec.as_mut().expect("a spec").replicas = Some(1);
    let (status, next) = observe(&wanted, [unready("a")].iter(), at(9000));
    assert_eq!(reason(&status), "NewReplicaSetAvailable");
    assert_eq!(next, None);
}

#[test]
fn a_pod_counts_as_available_after_its_least_ready_time() {
    let mut wanted = deployment(1);
    wanted.spec.as_mut().expect("a spec").min_ready_seconds = Some(60);
    let (status, next) = observe(&wanted, [ready("a")].iter(), at(50));
    assert_eq!((status.ready_replicas, status.available_replicas), (Some(1), Some(0)));
    assert_eq!(next, Some(Duration::from_secs(30)));
    let (status, _) = observe(&wanted, [ready("a")].iter(), at(80));
    assert_eq!(status.available_replicas, Some(1));
}
