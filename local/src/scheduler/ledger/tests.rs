//! Who gets room, and in which order.

use proptest::prelude::*;

use super::*;

const GPU: &str = "nvidia.com/gpu";

fn ledger(memory: u64, gpus: u64) -> Ledger {
    Ledger::new(Capacity { memory: Some(memory), devices: [(GPU.to_owned(), gpus)].into() })
}

fn ask(name: &str, memory: u64, gpus: u64) -> Ask {
    let amounts = [(MEMORY.to_owned(), memory), (GPU.to_owned(), gpus)];
    Ask {
        name: format!("default/{name}"),
        uid: Some(name.to_owned()),
        model: Some(format!("default/{}", name.split('-').next().unwrap())),
        amounts: Amounts(amounts.into_iter().filter(|(_, amount)| *amount > 0).collect()),
        priority: 0,
        min_scale: 0,
        is_asleep: false,
        is_ending: false,
    }
}

/// The names of those that are placed now, and whether each is told something new.
fn placed(ledger: &mut Ledger) -> Vec<String> {
    std::iter::from_fn(|| ledger.next()).map(|placed| placed.ask.uid.unwrap()).collect()
}

fn told(ledger: &mut Ledger) -> Vec<(String, &'static str, String)> {
    let verdicts = ledger.verdicts().into_iter();
    verdicts.map(|it| (it.ask.uid.unwrap(), it.reason, it.message)).collect()
}

#[test]
fn a_pod_is_placed_if_there_is_room_and_has_devices_of_its_own() {
    let mut ledger = ledger(100, 3);
    let devices = |placed: Option<Placed>| placed.unwrap().devices.of(GPU).to_vec();
    assert_eq!(devices(ledger.place(&ask("a", 40, 1))), [0]);
    assert_eq!(devices(ledger.place(&ask("b", 40, 2))), [1, 2]);
    assert_eq!(ledger.place(&ask("c", 40, 0)), None, "20 are left");
    assert_eq!(ledger.place(&ask("c", 20, 1)), None, "no device is");
    ledger.release("default/a");
    assert_eq!(devices(ledger.place(&ask("c", 40, 1))), [0], "given back and given out again");
    assert!(ledger.place(&Ask { name: "default/free".to_owned(), ..Ask::default() }).is_some());
}

/// A pod that could not be placed beside models that always run once kept all others waiting.
#[test]
fn nothing_is_kept_free_for_what_has_no_room_beside_what_stays() {
    let mut ledger = ledger(100, 1);
    let always = |name| Ask { min_scale: 1, ..ask(name, 40, 0) };
    ledger.place(&always("a-1")).unwrap();
    ledger.place(&always("a-2")).unwrap();
    // A replica of `a` may go, so that there can be 60.
    ledger.queue(ask("large", 60, 0));
    assert_eq!(ledger.place(&ask("b", 10, 0)), None, "it would overtake one that can be placed");
    ledger.queue(ask("larger", 61, 1));
    ledger.release("default/large");
    ledger.place(&ask("c", 10, 1)).unwrap();
    ledger.queue(ask("last", 15, 0));
    let lacks = told(&mut ledger).into_iter().map(|(name, _, said)| format!("{name}: {said}"));
    let lacks: Vec<_> = lacks.collect();
    assert_eq!(lacks.len(), 2, "{lacks:?}");
    assert!(lacks[1].starts_with("last: ") && lacks[1].contains("(5 "), "{lacks:?}");
    ledger.release("default/last");
    // What ends does not stay.
    let ask = Ask { is_ending: true, ..always("a-1") };
    ledger.follow(Placed { ask, ..Placed::default() }, true);
    let ask = Ask { is_ending: true, ..always("a-2") };
    ledger.follow(Placed { ask, ..Placed::default() }, true);
    assert_eq!(ledger.place(&self::ask("d", 5, 0)), None, "it would overtake `larger`");
}

