//! What Kubernetes, a slow API server or a late controller may do to pods.

use super::*;

/// Found by the simulation: the API server was slow, and the controller's lower scale arrived four, and
/// another time six, seconds after the Revision's was confirmed.
#[test]
fn a_pod_serves_again_only_when_it_was_left_alone_for_7_s() {
    let mut case = case(&[("a", true)]);
    case.plan(0, 1, &[&[]], 0);
    assert_eq!(case.plan(0, 1, &[&[]], 1000).condemned, ["a"]);
    case.drain.confirm_written(case.start + Duration::from_secs(4), Duration::from_secs(3));
    case.drain.confirm_written(case.start + Duration::from_secs(5), Duration::from_millis(5));
    for at_ms in [5_000, 7_100, 11_999] {
        assert!(case.plan(1, 1, &[&[]], at_ms).reprieved.is_empty(), "{at_ms}");
    }
    assert_eq!(case.plan(1, 1, &[&[]], 12_000).reprieved, ["a"]);
}

/// Found by the simulation: Kubernetes had taken an unready pod in the place of the marked one, which stayed
/// drained for as long as the load grew: each raise put the time off.
#[test]
fn a_pod_is_not_left_alone_longer_because_the_scale_is_raised_again_and_again() {
    let mut case = case(&[("a", true), ("b", true)]);
    case.plan(1, 2, &[&[]], 0);
    assert_eq!(case.plan(1, 2, &[&[]], 1000).condemned, ["a"]);
    let confirm = |case: &mut Case, at_s| {
        case.drain.confirm_written(case.start + Duration::from_secs(at_s), Duration::ZERO);
    };
    confirm(&mut case, 2);
    // The controller may have read the lower scale just before this one.
    case.plan(3, 1, &[&[]], 4_000);
    confirm(&mut case, 5);
    for (want, at_s) in [(4, 7), (5, 9), (6, 11)] {
        assert!(case.plan(want, want - 1, &[&[]], at_s * 1000).reprieved.is_empty(), "{at_s}");
        confirm(&mut case, at_s);
    }
    assert_eq!(case.plan(6, 6, &[&[]], 12_000).reprieved, ["a"]);
    // What is lowered after that may take it again.
    case.plan(1, 6, &[&[]], 30_000);
    assert_eq!(case.plan(1, 6, &[&[]], 31_000).condemned, ["a"]);
    confirm(&mut case, 40);
    assert!(case.plan(2, 1, &[&[]], 46_999).reprieved.is_empty());
}

/// Found by the simulation: the controller's write took four seconds, and the pods were needed just
/// before it arrived.
#[test]
fn a_pod_that_should_be_gone_for_long_serves_again_only_after_6_s() {
    let mut case = case(&[("a", true)]);
    case.plan(0, 1, &[&[]], 0);
    assert_eq!(case.plan(0, 1, &[&[]], 1000).condemned, ["a"]);
    for at_ms in [4_000, 6_000, 9_999] {
        assert!(case.plan(1, 0, &[&[]], at_ms).reprieved.is_empty(), "{at_ms}");
    }
    assert_eq!(case.plan(1, 1, &[&[]], 10_000).reprieved, ["a"]);
}

/// Found by the simulation: a pod that was made for an earlier, higher scale had a request inside
/// before the API said that it is ready, and Kubernetes deleted it in the place of a marked one.
#[test]
fn while_kubernetes_has_pods_to_delete_unready_ones_get_no_request() {
    let mut case = case(&[("a", true), ("b", true)]);
    case.plan(1, 2, &[&[]], 0);
    assert_eq!(case.plan(1, 2, &[&[]], 1000).condemned, ["a"]);
    case.pods.insert(RevisionPod { uid: "new".into(), ..RevisionPod::default() });
    case.plan(1, 1, &[&[]], 1100);
    assert_eq!(case.drain.order().1, ["a", "new"]);
    // Kubernetes has taken it, and is done.
    case.change("a", |pod| pod.is_terminating = true);
    case.plan(1, 1, &[&[]], 1200);
    assert_eq!(case.drain.order().1, ["a", "new"], "there are two, and one is asked for");
    case.plan(2, 1, &[&[]], 1300);
    assert_eq!(case.drain.order().1, ["a"]);
}

/// Found by the simulation: the pods of a raise came to be after a lower scale that named none of
/// them, and one was deleted with its first request.
#[test]
fn a_raise_is_taken_back_only_when_its_pods_are_seen_or_do_not_come() {
    let mut case = case(&[("a", true)]);
    case.plan(3, 1, &[&[]], 0);
    assert_eq!(case.plan(1, 3, &[&[]], 1000).scale, 3);
    case.pods.insert(RevisionPod { uid: "b".into(), ..RevisionPod::default() });
    case.plan(1, 3, &[&[]], 2000);
    let plan = case.plan(1, 3, &[&[]], 3000);
    assert_eq!((plan.scale, plan.condemned), (2, vec!["b".to_owned()]));
    assert_eq!(case.plan(1, 2, &[&[]], 12_000).scale, 1, "nobody waits for the third");
}

