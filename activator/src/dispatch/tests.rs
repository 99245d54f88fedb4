//! The invariants of dispatching, under every order of events that proptest can think of.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Arrive,
    Finish(usize),
    Cancel(usize),
    Open(usize),
    ComeBack(usize),
    Pod { uid: u8, ready: bool, drained: bool },
    Gone(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Arrive),
        3 => any::<usize>().prop_map(Step::Finish),
        1 => any::<usize>().prop_map(Step::Cancel),
        3 => any::<usize>().prop_map(Step::Open),
        1 => any::<usize>().prop_map(Step::ComeBack),
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
    running: Vec<(u64, Ticket, Slot)>,
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
            let Some((request, slot, _)) = self.core.next(random) else {
                break;
            };
            let (oldest, ticket) = self.waiting.pop_front().unwrap();
            assert_eq!(oldest, request, "served out of order");
            self.running.push((request, ticket, slot));
        }
    }

    fn arrive(&mut self) {
        let request = self.arrived;
        self.arrived += 1;
        let ticket = self.core.ticket();
        let random = self.roll();
        if let Some((slot, _)) = self.core.start(random) {
            self.running.push((request, ticket, slot));
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
                let (request, _, slot) = self.running.swap_remove(at);
                self.core.release(slot);
                self.settle(request, "done");
            }
            Step::Cancel(which) if !self.waiting.is_empty() => {
                let at = which % self.waiting.len();
                let (request, ticket) = self.waiting.remove(at).unwrap();
                assert!(self.core.cancel(ticket));
                self.settle(request, "cancelled");
            }
            Step::Open(which) if !self.running.is_empty() => {
                let at = which % self.running.len();
                self.core.opened(&mut self.running[at].2);
            }
            // The pod refused the request, which gets its old place back.
            Step::ComeBack(which) if !self.running.is_empty() => {
                let at = which % self.running.len();
                let (request, ticket, slot) = self.running.swap_remove(at);
                self.core.release(slot);
                self.core.wait_again(ticket, request, 1);
                let place = self.waiting.partition_point(|(_, other)| *other < ticket);
                self.waiting.insert(place, (request, ticket));
            }
            Step::Pod { uid, ready, drained } => {
                let name: PodUid = uid.to_string().into();
                self.core.set_pod(&name, *uid, *ready, *drained);
            }
            Step::Gone(uid) => self.core.remove_pod(&uid.to_string()),
            Step::Finish(_) | Step::Cancel(_) | Step::Open(_) | Step::ComeBack(_) => {}
        }
        self.pump();
    }

    fn check(&self) {
        let mut free = false;
        for (view, at) in self.core.pods().map(|view| (view, self.core.known[view.uid])) {
            let open = view.ready && !view.drained && self.core.accepts(at);
            free |= open && self.limit.is_none_or(|limit| view.in_flight < limit);
            if let Some(limit) = self.limit {
                assert!(view.in_flight <= limit, "{view:?} above its limit");
            }
        }
        assert!(!free || self.waiting.is_empty(), "somebody waits while a slot is free");
        let open = self.core.pods().filter(|view| view.ready && !view.drained).count();
        assert_eq!(self.core.open_pods(), open);
        let below = |view: &PodView<'_, u8>| self.limit.is_some_and(|l| view.in_flight < l);
        let open = self.core.pods().filter(|view| view.ready && !view.drained && below(view));
        assert_eq!(self.core.free.len(), open.count());
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
        // However it went, one good pod is enough to serve the requests that are left.
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

/// A backlog is sent to a new pod as fast as it takes connections, and no faster.
#[test]
fn a_pod_gets_more_of_the_queue_as_it_accepts_what_it_got() {
    let mut core: Dispatch<u32, u8> = Dispatch::new(QueueLimits::default());
    for request in 0..1000 {
        let ticket = core.ticket();
        core.wait(ticket, request, 1).unwrap();
    }
    core.set_pod(&"a".into(), 0, true, false);
    let take = |core: &mut Dispatch<u32, u8>| -> Vec<Slot> {
        std::iter::from_fn(|| core.next(7)).map(|(_, slot, _)| slot).collect()
    };
    let mut slots = take(&mut core);
    assert_eq!(slots.len(), 8, "no answer yet");
    // What a second pod can take is not lost to the first.
    core.set_pod(&"b".into(), 1, true, false);
    assert_eq!(take(&mut core).len(), 8);
    for sent in [16, 32, 64, 128, 128] {
        for slot in &mut slots {
            assert!(core.opened(slot));
            assert!(!core.opened(slot), "counted twice");
        }
        slots = take(&mut core);
        assert_eq!(slots.len(), sent);
    }
    for slot in slots {
        core.release(slot);
    }
    assert_eq!(take(&mut core).len(), 128, "what came back counts no more");
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
