//! Who goes for whom.

use ebb_api::pod::{Amounts, MEMORY};

use super::*;

const GIB: u64 = 1 << 30;
const GPU: &str = "nvidia.com/gpu";

/// A pod that holds something.
#[derive(Clone)]
struct Pod {
    uid: Arc<str>,
    revision: Arc<RevisionKey>,
    node: &'static str,
    amounts: Amounts,
    is_ending: bool,
    ready_s: u64,
    is_idle: bool,
    is_asleep: bool,
}

struct Stage {
    room: Room,
    rules: AutoscalerConfig,
    start: Instant,
    pods: Vec<Pod>,
    tenants: BTreeMap<Arc<RevisionKey>, Tenant>,
    waiting: Vec<Waiting>,
    may_choose: bool,
}

fn key(name: &str) -> Arc<RevisionKey> {
    Arc::new(RevisionKey::new("models", name))
}

fn amounts(resource: &str, amount: u64) -> Amounts {
    Amounts([(resource.to_owned(), amount)].into())
}

fn stage() -> Stage {
    Stage {
        room: Room::default(),
        rules: AutoscalerConfig {
            make_room_for: ebb_api::room_for::RoomFor::all(),
            ..AutoscalerConfig::default()
        },
        start: Instant::now(),
        pods: Vec::new(),
        tenants: BTreeMap::new(),
        waiting: Vec::new(),
        may_choose: true,
    }
}

impl Stage {
    /// An idle replica of a model of its own that has been ready for an hour; last used in that
    /// second.
    fn runs(mut self, name: &str, amounts: Amounts, used_s: u64) -> Self {
        let used = Some(self.start + Duration::from_secs(used_s));
        let start = Some(Duration::from_secs(10));
        self.tenants.insert(key(name), Tenant { scale: 1, used, start, ..Tenant::default() });
        self.pods.push(Pod {
            uid: name.into(),
            revision: key(name),
            node: "one",
            amounts,
            is_ending: false,
            ready_s: 3600,
            is_idle: true,
            is_asleep: false,
        });
        self
    }

    fn waits(mut self, name: &str, resource: &str, amount: u64, is_lack: bool) -> Self {
        self.waiting.push(Waiting {
            uid: name.into(),
            revision: key(name),
            priority: 0,
            is_wake: true,
            is_wanted: true,
            needs: vec![Need { resource: resource.to_owned(), amount, is_lack }],
        });
        self
    }

    fn pod(&mut self, name: &str) -> &mut Pod {
        self.pods.iter_mut().find(|pod| &*pod.uid == name).unwrap()
    }

    fn tenant(&mut self, name: &str) -> &mut Tenant {
        self.tenants.get_mut(&key(name)).unwrap()
    }

    /// The revisions that are held down at that second, and to how many replicas.
    fn plan(&mut self, second: u64) -> Vec<(String, u32)> {
        let holders = self.pods.iter().map(|pod| Holder {
            revision: Arc::clone(&pod.revision),
            uid: &pod.uid,
            node: pod.node,
            amounts: &pod.amounts,
            is_ending: pod.is_ending,
            ready_for: (pod.ready_s > 0).then(|| Duration::from_secs(pod.ready_s)),
            is_idle: pod.is_idle,
            is_asleep: pod.is_asleep,
        });
        let scene = RoomScene {
            waiting: self.waiting.clone(),
            holders: holders.collect(),
            tenants: self.tenants.clone(),
            may_choose: self.may_choose,
        };
        let now = self.start + Duration::from_secs(second);
        let cessions = self.room.plan(&scene, &self.rules, now);
        cessions.into_iter().map(|(key, cession)| (key.name.clone(), cession.cap)).collect()
    }

    fn names(&mut self, second: u64) -> Vec<String> {
        self.plan(second).into_iter().map(|(name, _)| name).collect()
    }
}

#[test]
fn the_least_recently_used_goes_among_equals() {
    let memory = || amounts(MEMORY, 2 * GIB);
    let stage = stage().runs("a", memory(), 30).runs("b", memory(), 10).runs("c", memory(), 20);
    let mut stage = stage.waits("new", MEMORY, GIB, true);
    assert_eq!(stage.plan(40), [("b".to_owned(), 0)]);
    assert_eq!(stage.plan(41), [("b".to_owned(), 0)], "no second one while the first one goes");
    assert_eq!(stage.room.let_go(), 1);
}