#[test]
fn those_that_wait_have_their_turn_in_the_order_of_arrival() {
    let mut ledger = ledger(100, 1);
    ledger.place(&ask("a", 60, 0)).unwrap();
    ledger.queue(ask("large", 80, 0));
    ledger.queue(ask("small", 30, 0));
    ledger.queue(ask("gpu", 0, 1));
    assert_eq!(placed(&mut ledger), ["gpu"], "it needs nothing that the others wait for");
    assert_eq!(ledger.place(&ask("new", 30, 0)), None, "it would overtake them");
    ledger.queue(Ask { priority: 5, ..ask("first", 30, 0) });
    assert_eq!(placed(&mut ledger), ["first"]);
    ledger.release("default/a");
    assert_eq!(placed(&mut ledger), [""; 0], "70 are free");
    ledger.release("default/first");
    assert_eq!(placed(&mut ledger), ["large"]);
    ledger.release("default/large");
    assert_eq!(placed(&mut ledger), ["small"]);
}

/// A model that waits for a GPU that is never free must not keep those from starting that need none.
#[test]
fn what_one_that_waits_does_not_need_is_free_for_others() {
    let mut ledger = ledger(100, 1);
    ledger.place(&ask("a", 10, 1)).unwrap();
    ledger.queue(ask("gpu", 20, 1));
    ledger.queue(ask("plain", 30, 0));
    assert_eq!(placed(&mut ledger), ["plain"]);
    assert!(ledger.place(&ask("more", 40, 0)).is_some(), "20 are left for the one that waits");
    assert_eq!(ledger.place(&ask("last", 10, 0)), None, "these are kept for it");
}

/// Room that was made for a model without a replica is not for one more of another.
#[test]
fn a_first_replica_goes_before_a_further_one() {
    let mut ledger = ledger(100, 0);
    ledger.place(&ask("a-1", 40, 0)).unwrap();
    ledger.place(&ask("b-1", 60, 0)).unwrap();
    ledger.queue(ask("a-2", 40, 0));
    ledger.queue(ask("w-1", 60, 0));
    ledger.release("default/b-1");
    assert_eq!(placed(&mut ledger), ["w-1"]);
}

/// The autoscaler reads how much is to be given back: each of those that wait counts on what those
/// before it leave.
#[test]
fn each_is_told_what_it_lacks_and_again_only_if_that_changes() {
    let mut ledger = ledger(100, 1);
    ledger.place(&ask("a", 60, 0)).unwrap();
    ledger.queue(ask("b", 50, 0));
    ledger.queue(ask("c", 50, 0));
    let says =
        |lack: u64| insufficient(&[Shortage { resource: MEMORY.to_owned(), lack: Some(lack) }]);
    let waits = WAITING_FOR_ROOM;
    let expected = [("b".to_owned(), waits, says(10)), ("c".to_owned(), waits, says(50))];
    assert_eq!(told(&mut ledger), expected);
    assert_eq!(told(&mut ledger), []);
    ledger.follow(Placed { ask: ask("a", 70, 0), ..Placed::default() }, true);
    assert_eq!(told(&mut ledger), [("b".to_owned(), waits, says(20))]);
    ledger.forget_told("default/c");
    assert_eq!(told(&mut ledger)[0].0, "c", "the write had failed");
}

#[test]
fn what_can_never_be_is_said_and_holds_nobody_up() {
    let mut ledger = ledger(8 << 30, 1);
    ledger.queue(ask("huge", 9 << 30, 0));
    ledger.queue(ask("gpus", 1, 2));
    ledger.queue(ask("good", 8 << 30, 0));
    assert_eq!(placed(&mut ledger), ["good"]);
    let told = told(&mut ledger);
    assert!(told.iter().all(|(_, reason, _)| *reason == "Unschedulable"), "{told:?}");
    assert_eq!(
        told[0].2,
        "the pod asks for 9Gi of memory, and there are 8Gi: ask for less, or start ebb with a larger \
         --memory"
    );
    assert!(told[1].2.contains("--devices nvidia.com/gpu=2"), "{told:?}");
    ledger.release("default/good");
    assert!(ledger.place(&ask("next", 8 << 30, 0)).is_some(), "the impossible ones are no queue");
}

