//! What the last replica is told, and when.

use std::time::Duration;

use super::*;

struct Case {
    rest: LastReplica,
    standby: Standby,
    pods: Pods,
    want: u32,
    current: u32,
    is_wanted: bool,
    is_known: bool,
    may_rest: bool,
    now: Instant,
}

fn pod(uid: &str) -> RevisionPod {
    RevisionPod {
        uid: uid.into(),
        name: uid.into(),
        is_ready: true,
        address: Some(([127, 0, 0, 1], 8080).into()),
        ..RevisionPod::default()
    }
}

fn case() -> Case {
    let (sleep, wake) = ("/sleep".into(), "/wake_up".into());
    let mut pods = Pods::default();
    pods.insert(pod("a"));
    Case {
        rest: LastReplica::default(),
        standby: Standby { sleep, wake, lasts: Some(Duration::from_hours(1)) },
        pods,
        want: 0,
        current: 1,
        is_wanted: false,
        is_known: true,
        may_rest: true,
        now: Instant::now(),
    }
}

impl Case {
    /// The scale, whether a pod rests, and the call.
    fn follow(&mut self) -> (u32, bool, Option<StandbyOrder>) {
        let plan = self.rest.follow(&RestScene {
            want: self.want,
            current: self.current,
            is_wanted: self.is_wanted,
            is_known: self.is_known,
            standby: Some(&self.standby),
            may_rest: self.may_rest,
            pods: &self.pods,
            now: self.now,
        });
        (plan.want, plan.rests.is_some(), plan.call.map(|(_, order)| order))
    }

    fn answer(&mut self, order: StandbyOrder, is_done: bool) -> bool {
        let failure = (!is_done).then(|| "status 404".into());
        let key = RevisionKey::new("models", "m").into();
        let answer = StandbyAnswer { key, uid: "a".into(), order, failure };
        self.rest.answered(&answer, self.now)
    }

    /// A case whose pod sleeps.
    fn asleep(mut self) -> Self {
        assert_eq!(self.follow(), (1, true, None));
        let told = self.rest.settle();
        assert_eq!(told, Some(("a".into(), StandbyOrder::Sleep)));
        assert_eq!(self.follow(), (1, true, None), "it has not answered");
        assert!(!self.answer(StandbyOrder::Sleep, true));
        assert_eq!(self.follow(), (1, true, None));
        assert!(self.rest.is_asleep("a"));
        self
    }

    fn ask(&mut self, is_wanted: bool) {
        (self.is_wanted, self.want) = (is_wanted, u32::from(is_wanted));
    }
}

#[test]
fn at_silence_the_last_pod_is_drained_then_told_to_sleep_and_woken_for_a_request() {
    let mut case = case().asleep();
    case.ask(true);
    assert_eq!(case.follow(), (1, true, Some(StandbyOrder::Wake)));
    assert_eq!(case.follow(), (1, true, None), "it is told once");
    case.pods.insert(RevisionPod { is_asleep: true, ..pod("a") });
    assert!(!case.answer(StandbyOrder::Wake, true));
    assert_eq!(case.follow(), (1, false, None), "it serves, whatever its mark says");
    assert_eq!(case.rest.unmark(&case.pods), Some(("a".into(), StandbyOrder::Unmark)));
    assert_eq!(case.rest.unmark(&case.pods), None, "once at a time");
    case.ask(false);
    assert_eq!(case.follow(), (0, false, None), "a new mark would be removed as well");
    assert!(!case.answer(StandbyOrder::Unmark, true));
    case.pods.insert(pod("a"));
    case.asleep();
}

#[test]
fn a_request_that_comes_while_it_is_drained_takes_it_back() {
    let mut case = case();
    assert_eq!(case.follow(), (1, true, None));
    case.ask(true);
    assert_eq!(case.follow(), (1, false, None));
    assert_eq!(case.rest.settle(), None);
}

#[test]
fn one_that_comes_while_it_falls_asleep_wakes_it_afterwards() {
    let mut case = case();
    case.follow();
    case.rest.settle();
    case.ask(true);
    assert_eq!(case.follow(), (1, true, None));
    case.answer(StandbyOrder::Sleep, true);
    assert_eq!(case.follow(), (1, true, Some(StandbyOrder::Wake)));
}

#[test]
fn after_its_time_it_goes_and_nothing_sleeps_until_a_request_has_come() {
    let mut case = case().asleep();
    case.pods.insert(RevisionPod { is_asleep: true, ..pod("a") });
    case.now += Duration::from_hours(1);
    assert_eq!(case.follow(), (0, false, None));
    assert_eq!(case.follow(), (0, false, None), "its mark does not keep it");
    case.pods.insert(RevisionPod { is_terminating: true, ..pod("a") });
    case.pods.insert(pod("b"));
    assert_eq!(case.follow(), (0, false, None), "the next one would sleep for nothing");
    case.pods.insert(RevisionPod { is_asleep: true, ..pod("a") });
    case.pods.remove("b");
    case.current = 0;
    assert_eq!(case.follow(), (0, false, None), "nor is it kept once the scale is lowered");
    case.current = 1;
    case.standby.lasts = None;
    case.pods = Pods::default();
    case.pods.insert(pod("a"));
    case.ask(true);
    case.follow();
    case.ask(false);
    let mut case = case.asleep();
    case.now += Duration::from_hours(1000);
    assert_eq!(case.follow(), (1, true, None), "for ever");
}