#[test]
fn a_slow_start_keeps_a_model_and_a_large_size_does_not() {
    let fill = |name: &str| {
        let memory = || amounts(MEMORY, 2 * GIB);
        let mut stage = stage().runs("a", memory(), 10).runs("b", memory(), 20);
        match name {
            "slow" => stage.tenant("a").start = Some(Duration::from_mins(1)),
            _ => stage.pod("b").amounts = amounts(MEMORY, 20 * GIB),
        }
        stage.waits("new", MEMORY, GIB, true).names(40)
    };
    assert_eq!((fill("slow"), fill("large")), (vec!["b".to_owned()], vec!["b".to_owned()]));
}

/// What was let go sets the clock, so that a model of much worth does not stay for ever unused.
#[test]
fn the_clock_ages_what_is_not_used() {
    let memory = || amounts(MEMORY, GIB);
    let mut stage = stage().runs("slow", memory(), 0).runs("quick", memory(), 0);
    stage.tenant("slow").start = Some(Duration::from_secs(35));
    for round in 0..10 {
        let now = 100 + 20 * round;
        let clock = stage.room.clock();
        *stage.tenant("quick") = Tenant {
            level: clock,
            used: Some(stage.start + Duration::from_secs(now)),
            ..*stage.tenant("quick")
        };
        let mut stage_now = stage.waits("new", MEMORY, GIB, true);
        let gone = stage_now.names(now);
        stage_now.waiting.clear();
        assert_eq!(stage_now.names(now + 1), [""; 0], "who is served holds nobody down");
        stage = stage_now;
        if gone == ["slow"] {
            assert_eq!(round, 3, "worth 35, after three that were worth ten more each");
            return;
        }
        assert_eq!(gone, ["quick"]);
    }
    panic!("the slow one never went");
}

#[test]
fn nobody_goes_that_is_young_in_use_pressed_or_kept() {
    let none: [&str; 0] = [];
    let case = |change: fn(&mut Stage)| {
        let mut stage = stage().runs("a", amounts(GPU, 1), 0).waits("new", GPU, 1, false);
        change(&mut stage);
        stage.names(10)
    };
    assert_eq!(case(|_| {}), ["a"]);
    assert_eq!(case(|stage| stage.pod("a").ready_s = 9), none, "it is too young");
    assert_eq!(case(|stage| stage.pod("a").ready_s = 0), none, "it is not ready");
    assert_eq!(case(|stage| stage.pod("a").is_idle = false), none);
    assert_eq!(case(|stage| stage.tenant("a").is_pressed = true), none);
    assert_eq!(case(|stage| stage.tenant("a").floor = 1), none, "its min-scale");
    assert_eq!(case(|stage| stage.tenant("a").priority = 1), none, "it goes before the other");
    assert_eq!(case(|stage| stage.may_choose = false), none, "not all activators are heard");
    assert_eq!(case(|stage| stage.rules.make_room_for = "memory".parse().unwrap()), none);
    assert_eq!(case(|stage| stage.waiting[0].needs[0].amount = 2), none, "it would not be enough");
    assert_eq!(case(|stage| stage.waiting[0].revision = key("a")), none, "it is its own");
}

/// A model that has waited for a turn takes the place of one that is never idle; more replicas of one
/// that runs do not.
#[test]
fn after_a_turn_one_in_use_goes_for_a_model_that_has_no_pod() {
    let mut stage = stage().runs("a", amounts(GPU, 1), 0).waits("new", GPU, 1, false);
    stage.pod("a").is_idle = false;
    assert_eq!((stage.names(0).len(), stage.names(29).len()), (0, 0));
    stage.waiting[0].is_wake = false;
    assert_eq!(stage.names(30).len(), 0);
    stage.waiting[0].is_wake = true;
    stage.pod("a").ready_s = 29;
    assert_eq!(stage.names(61).len(), 0, "it has not had a turn itself");
    stage.pod("a").ready_s = 30;
    stage.rules.make_room_turn = Duration::ZERO;
    assert_eq!(stage.names(62).len(), 0, "turns are switched off");
    stage.rules.make_room_turn = Duration::from_secs(30);
    assert_eq!(stage.names(63), ["a"]);
}