/// Found by the simulation: the pod of a raise came to be between the mark of another one and the
/// lower scale, and Kubernetes deleted it, for it was not ready.
#[test]
fn no_ready_pod_goes_while_the_pod_of_a_raise_is_yet_to_come() {
    let mut case = case(&[("a", true), ("b", true)]);
    case.plan(3, 2, &[&[]], 0);
    case.plan(1, 3, &[&[]], 1000);
    let plan = case.plan(1, 3, &[&[]], 2000);
    assert_eq!((plan.scale, plan.condemned), (3, vec![]));
    let new = || RevisionPod { uid: "new".into(), ..RevisionPod::default() };
    case.pods.insert(RevisionPod { is_ready: true, ..new() });
    let plan = case.plan(1, 3, &[&[]], 3000);
    assert_eq!((plan.scale, plan.condemned.len()), (2, 1));
}

/// Found by a reader: a condemned pod that is still seen hides the pod of a raise.
#[test]
fn a_condemned_pod_is_not_taken_for_that_of_a_raise() {
    let mut case = case(&[("a", true), ("b", true), ("c", true)]);
    case.plan(2, 3, &[&[]], 0);
    assert_eq!(case.plan(2, 3, &[&[]], 1000).condemned.len(), 1);
    case.plan(3, 2, &[&[]], 1500);
    case.plan(1, 3, &[&[]], 2000);
    let plan = case.plan(1, 3, &[&[]], 2500);
    assert_eq!((plan.scale, plan.condemned), (3, vec![]));
}

/// Found by the simulation: the watch of pods stood still for half a minute, and the pods of a raise
/// were given up while an activator sent them requests.
#[test]
fn nothing_is_lowered_while_an_activator_names_a_pod_that_is_not_seen() {
    let mut case = case(&[("a", true)]);
    case.plan(3, 1, &[&[]], 0);
    let idle = [said("a", 0, true), said("b", 0, false), said("c", 0, false)];
    for at_ms in [20_000, 21_000, 60_000] {
        let plan = case.plan(0, 3, &[&idle], at_ms);
        assert_eq!((plan.scale, plan.condemned, plan.is_blind), (3, vec![], true), "{at_ms}");
    }
    // An activator names none that leaves with nothing inside.
    assert_eq!(case.plan(0, 3, &[&idle[..1]], 61_000).scale, 0);
}

#[test]
fn a_pod_that_appears_above_the_scale_gets_no_request_before_it_is_ready() {
    let mut case = case(&[("a", true)]);
    case.plan(1, 1, &[&[]], 0);
    case.pods.insert(RevisionPod { uid: "new".into(), ..RevisionPod::default() });
    assert!(case.plan(1, 1, &[&[]], 100).is_reordered);
    assert_eq!(case.drain.order().1, ["new"]);
    case.change("new", |pod| pod.is_ready = true);
    case.plan(1, 1, &[&[]], 200);
    assert!(case.drain.order().1.is_empty(), "a surplus of ready pods is not ours");
}

/// Found by a reader: more pods drain than are to go.
#[test]
fn a_step_down_condemns_no_more_pods_than_it_removes() {
    let mut case = case(&[("a", true), ("b", false), ("c", false), ("surge", false)]);
    case.plan(2, 3, &[&[]], 0);
    assert_eq!(case.drain.order().1, ["b", "c", "surge"]);
    let plan = case.plan(2, 3, &[&[]], 1000);
    assert_eq!((plan.scale, plan.condemned.len()), (2, 2));
}

/// Found by a reader: Kubernetes takes the marked ones of the unready pods.
#[test]
fn the_last_unready_pod_gets_requests_while_marked_ones_go() {
    let mut case = case(&[("a", false), ("b", false), ("c", false)]);
    case.plan(1, 3, &[&[]], 0);
    assert_eq!(case.plan(1, 3, &[&[]], 1000).condemned, ["a", "b"]);
    case.plan(1, 1, &[&[]], 1100);
    assert_eq!(case.drain.order().1, ["a", "b"]);
}

/// A raise that waits for the API server counts from when it is there.
#[test]
fn the_pods_of_a_raise_that_was_written_late_are_waited_for() {
    let mut case = case(&[("a", true)]);
    case.plan(3, 1, &[&[]], 0);
    case.drain.confirm_written(case.start + Duration::from_secs(20), Duration::from_secs(20));
    assert_eq!(case.plan(1, 3, &[&[]], 21_000).scale, 3);
    assert_eq!(case.plan(1, 3, &[&[]], 32_000).scale, 1);
}