#[test]
fn what_does_not_do_as_it_is_told_is_stopped_and_no_request_is_sent_there() {
    let mut case = case();
    case.follow();
    case.rest.settle();
    assert!(case.answer(StandbyOrder::Sleep, false), "people are told");
    assert_eq!(case.follow(), (0, false, None));
    case.ask(true);
    assert_eq!(case.follow(), (0, false, None), "another one starts once it is gone");
    case.is_known = false;
    assert_eq!(case.follow(), (1, true, None), "nothing is lowered blindly");
    case.is_known = true;
    case.pods.insert(RevisionPod { is_terminating: true, ..pod("a") });
    assert_eq!(case.follow(), (1, false, None));
    case.pods = Pods::default();
    case.pods.insert(pod("a"));
    case.ask(false);
    let mut case = case.asleep();
    case.ask(true);
    case.follow();
    assert!(case.answer(StandbyOrder::Wake, false));
    assert_eq!(case.follow(), (0, false, None));
}

#[test]
fn a_mark_tells_the_next_leader_that_it_sleeps() {
    let mut case = case();
    case.pods.insert(RevisionPod { is_asleep: true, ..pod("a") });
    // Its activity is not known yet, so that it would keep its replica.
    case.want = 1;
    assert_eq!(case.follow(), (1, true, None));
    case.ask(true);
    assert_eq!(case.follow(), (1, true, Some(StandbyOrder::Wake)));
}

#[test]
fn only_a_ready_pod_that_is_alone_sleeps() {
    let mut case = case();
    case.pods.insert(RevisionPod { is_ready: false, ..pod("a") });
    assert_eq!(case.follow(), (0, false, None), "it does not serve");
    case.pods.insert(pod("a"));
    case.pods.insert(pod("b"));
    case.current = 2;
    assert_eq!(case.follow(), (1, false, None), "one of them goes first");
    case.may_rest = false;
    assert_eq!(
        case.follow(),
        (0, false, None),
        "nobody can send requests, or others need its room"
    );
    case.may_rest = true;
    case.pods.remove("b");
    case.current = 1;
    let mut case = case.asleep();
    case.may_rest = false;
    assert_eq!(case.follow(), (0, false, None));
}

#[test]
fn a_pod_that_is_lost_in_its_sleep_is_not_replaced() {
    let mut case = case().asleep();
    case.pods.insert(RevisionPod { is_terminating: true, ..pod("a") });
    case.pods.insert(pod("b"));
    assert_eq!(case.follow(), (0, false, None));
    case.ask(true);
    assert_eq!(case.follow(), (1, false, None));
}

/// The scale may be lowered already, or not.
#[test]
fn one_that_is_about_to_go_is_woken_before_it_serves_again() {
    for current in [1, 0] {
        let mut case = case().asleep();
        case.pods.insert(RevisionPod { is_asleep: true, ..pod("a") });
        case.now += Duration::from_hours(1);
        assert_eq!(case.follow(), (0, false, None));
        case.current = current;
        assert_eq!(case.follow(), (0, false, None));
        case.ask(true);
        assert_eq!(case.follow(), (1, true, Some(StandbyOrder::Wake)), "{current}");
    }
}

#[test]
fn those_that_serve_stay_beside_one_that_does_not_wake() {
    let mut case = case().asleep();
    (case.is_wanted, case.want) = (true, 3);
    case.follow();
    case.current = 3;
    case.pods.insert(pod("b"));
    assert_eq!(case.follow(), (3, true, None));
    case.answer(StandbyOrder::Wake, false);
    assert_eq!(case.follow(), (4, true, None), "it counts for nothing");
    case.want = 1;
    assert_eq!(case.follow(), (2, true, None));
    case.ask(false);
    assert_eq!(case.follow(), (0, false, None));
}

/// Others need its room, or its Route is gone, while a call is under way.
#[test]
fn what_was_called_goes_only_once_it_has_answered() {
    let mut case = case();
    case.follow();
    case.rest.settle();
    case.may_rest = false;
    assert_eq!(case.follow(), (1, true, None));
    case.answer(StandbyOrder::Sleep, true);
    assert_eq!(case.follow(), (0, false, None));
}

#[test]
fn a_pod_that_is_gone_needs_no_mark_removed() {
    let mut case = case().asleep();
    case.ask(true);
    case.follow();
    case.answer(StandbyOrder::Wake, true);
    assert!(case.rest.unmark(&case.pods).is_some());
    case.pods = Pods::default();
    case.pods.insert(pod("a2"));
    case.ask(false);
    assert_eq!(case.follow(), (1, true, None), "the next one sleeps in its turn");
    assert!(case.rest.settle().is_some());
}