/// A model that starts slowly stays longer, or it would spend its time on starts.
#[test]
fn a_replica_stays_as_long_as_its_start_took_and_three_times_that_in_use() {
    let goes = |start_s: Option<u64>, is_idle: bool| {
        let mut stage = stage().runs("a", amounts(GPU, 1), 0).waits("new", GPU, 1, false);
        stage.tenant("a").start = start_s.map(Duration::from_secs);
        stage.pod("a").is_idle = is_idle;
        stage.pod("a").ready_s = 0;
        assert_eq!(stage.names(0), [""; 0]);
        let stays = |second: &u64| {
            stage.pod("a").ready_s = *second;
            stage.names(1000 + second).is_empty()
        };
        (1..1000).take_while(stays).last().unwrap_or(0) + 1
    };
    let idle = [Some(0), Some(40), Some(600), None].map(|start| goes(start, true));
    assert_eq!(idle, [2, 40, 60, 10]);
    let used = [Some(0), Some(40), Some(600), None].map(|start| goes(start, false));
    assert_eq!(used, [30, 120, 180, 30]);
}

#[test]
fn claims_are_served_in_their_order_and_the_first_holds_up_the_others() {
    let gpus = |amount| amounts(GPU, amount);
    let stage = stage().runs("a", gpus(1), 1).runs("b", gpus(1), 2).waits("large", GPU, 2, false);
    let mut stage = stage.waits("small", GPU, 1, false);
    stage.pod("b").is_idle = false;
    assert_eq!(
        stage.names(0),
        [""; 0],
        "one alone is not enough for the first, nor for the second"
    );
    stage.waiting[1].priority = 1;
    assert_eq!(stage.names(1), ["a"], "but for its priority");
    stage.pod("b").is_idle = true;
    stage.waiting.remove(1);
    assert_eq!(stage.names(2), ["a", "b"]);
}

/// What can never be served holds nobody up.
#[test]
fn a_claim_larger_than_all_there_is_holds_nobody_up() {
    let stage = stage().runs("a", amounts(GPU, 1), 1).waits("huge", GPU, 8, false);
    assert_eq!(stage.waits("small", GPU, 1, false).names(0), ["a"]);
}

#[test]
fn as_few_go_as_are_needed_and_on_one_node() {
    let gib = |amount| amounts(MEMORY, amount * GIB);
    let mut stage = stage().runs("a", gib(1), 1).runs("b", gib(4), 2).runs("c", gib(2), 3);
    stage.tenant("a").level = -20.0;
    let mut stage = stage.waits("new", MEMORY, 4 * GIB, true);
    assert_eq!(stage.names(10), ["b"], "the small one would not have helped");
    stage.pods.iter_mut().for_each(|pod| pod.node = "two");
    stage.pod("b").node = "one";
    stage.room = Room::default();
    stage.waiting[0].needs[0].amount = 3 * GIB;
    stage.tenant("b").level = 100.0;
    assert_eq!(stage.names(10), ["a", "c"], "the node where it costs least");
}

/// Requests for the model that went must not take the room that was made, and it is not held down for
/// ever.
#[test]
fn who_went_is_held_down_until_the_claim_is_served() {
    let ends = |served: bool| {
        let mut stage = stage().runs("a", amounts(GPU, 1), 0).waits("new", GPU, 1, false);
        assert_eq!(stage.names(0), ["a"]);
        stage.pod("a").is_ending = true;
        assert_eq!(stage.names(5), ["a"], "its pod ends");
        stage.pods.clear();
        assert_eq!(stage.names(9), ["a"], "the scheduler has not acted yet");
        if served {
            stage.waiting.clear();
        }
        let free = (9..60).find(|second| stage.names(*second).is_empty());
        free.unwrap()
    };
    assert_eq!((ends(true), ends(false)), (9, 39));
}

/// Kubernetes' scheduler takes seconds to see the room that was made.
#[test]
fn no_second_one_goes_before_the_scheduler_has_had_time() {
    for (is_lack, second) in [(false, 12), (true, 1)] {
        let stage = stage().runs("a", amounts(GPU, 1), 0).runs("b", amounts(GPU, 1), 1);
        let mut stage = stage.waits("new", GPU, 1, is_lack);
        assert_eq!(stage.names(0), ["a"]);
        stage.pods.remove(0);
        let again = (0..60).find(|second| stage.names(*second).contains(&"b".to_owned()));
        assert_eq!(again, Some(second), "{is_lack}");
    }
}

