//! What the last replica is told, and when.

mod broken;

use std::time::Duration;

use ebb_api::report::RevisionKey;
use ebb_api::standby::Standby;

use super::*;

struct Case {
    rest: LastReplica,
    standby: Standby,
    pods: Pods,
    want: u32,
    needed: Option<u32>,
    current: u32,
    max: u32,
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
        needed: None,
        current: 1,
        max: 10,
        is_wanted: false,
        is_known: true,
        may_rest: true,
        now: Instant::now(),
    }
}

impl Case {
    /// The scale, whether a pod rests, and the call.
    fn follow(&mut self) -> (u32, bool, Option<StandbyOrder>) {
        let plan = self.plan();
        (plan.want, plan.rests.is_some(), plan.call.map(|(_, order)| order))
    }

    fn goes(&mut self) -> Option<Arc<str>> {
        self.plan().goes
    }

    fn plan(&mut self) -> RestPlan {
        self.rest.follow(&RestScene {
            want: self.want,
            needed: self.needed.unwrap_or(self.want),
            current: self.current,
            max: self.max,
            is_wanted: self.is_wanted,
            is_known: self.is_known,
            standby: Some(&self.standby),
            may_rest: self.may_rest,
            pods: &self.pods,
            now: self.now,
        })
    }

    fn answer(&mut self, order: StandbyOrder, is_done: bool) -> bool {
        let failed = StandbyOutcome::Failed("status 404".into());
        self.come_of(order, if is_done { StandbyOutcome::Done } else { failed })
    }

    fn come_of(&mut self, order: StandbyOrder, outcome: StandbyOutcome) -> bool {
        let key = RevisionKey::new("models", "m").into();
        let answer = StandbyAnswer { key, uid: "a".into(), order, outcome };
        self.rest.answered(&answer, self.now)
    }