/// A model that asks for nothing counts with what its last replica had.
#[test]
fn measured_memory_counts_now_and_at_the_next_start() {
    let mut ledger = ledger(100, 0);
    ledger.place(&ask("m-1", 10, 0)).unwrap();
    ledger.follow(Placed { ask: ask("m-1", 70, 0), ..Placed::default() }, true);
    assert_eq!(ledger.place(&ask("b", 40, 0)), None, "30 are left");
    ledger.release("default/m-1");
    ledger.place(&ask("b", 40, 0)).unwrap();
    assert_eq!(ledger.place(&ask("m-2", 10, 0)), None, "another replica of it will need 70");
    ledger.release("default/b");
    ledger.place(&ask("m-2", 10, 0)).unwrap();
    ledger.follow(Placed { ask: ask("m-2", 10, 0), ..Placed::default() }, false);
    assert_eq!(ledger.place(&ask("b", 40, 0)), None, "it has not been measured yet");
    ledger.follow(Placed { ask: ask("m-2", 30, 0), ..Placed::default() }, true);
    assert!(ledger.place(&ask("b", 40, 0)).is_some(), "it has less this time");
    ledger.release("default/b");
    ledger.follow(Placed { ask: ask("m-2", 500, 0), ..Placed::default() }, true);
    ledger.release("default/m-2");
    assert!(ledger.place(&ask("m-3", 10, 0)).is_some(), "it ran with more than there is");
    ledger.follow(Placed { ask: ask("m-3", 20, 0), ..Placed::default() }, false);
    assert_eq!(ledger.place(&ask("b", 40, 0)), None, "it is still loading");
    ledger.release("default/m-3");
    ledger.place(&ask("b", 40, 0)).unwrap();
    assert_eq!(ledger.place(&ask("m-4", 10, 0)), None, "it ended while it loaded");
}

#[test]
fn a_place_that_could_not_be_written_is_given_back() {
    let mut ledger = ledger(100, 1);
    ledger.queue(ask("a", 60, 1));
    ledger.queue(ask("b", 60, 0));
    let first = ledger.next().unwrap();
    ledger.put_back(&first);
    assert_eq!(placed(&mut ledger), ["a"]);
    ledger.release("default/b");
    // A list that began before a pod was made does not have it.
    let made = Ask { uid: None, ..ask("c", 10, 0) };
    ledger.place(&made).unwrap();
    ledger.queue(ask("d", 90, 0));
    ledger.keep_only(&BTreeSet::from(["default/a".to_owned()]));
    assert_eq!(
        ledger.held.keys().map(String::as_str).collect::<Vec<_>>(),
        ["default/a", "default/c"]
    );
    assert!(ledger.queue.is_empty());
}

proptest! {
    /// Whatever comes and goes, nothing is given out twice, and nobody waits for what is free.
    #[test]
    fn nothing_is_given_out_twice(
        steps in prop::collection::vec((0..12_usize, 0..60_u64, 0..3_u64, 0..4_u8), 1..80),
    ) {
        let mut ledger = ledger(100, 3);
        for (pod, memory, gpus, what) in steps {
            let name = format!("p{pod}");
            match what {
                0 => ledger.release(&format!("default/{name}")),
                1 if !ledger.held.contains_key(&format!("default/{name}")) => {
                    ledger.queue(ask(&name, memory, gpus));
                }
                _ => {
                    while ledger.next().is_some() {}
                }
            }
            let held: u64 = ledger.held.values().map(|it| it.placed.ask.amounts.of(MEMORY)).sum();
            prop_assert!(held <= 100, "{held}");
            let devices = ledger.held.values().flat_map(|it| it.placed.devices.of(GPU));
            let devices: Vec<_> = devices.copied().collect();
            let distinct: BTreeSet<_> = devices.iter().collect();
            prop_assert_eq!(distinct.len(), devices.len());
        }
        while ledger.next().is_some() {}
        // The first one that waits lacks something.
        if let Some(first) = ledger.queue.first() {
            let needed = ledger.needed(&first.ask);
            prop_assert!(needed.0.iter().any(|(it, amount)| ledger.free(it) < *amount));
        }
    }
}