/// Two claims let two replicas of one revision go: its scale goes down by two.
#[test]
fn what_two_claims_take_of_one_revision_adds_up() {
    let mut stage = stage().runs("a", amounts(GPU, 1), 0).waits("one", GPU, 1, false);
    stage.tenant("a").scale = 2;
    let first = stage.pod("a");
    let second = Pod { uid: "a-2".into(), amounts: amounts(GPU, 1), ..first.clone() };
    stage.pods.push(second);
    let mut stage = stage.waits("two", GPU, 1, false);
    assert_eq!(stage.plan(0), [("a".to_owned(), 0)]);
    let mut late = Stage { room: Room::default(), ..stage };
    let second = late.waiting.pop().unwrap();
    assert_eq!(late.plan(0), [("a".to_owned(), 1)]);
    late.waiting.push(second);
    assert_eq!(late.plan(1), [("a".to_owned(), 0)], "the first one has not gone yet");
}

/// A stream that does not end keeps its model from other requests for a while only.
#[test]
fn a_pod_that_does_not_go_is_not_waited_for() {
    let mut stage = stage().runs("a", amounts(GPU, 1), 0).waits("new", GPU, 1, false);
    assert_eq!((stage.names(0), stage.names(119)), (vec!["a".to_owned()], vec!["a".to_owned()]));
    assert_eq!(stage.names(120), [""; 0]);
    let again = (121..400).find(|second| !stage.names(*second).is_empty());
    assert_eq!(again, Some(180), "and not tried again at once");
}

/// Room that helps nobody is made more and more rarely.
#[test]
fn what_went_in_vain_is_tried_again_later_and_later() {
    let mut stage = stage().runs("a", amounts(GPU, 1), 0).waits("new", GPU, 1, false);
    let mut begun = Vec::new();
    let mut was_held = false;
    for second in 0..1000 {
        let is_held = !stage.names(second).is_empty();
        if is_held && !was_held {
            begun.push(second);
            // It goes at once, and somebody else takes the room.
            stage.pods.clear();
        } else if was_held && !is_held {
            stage = stage.runs("a", amounts(GPU, 1), 0);
        }
        was_held = is_held;
    }
    let gaps: Vec<_> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() >= 2 && gaps[0] >= 90 && gaps[1] >= 150, "{begun:?}");
}

#[test]
fn no_room_is_made_for_a_pod_that_lacks_something_else_too_or_that_nobody_wants() {
    let mut stage = stage().runs("a", amounts(GPU, 1), 0).waits("new", GPU, 1, false);
    let cpu = Need { resource: "cpu".to_owned(), amount: 0, is_lack: false };
    stage.waiting[0].needs.push(cpu);
    assert_eq!(stage.names(0), [""; 0]);
    stage.waiting[0].needs.pop();
    stage.waiting[0].is_wanted = false;
    stage.pod("a").is_idle = false;
    assert_eq!(stage.plan(100), [("new".to_owned(), 0)], "its clients have left");
}

#[test]
fn pods_that_end_anyway_are_room_enough() {
    let mut stage = stage().runs("a", amounts(GPU, 1), 0).runs("b", amounts(GPU, 1), 1);
    stage.pod("b").is_ending = true;
    let mut stage = stage.waits("one", GPU, 1, false).waits("two", GPU, 1, false);
    assert_eq!(stage.names(0), ["a"], "for the second; the first gets what ends");
}

#[test]
fn what_sleeps_in_standby_goes_before_what_would_answer_at_once() {
    let stage = || {
        let stage = stage().runs("old", amounts(GPU, 1), 0).runs("new", amounts(GPU, 1), 100);
        stage.waits("third", GPU, 1, false)
    };
    assert_eq!(stage().plan(200), [("old".to_owned(), 0)], "the least recently used");
    let mut stage = stage();
    stage.pod("new").is_asleep = true;
    assert_eq!(stage.plan(200), [("new".to_owned(), 0)]);
}