    fn mark(&mut self, is_asleep: bool) {
        let asleep_since = is_asleep.then_some(self.now);
        self.pods.insert(RevisionPod { is_asleep, asleep_since, ..pod("a") });
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
    assert_eq!(case.follow(), (1, false, None), "a new mark would be removed as well");
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
    assert_eq!(case.follow(), (1, true, Some(StandbyOrder::Stay)));
    assert_eq!(case.follow(), (1, true, None), "it is said once");
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
    case.follow();
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
    assert_eq!(
        case.follow(),
        (2, true, None),
        "nothing is lowered blindly, but another one starts"
    );
    (case.want, case.needed, case.current) = (2, Some(1), 2);
    assert_eq!(case.follow(), (2, true, None), "the scale that is held is not the load");
    (case.want, case.needed, case.current, case.max) = (1, None, 1, 1);
    assert_eq!(case.follow(), (1, true, None), "within its bounds");
    case.max = 10;
    case.ask(false);
    assert_eq!(case.follow(), (1, true, None));
    case.ask(true);
    case.is_known = true;
    case.pods.insert(RevisionPod { is_terminating: true, ..pod("a") });
    assert_eq!(case.follow(), (1, false, None));
    case.pods = Pods::default();
    case.follow();
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
    case.pods.insert(RevisionPod { is_ready: false, ..pod("b") });
    assert_eq!(case.follow(), (0, false, None), "neither does");
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
    case.current = 1;
    assert_eq!(case.follow(), (1, false, None), "one of them will end");
    case.now += CROWDED_FOR;
    assert_eq!(case.follow(), (0, false, None), "it is somebody else's");
    case.pods.insert(RevisionPod { is_ready: false, ..pod("b") });
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

/// The API server's fault is not the model's.
#[test]
fn a_pod_without_a_mark_serves_on_and_is_tried_again() {
    let mut case = case();
    let mut pauses = Vec::new();
    for _ in 0..6 {
        assert_eq!(case.follow(), (1, true, None));
        assert!(case.rest.settle().is_some());
        assert!(!case.come_of(StandbyOrder::Sleep, StandbyOutcome::NotTold), "nobody is told");
        let begin = case.now;
        while case.follow() == (1, false, None) {
            case.now += Duration::from_secs(1);
        }
        pauses.push((case.now - begin).as_secs());
    }
    assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
    case.ask(true);
    assert_eq!(case.follow(), (1, false, None));
    case.ask(false);
    assert_eq!(case.follow(), (1, true, None), "each silence begins anew");
    case.rest.settle();
    case.come_of(StandbyOrder::Sleep, StandbyOutcome::NotTold);
    case.now += Duration::from_hours(1);
    assert_eq!(case.follow(), (0, false, None), "it would not have slept for longer");
    assert_eq!(case.follow(), (0, false, None));
}

#[test]
fn a_pod_that_was_not_told_yet_serves_the_request_that_came() {
    let mut case = case();
    case.follow();
    case.rest.settle();
    case.ask(true);
    assert_eq!(case.follow(), (1, true, Some(StandbyOrder::Stay)));
    assert!(!case.come_of(StandbyOrder::Sleep, StandbyOutcome::NotTold));
    assert_eq!(case.follow(), (1, false, None));
    // The write that was given up came through.
    case.mark(true);
    assert_eq!(case.follow(), (1, false, None));
    assert_eq!(case.rest.called().map(|uid| &**uid), Some("a"), "activators may see the mark");
    assert_eq!(case.rest.unmark(&case.pods), Some(("a".into(), StandbyOrder::Unmark)));
    case.answer(StandbyOrder::Unmark, true);
    case.mark(false);
    case.ask(false);
    case.follow();
    assert!(case.rest.settle().is_some(), "the next silence begins with no pause");
    assert_eq!(case.rest.called(), None);
}

/// A watch may lag for as long as it likes.
#[test]
fn what_was_told_to_sleep_is_woken_although_no_mark_is_seen() {
    let mut case = case().asleep();
    case.now += Duration::from_hours(1);
    assert_eq!(case.follow(), (0, false, None));
    case.ask(true);
    assert_eq!(case.follow(), (1, true, Some(StandbyOrder::Wake)));
    case.answer(StandbyOrder::Wake, true);
    assert_eq!(case.follow(), (1, false, None));
    case.mark(true);
    assert_eq!(case.follow(), (1, false, None), "of before it was woken");
}

/// Whether the call of an earlier leader arrived is not known.
#[test]
fn a_marked_pod_is_told_to_sleep_again_and_sleeps_no_longer_for_it() {
    let mut case = case();
    case.mark(true);
    case.now += Duration::from_mins(50);
    assert_eq!(case.follow(), (1, true, None));
    assert_eq!(case.rest.settle(), Some(("a".into(), StandbyOrder::SleepAgain)));
    case.answer(StandbyOrder::SleepAgain, true);
    assert_eq!(case.follow(), (1, true, None));
    assert_eq!(case.rest.settle(), None, "once");
    case.now += Duration::from_mins(9);
    assert_eq!(case.follow(), (1, true, None));
    case.now += Duration::from_mins(1);
    assert_eq!(case.follow(), (0, false, None));
}

#[test]
fn a_marked_pod_that_is_not_told_again_is_woken_all_the_same() {
    let mut case = case();
    case.mark(true);
    case.follow();
    case.rest.settle();
    case.ask(true);
    assert_eq!(case.follow(), (1, true, Some(StandbyOrder::Stay)));
    case.come_of(StandbyOrder::SleepAgain, StandbyOutcome::NotTold);
    assert_eq!(case.follow(), (1, true, Some(StandbyOrder::Wake)));
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
    assert!(case.rest.unmark_unseen(&case.pods).is_some());
    case.pods = Pods::default();
    case.pods.insert(pod("a2"));
    case.ask(false);
    assert_eq!(case.follow(), (1, true, None), "the next one sleeps in its turn");
    assert!(case.rest.settle().is_some());
}