fn follow(ledger: &mut Ledger, name: &str, memory: u64, is_asleep: bool) {
    let ask = Ask { is_asleep, ..ask(name, memory, 0) };
    ledger.follow(Placed { ask, ..Placed::default() }, true);
}

fn crowded(ledger: &Ledger) -> Vec<String> {
    ledger.crowded().into_iter().map(|ask| ask.uid.unwrap()).collect()
}

/// It counts with what it has, and goes once it could not wake any more.
#[test]
fn what_sleeps_gives_room_and_goes_when_others_have_taken_it() {
    let mut ledger = ledger(100, 0);
    follow(&mut ledger, "a", 60, false);
    assert_eq!(ledger.place(&ask("b", 50, 0)), None);
    follow(&mut ledger, "a", 10, true);
    assert_eq!(crowded(&ledger), [""; 0], "it can wake");
    assert!(ledger.place(&ask("small", 40, 0)).is_some());
    assert_eq!(crowded(&ledger), [""; 0], "it still can");
    assert!(ledger.place(&ask("b", 50, 0)).is_some());
    assert_eq!(crowded(&ledger), ["a"]);
    ledger.release("default/b");
    assert_eq!(crowded(&ledger), [""; 0]);
    follow(&mut ledger, "a", 60, false);
    assert_eq!(ledger.place(&ask("b", 1, 0)), None, "it is awake");
}

/// What ended took as much as one that is awake, so that more of them went than had to.
#[test]
fn what_goes_makes_room_for_the_rest_that_sleeps() {
    let mut ledger = ledger(100, 0);
    for name in ["a", "b"] {
        follow(&mut ledger, name, 60, false);
        follow(&mut ledger, name, 60, true);
        follow(&mut ledger, name, 10, true);
    }
    ledger.place(&ask("c", 40, 0)).unwrap();
    assert_eq!(crowded(&ledger), ["a"]);
    let ask = Ask { is_asleep: true, is_ending: true, ..ask("a", 10, 0) };
    ledger.follow(Placed { ask, ..Placed::default() }, false);
    assert_eq!(crowded(&ledger), [""; 0], "`b` can wake once `a` is gone");
}

/// A container that started anew had nothing at first, so that others took what it needs.
#[test]
fn what_loads_again_keeps_the_room_that_it_had() {
    let mut ledger = ledger(100, 0);
    follow(&mut ledger, "a", 60, false);
    let again = Placed { ask: ask("a", 0, 0), ..Placed::default() };
    ledger.follow(again, false);
    assert_eq!(ledger.place(&ask("b", 50, 0)), None, "it loads");
    follow(&mut ledger, "a", 30, false);
    assert!(ledger.place(&ask("b", 50, 0)).is_some(), "it has less this time");
}

/// A request waits for it, and its memory is measured only now and then.
#[test]
fn what_wakes_is_not_ended_and_has_the_room_that_it_will_need() {
    let mut ledger = ledger(100, 0);
    follow(&mut ledger, "a", 60, false);
    follow(&mut ledger, "a", 60, true);
    follow(&mut ledger, "a", 10, true);
    follow(&mut ledger, "a", 12, true);
    assert!(ledger.place(&ask("b", 30, 0)).is_some(), "it sleeps");
    follow(&mut ledger, "a", 30, true);
    assert_eq!(ledger.place(&ask("c", 20, 0)), None, "it wakes");
    follow(&mut ledger, "b", 90, false);
    assert_eq!(crowded(&ledger), [""; 0], "it is too late for that");
    follow(&mut ledger, "b", 30, false);
    // Its mark is gone before it is measured again.
    follow(&mut ledger, "a", 10, true);
    follow(&mut ledger, "a", 10, false);
    follow(&mut ledger, "a", 10, false);
    assert_eq!(ledger.place(&ask("c", 20, 0)), None, "it was woken");
    follow(&mut ledger, "a", 45, false);
    assert!(ledger.place(&ask("c", 20, 0)).is_some(), "it has less this time");
}
