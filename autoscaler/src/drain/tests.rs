//! The rules of the drain, one by one.

use ebb_api::report::PodReport;

use super::*;

mod hazards;

struct Case {
    drain: Drain,
    pods: Pods,
    start: Instant,
    orders: u64,
    is_writing: bool,
}

fn case(pods: &[(&str, bool)]) -> Case {
    let mut case = Case {
        drain: Drain::default(),
        pods: Pods::default(),
        start: Instant::now(),
        orders: 0,
        is_writing: false,
    };
    for (uid, is_ready) in pods {
        case.pods.insert(RevisionPod {
            uid: (*uid).into(),
            is_ready: *is_ready,
            ..RevisionPod::default()
        });
    }
    case
}

fn said(uid: &str, in_flight: u32, draining: bool) -> PodReport {
    PodReport { uid: uid.into(), in_flight, draining }
}

impl Case {
    fn change(&mut self, uid: &str, change: impl FnOnce(&mut RevisionPod)) {
        let mut pod = self.pods.get(uid).unwrap().clone();
        change(&mut pod);
        assert!(self.pods.insert(pod));
    }

    /// Plans at a time; each activator reported those pods while it obeyed the last order.
    fn plan(&mut self, want: u32, current: u32, views: &[&[PodReport]], at_ms: u64) -> DrainPlan {
        let obeyed = self.drain.order().0;
        let views: Vec<_> = views
            .iter()
            .map(|pods| ReporterView { obeyed, pods, ..ReporterView::default() })
            .collect();
        self.plan_by(want, current, &views, at_ms)
    }

