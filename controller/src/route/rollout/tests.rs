use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// Revision `digits-1` is of Configuration `digits`.
fn configuration_of(revision: &str) -> Option<String> {
    revision.split_once('-').map(|(name, _)| name.to_owned())
}

fn latest(revision: &str, percent: i64) -> TrafficTarget {
    TrafficTarget {
        revision_name: Some(revision.to_owned()),
        latest_revision: Some(true),
        percent: Some(percent),
        ..TrafficTarget::default()
    }
}

/// Revisions and their shares: `digits-1 60, digits-2 40`.
fn told(traffic: &[TrafficTarget]) -> String {
    let part = |it: &TrafficTarget| {
        format!("{} {}", it.revision_name.as_ref().unwrap(), it.percent.unwrap_or_default())
    };
    traffic.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// A Route whose status is written after each look; each look knows of nothing else, as after a restart.
struct World {
    status: RouteStatus,
    duration: Duration,
    now: i64,
}

impl World {
    fn new(duration_s: u64, first: Vec<TrafficTarget>) -> Self {
        let duration = Duration::from_secs(duration_s);
        let mut world = Self { status: RouteStatus::default(), duration, now: 1000 };
        world.look(first);
        world
    }

    fn look(&mut self, goal: Vec<TrafficTarget>) -> Option<Duration> {
        let rolled = roll(goal, &self.status, configuration_of, self.duration, at(self.now));
        let sum =
            |traffic: &[TrafficTarget]| traffic.iter().filter_map(|it| it.percent).sum::<i64>();
        assert_eq!(sum(&rolled.traffic), 100, "{}", told(&rolled.traffic));
        assert_eq!(rolled.next.is_some(), rolled.note.is_some());
        self.status.annotations.remove(ROLLOUT);
        self.status.annotations.extend(rolled.note.map(|note| (ROLLOUT.to_owned(), note)));
        self.status.traffic = rolled.traffic;
        rolled.next
    }

    /// Looks when it was asked to until the rollout is done; the seconds that it took and the looks.
    fn finish(&mut self, goal: &[TrafficTarget]) -> (i64, usize) {
        let begin = self.now;
        for looks in 1..1000 {
            let Some(pause) = self.look(goal.to_vec()) else { return (self.now - begin, looks) };
            assert!(pause <= self.duration, "{pause:?}");
            let whole = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
            self.now += i64::try_from(whole).unwrap();
        }
        panic!("it has no end: {}", told(&self.status.traffic));
    }

    fn told(&self) -> String {
        told(&self.status.traffic)
    }
}

#[test]
fn without_a_duration_requests_move_at_once() {
    let mut world = World::new(0, vec![latest("digits-1", 100)]);
    assert_eq!(world.look(vec![latest("digits-2", 100)]), None);
    assert_eq!(world.told(), "digits-2 100");
}

#[test]
fn the_first_revision_gets_all_at_once() {
    assert_eq!(World::new(600, vec![latest("digits-1", 100)]).told(), "digits-1 100");
}

#[test]
fn requests_move_step_by_step_within_the_duration() {
    let mut world = World::new(100, vec![latest("digits-1", 100)]);
    let goal = [latest("digits-2", 100)];
    assert_eq!(world.look(goal.to_vec()), Some(Duration::from_secs(1)));
    assert_eq!(world.told(), "digits-1 99, digits-2 1");
    // Nothing moves before its time, however often the Route is looked at.
    assert_eq!(world.look(goal.to_vec()), Some(Duration::from_secs(1)));
    assert_eq!(world.told(), "digits-1 99, digits-2 1");
    world.now += 1;
    world.look(goal.to_vec());
    assert_eq!(world.told(), "digits-1 98, digits-2 2");
    let (took, _) = world.finish(&goal);
    assert_eq!((world.told().as_str(), took), ("digits-2 100", 98));
    assert!(world.status.annotations.is_empty());
}

#[test]
fn a_short_rollout_has_few_steps_and_a_long_one_no_more_than_one_for_each_percent() {
    // The last look finds that nothing is left to do.
    for (duration, looks) in [(1, 2), (5, 5), (60, 51), (3600, 100)] {
        let mut world = World::new(duration, vec![latest("digits-1", 100)]);
        let (took, looked) = world.finish(&[latest("digits-2", 100)]);
        assert_eq!((world.told().as_str(), looked), ("digits-2 100", looks), "{duration}");
        // The test waits for whole seconds.
        let longest = i64::try_from(duration).unwrap() + i64::try_from(looks).unwrap();
        assert!(took <= longest, "{duration}: {took}");
    }
}

#[test]
fn a_revision_that_comes_meanwhile_takes_from_the_newest_and_the_oldest_goes_first() {
    let mut world = World::new(11, vec![latest("digits-1", 100)]);
    world.look(vec![latest("digits-2", 100)]);
    world.now += 1;
    world.look(vec![latest("digits-2", 100)]);
    assert_eq!(world.told(), "digits-1 89, digits-2 11");
    world.look(vec![latest("digits-3", 100)]);
    assert_eq!(world.told(), "digits-1 89, digits-2 10, digits-3 1");
    let mut seen = Vec::new();
    for _ in 0..10 {
        world.now += 1;
        world.look(vec![latest("digits-3", 100)]);
        seen.push(world.told());
    }
    assert_eq!(seen[7], "digits-1 9, digits-2 10, digits-3 81");
    assert_eq!(seen[8], "digits-2 9, digits-3 91");
    assert_eq!(seen[9], "digits-3 100");
}

#[test]
fn a_way_back_begins_anew() {
    let mut world = World::new(11, vec![latest("digits-1", 100)]);
    world.look(vec![latest("digits-2", 100)]);
    world.look(vec![latest("digits-1", 100)]);
    assert_eq!(world.told(), "digits-1 100", "the other had the first step only");
    world.look(vec![latest("digits-2", 100)]);
    world.now += 1;
    world.look(vec![latest("digits-2", 100)]);
    world.look(vec![latest("digits-1", 100)]);
    assert_eq!(world.told(), "digits-2 10, digits-1 90");
}

#[test]
fn a_share_that_changes_meanwhile_is_the_newest_ones_or_taken_from_the_oldest() {
    let pinned = |percent| TrafficTarget { latest_revision: None, ..latest("digits-0", percent) };
    let mut world = World::new(11, vec![latest("digits-1", 50), pinned(50)]);
    world.look(vec![latest("digits-2", 50), pinned(50)]);
    assert_eq!(world.told(), "digits-1 49, digits-2 1, digits-0 50");
    world.look(vec![latest("digits-2", 80), pinned(20)]);
    assert_eq!(world.told(), "digits-1 49, digits-2 31, digits-0 20");
    world.look(vec![latest("digits-2", 40), pinned(60)]);
    assert_eq!(world.told(), "digits-1 9, digits-2 31, digits-0 60");
    world.look(vec![latest("digits-2", 1), pinned(99)]);
    assert_eq!(world.told(), "digits-2 1, digits-0 99", "nothing to move in steps");
}

#[test]
fn two_configurations_and_a_tag_roll_apart() {
    let tagged =
        |name: &str, percent| TrafficTarget { tag: Some("t".to_owned()), ..latest(name, percent) };
    let all = |number: u32| {
        let [a, b, c] = ["a", "b", "a"].map(|name| format!("{name}-{number}"));
        vec![latest(&a, 40), latest(&b, 40), tagged(&c, 20)]
    };
    let mut world = World::new(30, all(1));
    assert_eq!(world.told(), "a-1 40, b-1 40, a-1 20");
    let mut goal = all(1);
    goal[0] = latest("a-2", 40);
    world.look(goal.clone());
    assert_eq!(world.told(), "a-1 39, a-2 1, b-1 40, a-1 20");
    world.now += 15;
    goal[2] = tagged("a-2", 20);
    world.look(goal.clone());
    assert_eq!(world.told(), "a-1 38, a-2 2, b-1 40, a-1 19, a-2 1");
    world.finish(&goal);
    assert_eq!(world.told(), "a-2 40, b-1 40, a-2 20");
}

#[test]
fn a_tag_that_is_given_meanwhile_takes_the_rollout_over() {
    let mut world = World::new(11, vec![latest("digits-1", 100)]);
    world.look(vec![latest("digits-2", 100)]);
    world.now += 1;
    let tagged = TrafficTarget { tag: Some("new".to_owned()), ..latest("digits-2", 100) };
    world.look(vec![tagged.clone()]);
    assert_eq!(world.told(), "digits-1 99, digits-2 1");
    assert!(world.status.traffic.iter().all(|part| part.tag.as_deref() == Some("new")));
    world.finish(&[tagged]);
    world.look(vec![latest("digits-3", 100)]);
    assert_eq!(world.told(), "digits-2 99, digits-3 1", "and one that is taken away as well");
}

#[test]
fn another_duration_and_a_clock_that_was_set_back_change_the_pace() {
    let mut world = World::new(360_000, vec![latest("digits-1", 100)]);
    let goal = || vec![latest("digits-2", 100)];
    assert!(world.look(goal()) > Some(Duration::from_hours(1)));
    world.duration = Duration::from_secs(100);
    assert_eq!(world.look(goal()), Some(Duration::from_secs(1)));
    world.now -= 1000;
    assert_eq!(world.look(goal()), Some(Duration::from_secs(1)));
    let (took, _) = world.finish(&goal());
    assert_eq!((world.told().as_str(), took), ("digits-2 100", 99));
}

#[test]
fn what_a_note_does_not_tell_begins_a_pace_of_its_own() {
    let mut world = World::new(11, vec![latest("digits-1", 100)]);
    for note in [None, Some("{"), Some(r#"{"digits": {"to": "digits-9"}}"#)] {
        world.status.traffic = vec![latest("digits-1", 60), latest("digits-2", 40)];
        world.status.annotations.remove(ROLLOUT);
        world.status.annotations.extend(note.map(|note| (ROLLOUT.to_owned(), note.to_owned())));
        world.look(vec![latest("digits-2", 100)]);
        assert_eq!(world.told(), "digits-1 60, digits-2 40", "{note:?}");
        let (took, _) = world.finish(&[latest("digits-2", 100)]);
        assert_eq!((world.told().as_str(), took), ("digits-2 100", 10), "{note:?}");
    }
}
