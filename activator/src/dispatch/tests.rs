//! The invariants of dispatching, under every order of events that proptest can think of.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Arrive,
    Finish(usize),
    Cancel(usize),
    Pod { uid: u8, ready: bool, drained: bool },
    Gone(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Arrive),
        3 => any::<usize>().prop_map(Step::Finish),
        1 => any::<usize>().prop_map(Step::Cancel),
        2 => (0_u8..4, any::<bool>(), any::<bool>())
            .prop_map(|(uid, ready, drained)| Step::Pod { uid, ready, drained }),
        1 => (0_u8..4).prop_map(Step::Gone),
    ]
}

/// Drives the core as the shell does, and remembers what became of each request.
struct Driver {
    core: Dispatch<u64, u8>,
    limit: Option<u32>,
    arrived: u64,
    waiting: VecDeque<(u64, Ticket)>,
    running: Vec<(u64, Slot, u8)>,
    outcomes: BTreeMap<u64, &'static str>,
    random: u64,
}

impl Driver {
    fn new(limit: Option<u32>) -> Self {
        let mut core = Dispatch::new(QueueLimits { requests: 8, bytes: usize::MAX });
        core.set_limit(limit.and_then(NonZeroU32::new));
        Self {
            core,
            limit,
            arrived: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            outcomes: BTreeMap::new(),
            random: 1,
        }
    }

    fn roll(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.random
    }

    fn settle(&mut self, request: u64, outcome: &'static str) {
        assert_eq!(self.outcomes.insert(request, outcome), None, "two outcomes for {request}");
    }

    fn pump(&mut self) {
        loop {
            let random = self.roll();
            let Some((request, slot, pod)) = self.core.next(random) else {
                break;
            };
            let oldest = self.waiting.pop_front().map(|(request, _)| request);
            assert_eq!(oldest, Some(request), "served out of order");
            self.running.push((request, slot, pod));
        }
    }

    fn arrive(&mut self) {
        let request = self.arrived;
        self.arrived += 1;
        let ticket = self.core.ticket();
        let random = self.roll();
        if let Some((slot, pod)) = self.core.start(random) {
            self.running.push((request, slot, pod));
        } else if self.core.wait(ticket, request, 1).is_ok() {
            self.waiting.push_back((request, ticket));
        } else {
            self.settle(request, "refused");
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Arrive => self.arrive(),
            Step::Finish(which) if !self.running.is_empty() => {
                let at = which % self.running.len();
                let (request, slot, _) = self.running.swap_remove(at);
                self.core.release(slot);
                self.settle(request, "done");
            }
            Step::Cancel(which) if !self.waiting.is_empty() => {
                let at = which % self.waiting.len();
                let (request, ticket) = self.waiting.remove(at).unwrap();
                assert!(self.core.cancel(ticket));
                self.settle(request, "cancelled");
            }
            Step::Pod { uid, ready, drained } => {
                let name: PodUid = uid.to_string().into();
                self.core.set_pod(&name, *uid, *ready, *drained);
            }
            Step::Gone(uid) => self.core.remove_pod(&uid.to_string()),
            Step::Finish(_) | Step::Cancel(_) => {}
        }
        self.pump();
    }

    fn check(&self) {
        let mut free = false;
        for view in self.core.pods() {
            let open = view.ready && !view.drained;
            free |= open && self.limit.is_none_or(|limit| view.in_flight < limit);
            if let Some(limit) = self.limit {
                assert!(view.in_flight <= limit, "{view:?} above its limit");
            }
        }
        assert!(!free || self.waiting.is_empty(), "somebody waits while a slot is free");
        assert_eq!(self.core.queued(), self.waiting.len());
        let settled = self.outcomes.len() + self.running.len() + self.waiting.len();
        assert_eq!(u64::try_from(settled).unwrap(), self.arrived, "a request was lost");
    }
}

proptest! {
    #[test]
    fn limits_order_and_outcomes_hold_whatever_happens(
        limit in proptest::option::of(1_u32..4),
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut driver = Driver::new(limit);
        for step in &steps {
            driver.run(step);
            driver.check();
        }
        // However it went, one good pod is enough to serve everybody who is left.
        let last: PodUid = "last".into();
        driver.core.set_pod(&last, 9, true, false);
        driver.pump();
        while !driver.running.is_empty() {
            driver.run(&Step::Finish(0));
            driver.check();
        }
        prop_assert!(driver.waiting.is_empty());
    }
}

#[test]
fn a_limit_sends_to_the_least_loaded() {
    let mut core: Dispatch<(), u8> = Dispatch::new(QueueLimits::default());
    core.set_limit(NonZeroU32::new(2));
    core.set_pod(&"a".into(), 0, true, false);
    core.set_pod(&"b".into(), 1, true, false);
    for random in [3, 11, 5] {
        let (_a, first) = core.start(random).unwrap();
        let (_b, second) = core.start(random).unwrap();
        assert_ne!(first, second, "two in a row go to two pods");
        if random == 11 {
            break;
        }
    }
    assert!(core.start(0).is_none(), "both are full");
}

#[test]
fn without_a_limit_a_ready_pod_takes_everything_at_once() {
    let mut core: Dispatch<(), u8> = Dispatch::new(QueueLimits::default());
    assert!(core.start(0).is_none());
    core.set_pod(&"a".into(), 0, true, false);
    for random in 0..1000 {
        assert!(core.start(random).is_some());
    }
}

#[test]
fn two_choices_are_two_different_pods() {
    for count in 2..6 {
        for random in 0..1000_u64 {
            let [first, second] = two_of(count, random.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert_ne!(first, second);
            assert!(first < count && second < count);
        }
    }
}