    fn plan_by(
        &mut self,
        want: u32,
        current: u32,
        views: &[ReporterView<'_>],
        at_ms: u64,
    ) -> DrainPlan {
        let now = self.start + Duration::from_millis(at_ms);
        self.orders += 1;
        self.drain.plan(&Scene {
            want,
            current,
            pods: &self.pods,
            views,
            is_writing: self.is_writing,
            ceded: None,
            rests: None,
            order: OrderId { epoch: 7, number: self.orders },
            now,
        })
    }
}

#[test]
fn the_least_busy_pods_drain_and_unready_ones_before_all() {
    let mut case = case(&[("a", true), ("b", true), ("c", true), ("d", false)]);
    let view = [said("a", 5, false), said("b", 1, false), said("c", 1, false)];
    let plan = case.plan(2, 4, &[&view], 0);
    assert_eq!(case.drain.order().1, ["b", "d"]);
    assert_eq!(plan.scale, 4);
}

#[test]
fn the_scale_is_lowered_as_each_victim_is_let_go_by_everybody() {
    let mut case = case(&[("a", true), ("b", true), ("c", true)]);
    let busy = [said("a", 1, false), said("b", 0, false), said("c", 0, false)];
    assert_eq!(case.plan(1, 3, &[&busy, &busy], 0).scale, 3);
    let let_go = [said("a", 1, false), said("b", 0, true), said("c", 0, true)];
    let one_left = [said("a", 1, false), said("b", 0, true), said("c", 2, true)];
    let plan = case.plan(1, 3, &[&let_go, &one_left], 1000);
    assert_eq!((plan.scale, plan.condemned), (2, vec!["b".to_owned()]));
    let plan = case.plan(1, 2, &[&let_go, &let_go], 2000);
    assert_eq!((plan.scale, plan.condemned), (1, vec!["c".to_owned()]));
    assert_eq!(case.drain.order().1, ["b", "c"]);
}

/// Kubernetes deletes unready pods first, whatever is marked.
#[test]
fn no_ready_pod_goes_while_an_unready_one_is_in_use() {
    let mut case = case(&[("a", true), ("b", true), ("c", false)]);
    let busy = [said("a", 0, false), said("b", 0, false), said("c", 1, false)];
    assert_eq!(case.plan(1, 3, &[&busy], 0).scale, 3);
    assert_eq!(case.drain.order().1, ["a", "c"]);
    let busy = [said("a", 0, true), said("b", 0, false), said("c", 1, true)];
    let plan = case.plan(1, 3, &[&busy], 1000);
    assert_eq!((plan.scale, plan.condemned), (3, Vec::new()), "c would go, and not a");
    let idle = [said("a", 0, true), said("b", 0, false), said("c", 0, true)];
    let plan = case.plan(1, 3, &[&idle], 2000);
    assert_eq!((plan.scale, plan.condemned), (1, vec!["c".to_owned(), "a".to_owned()]));
}

/// An activator whose watch is behind would send requests there again.
#[test]
fn a_pod_that_ends_stays_ordered_by_the_next_autoscaler() {
    let mut case = case(&[("a", true)]);
    case.change("a", |pod| (pod.is_marked, pod.is_terminating) = (true, true));
    case.plan(0, 0, &[&[said("a", 0, true)]], 0);
    assert_eq!(case.drain.order().1, ["a"]);
    case.plan(1, 0, &[&[said("a", 0, true)]], 1000);
    assert_eq!(case.drain.order().1, ["a"], "even if a pod is needed");
    case.plan(1, 1, &[&[]], 2000);
    assert!(case.drain.order().1.is_empty());
}

#[test]
fn a_condemned_pod_that_ends_is_ordered_once() {
    let mut case = case(&[("a", true)]);
    case.plan(0, 1, &[&[said("a", 0, false)]], 0);
    assert_eq!(case.plan(0, 1, &[&[said("a", 0, true)]], 1000).condemned, ["a"]);
    case.change("a", |pod| pod.is_terminating = true);
    let plan = case.plan(0, 0, &[&[said("a", 0, true)]], 2000);
    assert_eq!((plan.is_reordered, case.drain.order().1), (false, &["a".to_owned()][..]));
}

#[test]
fn without_anybody_to_answer_nothing_is_lowered() {
    let mut case = case(&[("a", true)]);
    for at_ms in [0, 10_000] {
        assert_eq!(case.plan(0, 1, &[], at_ms).scale, 1);
    }
}

/// An activator that does not name a pod may be about to learn of it, or know too many to name.
#[test]
fn a_pod_that_an_activator_does_not_name_is_let_go_only_once_it_obeys() {
    let mut case = case(&[("a", false)]);
    assert_eq!(case.plan_by(0, 1, &[ReporterView::default()], 0).scale, 1);
    assert_eq!(case.plan_by(0, 1, &[ReporterView::default()], 60_000).scale, 1);
    let obeyed = case.drain.order().0;
    let cut = ReporterView { obeyed, is_cut: true, ..ReporterView::default() };
    assert_eq!(case.plan_by(0, 1, &[cut], 60_001).scale, 1);
    assert_eq!(case.plan_by(0, 1, &[ReporterView { is_cut: false, ..cut }], 60_002).scale, 0);
}

/// After a stall an acknowledgement of an earlier drain may arrive, however late.
#[test]
fn an_echo_of_a_drain_that_was_called_off_does_not_count() {
    let mut case = case(&[("a", true)]);
    let held = [said("a", 0, true)];
    case.plan(0, 1, &[&[said("a", 0, false)]], 0);
    let echo =
        ReporterView { obeyed: case.drain.order().0, pods: &held, ..ReporterView::default() };
    assert_eq!(case.plan_by(1, 1, &[echo], 100).scale, 1);
    assert!(case.drain.is_empty());
    assert_eq!(case.plan_by(0, 1, &[echo], 200).scale, 1);
    assert_eq!(case.plan_by(0, 1, &[echo], 3_600_000).scale, 1);
    let answer = ReporterView { obeyed: case.drain.order().0, ..echo };
    assert_eq!(case.plan_by(0, 1, &[answer], 3_600_001).scale, 0);
}

/// Another leader numbers its orders on its own.
#[test]
fn obedience_to_another_leader_does_not_count() {
    let mut case = case(&[("a", true)]);
    let held = [said("a", 0, true)];
    case.plan(0, 1, &[], 0);
    for epoch in [6, 8] {
        let obeyed = OrderId { epoch, number: 100 };
        let view = ReporterView { obeyed, pods: &held, ..ReporterView::default() };
        assert_eq!(case.plan_by(0, 1, &[view], 100).scale, 1, "{epoch}");
    }
}

#[test]
fn obedience_to_a_later_order_holds_for_all_that_both_name() {
    let mut case = case(&[("a", true), ("b", true)]);
    case.plan(1, 2, &[], 0);
    let first = case.drain.order().0;
    case.plan(0, 2, &[], 100);
    assert!(case.drain.order().0 > first);
    let held = [said("a", 0, true), said("b", 0, true)];
    let early = ReporterView { obeyed: first, pods: &held, ..ReporterView::default() };
    assert_eq!(case.plan_by(0, 2, &[early], 200).condemned, ["a"]);
    assert_eq!(case.plan(0, 1, &[&held], 300).condemned, ["b"]);
}

#[test]
fn a_condemned_pod_stays_ordered_until_it_is_gone_or_needed_and_left_alone() {
    let mut case = case(&[("a", true)]);
    case.plan(0, 1, &[&[]], 0);
    case.plan(0, 1, &[&[]], 2000);
    case.drain.confirm_written(case.start + Duration::from_secs(3), Duration::ZERO);
    assert_eq!(case.plan(0, 0, &[&[]], 60_000).reprieved, Vec::<String>::new());
    assert_eq!(case.drain.order().1, ["a"]);
    case.drain.confirm_written(case.start + Duration::from_mins(1), Duration::ZERO);
    assert!(case.plan(1, 1, &[&[]], 61_999).reprieved.is_empty());
    assert!(case.plan(1, 1, &[&[]], 66_999).reprieved.is_empty());
    assert_eq!(case.plan(1, 1, &[&[]], 67_000).reprieved, ["a"]);
    assert!(case.drain.order().1.is_empty());
}

/// An attempt that was under way when the pods were needed again may arrive for as long as it lasts.
#[test]
fn while_a_write_is_pending_a_pod_serves_again_12_s_after_it_is_needed() {
    let mut case = case(&[("a", true)]);
    case.plan(0, 1, &[&[]], 0);
    assert_eq!(case.plan(0, 1, &[&[]], 1000).condemned, ["a"]);
    case.is_writing = true;
    for at_ms in [12_000, 13_001, 23_999] {
        assert!(case.plan(1, 0, &[&[]], at_ms).reprieved.is_empty(), "{at_ms}");
    }
    assert_eq!(case.plan(1, 1, &[&[]], 24_000).reprieved, ["a"]);
    // The next need is another one.
    case.plan(1, 1, &[&[]], 25_000);
    case.plan(0, 1, &[&[]], 26_000);
    assert_eq!(case.plan(0, 1, &[&[]], 60_000).condemned, ["a"]);
    assert!(case.plan(1, 0, &[&[]], 80_000).reprieved.is_empty());
}

/// Two of three condemned pods are needed: until they serve, a scale of two could take any.
#[test]
fn nothing_is_lowered_while_condemned_pods_are_to_serve_again() {
    let mut case = case(&[("a", true), ("b", true), ("c", true)]);
    case.plan(0, 3, &[&[]], 0);
    assert_eq!(case.plan(0, 3, &[&[]], 100).condemned.len(), 3);
    assert_eq!(case.plan(2, 3, &[&[]], 1000).scale, 3);
    let plan = case.plan(2, 3, &[&[]], 7100);
    assert_eq!((plan.scale, plan.reprieved.len()), (2, 2));
    // One that Kubernetes deletes is not waited for.
    case.change("c", |pod| pod.is_terminating = true);
    case.change("b", |pod| pod.is_terminating = true);
    assert_eq!(case.plan(2, 3, &[&[]], 8000).scale, 2);
}

#[test]
fn a_condemned_pod_that_is_being_deleted_never_serves_again() {
    let mut case = case(&[("a", true)]);
    case.plan(0, 1, &[&[]], 0);
    case.plan(0, 1, &[&[]], 2000);
    case.change("a", |pod| pod.is_terminating = true);
    assert!(case.plan(1, 1, &[&[]], 60_000).reprieved.is_empty());
    assert_eq!(case.drain.order().1, ["a"]);
    case.pods.remove("a");
    case.plan(1, 1, &[&[]], 60_001);
    assert!(case.drain.is_empty());
}

/// Its address may be another pod's by now.
#[test]
fn a_pod_that_is_gone_stays_ordered_while_an_activator_still_knows_it() {
    let mut case = case(&[("a", true)]);
    let held = [said("a", 0, true)];
    case.plan(0, 1, &[&held], 0);
    assert_eq!(case.plan(0, 1, &[&held, &held], 1000).condemned, ["a"]);
    case.pods.remove("a");
    case.plan(0, 0, &[&held, &[]], 2000);
    assert_eq!(case.drain.order().1, ["a"]);
    assert!(!case.drain.is_empty());
    assert!(case.plan(0, 0, &[&[], &[]], 3_600_000).is_reordered);
    assert!(case.drain.order().1.is_empty() && case.drain.is_empty());
}

#[test]
fn a_pod_that_somebody_else_deleted_is_ordered_while_an_activator_still_knows_it() {
    let mut case = case(&[("a", true), ("b", true)]);
    let known = [said("a", 1, false), said("b", 0, false)];
    case.plan(2, 2, &[&known], 0);
    case.pods.remove("a");
    case.drain.lose("a", 2, |uid| known.iter().any(|pod| &*pod.uid == uid));
    case.plan(2, 2, &[&known], 100);
    assert_eq!(case.drain.order().1, ["a"]);
    case.plan(2, 2, &[&known[1..]], 200);
    assert!(case.drain.order().1.is_empty());
}

/// A list after an outage may miss thousands of pods at once, and there is one loop for all.
#[test]
fn many_pods_that_are_gone_are_each_looked_at_a_few_times() {
    let looks = std::cell::Cell::new(0);
    let mut drain = Drain::default();
    let lose = |drain: &mut Drain, range: std::ops::Range<u32>| {
        for pod in range.clone() {
            drain.lose(&pod.to_string(), range.len(), |uid| {
                looks.set(looks.get() + 1);
                range.contains(&uid.parse().unwrap())
            });
        }
    };
    lose(&mut drain, 0..5_000);
    // The next reports name others: what is kept has the bound of the newest ones.
    lose(&mut drain, 5_000..10_000);
    assert_eq!(drain.sizes(), (0, 5_000));
    assert!(looks.get() <= 20_000, "{}", looks.get());
}

/// The leader that gave the order is no more, and so is the pod.
#[test]
fn a_drain_of_an_earlier_leader_is_kept_up_for_a_pod_that_is_gone() {
    let mut case = case(&[("b", true), ("c", true)]);
    let known = [said("a", 0, true), said("b", 0, false), said("c", 0, false)];
    case.plan(1, 2, &[&known], 0);
    assert_eq!(case.drain.order().1, ["a", "b"]);
}

#[test]
fn replicas_that_do_not_exist_are_given_up_at_once() {
    let mut case = case(&[("a", true)]);
    let busy = [said("a", 9, false)];
    assert_eq!(case.plan(1, 5, &[&busy], 0).scale, 1);
    assert!(case.drain.is_empty());
}

/// A pod that was only marked when its autoscaler ended is told from one that is about to be
/// deleted.
#[test]
fn a_mark_is_stale_once_no_more_pods_stand_than_are_asked_for() {
    let mut case = case(&[("a", true), ("b", true), ("c", true)]);
    case.change("b", |pod| pod.is_marked = true);
    // The lower scale was written: the marked one gets no request until it is gone.
    case.plan(2, 2, &[&[]], 0);
    assert_eq!(case.drain.order().1, ["b"]);
    assert!(case.drain.mismarked(2, &case.pods).is_empty());
    // The lower scale was not written: there is only the mark.
    let mut case = Case { drain: Drain::default(), ..case };
    case.plan(3, 3, &[&[]], 0);
    assert!(case.drain.is_empty());
    let stale: Vec<_> = case.drain.mismarked(3, &case.pods).iter().map(|pod| &*pod.uid).collect();
    assert_eq!(stale, ["b"]);
}
