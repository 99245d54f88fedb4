//! Scenes: steps of a plan that belong together.
//!
//! What is drawn step by step meets rarely: a policy that refuses Deployments matters only while one
//! is to be made. A scene puts a Service, its requests and its faults where they meet; how they meet
//! is left to the seed.

use std::time::Duration;

use super::{Act, Call, Fault, Framing, QUIET_MS, Slot, Step, Wanted};
use crate::api_link::Weather;
use crate::chance::Chance;
use crate::identity::Habit;
use crate::parts::Part;

const NAME: &str = "scene";
const OTHER: &str = "scene-other";
/// Latest begin of a scene, in milliseconds: it takes up to 45 s.
const BEGIN_MS_MAX: u64 = 20_000;

const SCENES: [fn(&mut Stage<'_>); 15] = [
    refused,
    orphaned,
    given_up,
    sick,
    tides,
    stopped_writer,
    marked,
    old_answers,
    half_a_step,
    stale,
    remade,
    behind_owner,
    deleted_while_waiting,
    listed_anew,
    crashing,
];

/// One scene, if this seed has one; says whether it has.
pub(super) fn scene(chance: &Chance, steps: &mut Vec<Step>) -> bool {
    if chance.one_in(2) {
        return false;
    }
    let play = *chance.pick(&SCENES);
    let begin = chance.between(QUIET_MS, BEGIN_MS_MAX);
    play(&mut Stage { chance, begin, steps });
    true
}

/// Where a scene is played.
struct Stage<'a> {
    chance: &'a Chance,
    begin: Duration,
    steps: &'a mut Vec<Step>,
}

impl Stage<'_> {
    fn add(&mut self, after: Duration, act: Act) {
        self.steps.push(Step { at: self.begin + after, act });
    }

    fn apply(&mut self, after: Duration, wanted: &Wanted) {
        self.add(after, Act::Apply(wanted.clone()));
    }

    fn call(&mut self, after: Duration, name: &str, call: Call) {
        self.add(after, Act::Call(name.to_owned(), call));
    }

    fn breaks(&mut self, after: Duration, fault: Fault) {
        self.add(after, Act::Break(fault));
    }

    fn between(&self, least_ms: u64, most_ms: u64) -> Duration {
        self.chance.between(least_ms, most_ms)
    }

    /// Any activator.
    fn activator(&self) -> Slot {
        Slot(Part::Activator, self.chance.below(6))
    }

    /// Requests in waves, so that pods come and go. Some are longer than the 3 s from a pod's deletion
    /// to SIGTERM, and so they are in a pod that must not be deleted.
    fn waves(&mut self, name: &str) {
        let mut at = self.between(0, 2_000);
        for _ in 0..6 {
            let short = Call::plain(1 + self.few(), self.between(200, 2_000));
            let long = Call::plain(1 + self.few() / 2, self.between(4_000, 14_000));
            self.call(at, name, short);
            self.call(at + self.between(0, 3_000), name, long);
            at += self.between(2_000, 8_000);
        }
    }

    /// From 0 to 3.
    fn few(&self) -> u32 {
        u32::try_from(self.chance.below(4)).unwrap_or(0)
    }
}

/// A Service with one request at a time in each pod.
fn service(name: &str) -> Wanted {
    Wanted {
        name: name.to_owned(),
        generation: 1,
        limit: 1,
        timeout_s: 20,
        habit: Habit::Well,
        min_scale: 0,
        is_split: false,
        is_h2: false,
        is_pair: false,
    }
}

/// Requests with a body.
fn uploads(chance: &Chance, count: u32) -> Call {
    Call {
        upload: *chance.pick(&[2_000, 100_000]),
        framing: *chance.pick(&[Framing::Open, Framing::Sized, Framing::Trailers]),
        ..Call::plain(count, Duration::from_millis(150))
    }
}

/// A Service is applied while a policy refuses its Deployment.
fn refused(stage: &mut Stage<'_>) {
    let time = stage.between(2_000, 15_000);
    stage.breaks(Duration::ZERO, Fault::AllSkies(Weather::Forbids, time));
    stage.apply(stage.between(50, 1_500), &service(NAME));
}

/// A Route is deleted and its Configuration stays, whose Revision kept pods for the Route.
fn orphaned(stage: &mut Stage<'_>) {
    let min_scale = *stage.chance.pick(&[1, 2]);
    stage.apply(Duration::ZERO, &Wanted { min_scale, is_pair: true, ..service(NAME) });
    stage.add(stage.between(5_000, 40_000), Act::Delete(NAME.to_owned()));
}

/// A Service is to keep pods, and its pods never start.
fn given_up(stage: &mut Stage<'_>) {
    let min_scale = *stage.chance.pick(&[1, 2]);
    stage.apply(Duration::ZERO, &Wanted { min_scale, habit: Habit::Broken, ..service(NAME) });
    if stage.chance.one_in(2) {
        let call = Call::plain(1, Duration::from_millis(5));
        stage.call(stage.between(0, 40_000), NAME, call);
    }
}

/// One of two pods breaks off every request.
fn sick(stage: &mut Stage<'_>) {
    let limit = *stage.chance.pick(&[0, 5]);
    stage.apply(Duration::ZERO, &Wanted { min_scale: 2, limit, ..service(NAME) });
    let fault = Fault::SickPod(stage.chance.below(100), stage.between(8_000, 12_000));
    stage.breaks(stage.between(8_000, 15_000), fault);
}

/// Pods come and go with the requests, while reports, orders or writes are late.
fn tides(stage: &mut Stage<'_>) {
    stage.apply(Duration::ZERO, &Wanted { timeout_s: 60, ..service(NAME) });
    stage.waves(NAME);
    let at = stage.between(0, 15_000);
    let time = stage.between(10_000, 30_000);
    let autoscaler = Slot(Part::Autoscaler, stage.chance.below(2));
    match stage.chance.below(5) {
        0 => stage.breaks(at, Fault::AllSkies(Weather::Slow(2_000), time)),
        1 => {
            let (from, lag) = (stage.activator(), stage.between(300, 4_500));
            for number in 0..2 {
                let to = Slot(Part::Autoscaler, number);
                stage.breaks(at, Fault::Lag { from, to, lag, time });
            }
        }
        2 => stage.breaks(
            at,
            Fault::KillAtWrite {
                slot: autoscaler,
                number: 1 + *stage.chance.pick(&[0, 1, 2, 3, 4]),
                is_after: stage.chance.one_in(2),
                down: stage.between(0, 2_000),
            },
        ),
        _ => {}
    }
}

/// Whoever writes the scale stands still at a write, until another writes it.
fn stopped_writer(stage: &mut Stage<'_>) {
    stage.apply(Duration::ZERO, &Wanted { timeout_s: 60, ..service(NAME) });
    stage.waves(NAME);
    let (at, time) = (stage.between(0, 15_000), stage.between(13_000, 25_000));
    let number = 1 + *stage.chance.pick(&[0, 1, 2, 3, 4]);
    // One of the two writes; nothing happens to the other.
    for index in 0..2 {
        let slot = Slot(Part::Autoscaler, index);
        stage.breaks(at, Fault::PauseAtWrite { slot, number, time });
    }
}

/// The autoscaler ends between the mark of a pod and the lower scale, and then the pod is needed.
fn marked(stage: &mut Stage<'_>) {
    stage.apply(Duration::ZERO, &Wanted { timeout_s: 60, ..service(NAME) });
    stage.breaks(Duration::ZERO, Fault::KillAtMark(stage.between(0, 2_000)));
    let count = 3 + stage.few() / 2;
    let first = stage.between(500, 2_000);
    stage.call(first, NAME, Call::plain(count, Duration::from_secs(2)));
    let mut at = first + stage.between(6_000, 14_000);
    for _ in 0..6 {
        stage.call(at, NAME, Call::plain(count, Duration::from_secs(12)));
        at += stage.between(7_000, 9_000);
    }
}

/// What one activator reports is old, while pods come and go and another autoscaler takes over.
fn old_answers(stage: &mut Stage<'_>) {
    stage.apply(Duration::ZERO, &Wanted { timeout_s: 60, ..service(NAME) });
    let (from, lag) = (stage.activator(), stage.between(1_500, 5_000));
    for number in 0..2 {
        let to = Slot(Part::Autoscaler, number);
        stage.breaks(Duration::ZERO, Fault::Lag { from, to, lag, time: Duration::from_secs(45) });
    }
    stage.waves(NAME);
    for number in 0..2 {
        let slot = Slot(Part::Autoscaler, number);
        let fault = Fault::Kill(slot, stage.between(0, 2_000));
        stage.breaks(stage.between(6_000, 40_000), fault);
    }
}

/// Some of the pods that are to go are needed again, before the API server takes the write.
fn half_a_step(stage: &mut Stage<'_>) {
    stage.apply(Duration::ZERO, &Wanted { timeout_s: 60, ..service(NAME) });
    let first = stage.between(500, 2_000);
    stage.call(first, NAME, Call::plain(5 + stage.few(), Duration::from_secs(3)));
    // Less is wanted from some 10 s after a burst, and less again every 4 s.
    let begin = first + stage.between(9_000, 20_000);
    let time = stage.between(3_000, 8_000);
    let weather = *stage.chance.pick(&[Weather::Fails(1), Weather::Slow(4_000), Weather::Silent]);
    stage.breaks(begin, Fault::AllSkies(weather, time));
    for _ in 0..3 {
        let call = Call::plain(2 + stage.few(), stage.between(5_000, 14_000));
        stage.call(begin + stage.between(500, 8_000), NAME, call);
    }
}

/// An activator hears nothing of pods, while their addresses go from one Revision to another.
fn stale(stage: &mut Stage<'_>) {
    let limit = *stage.chance.pick(&[0, 1]);
    for name in [NAME, OTHER] {
        stage.apply(Duration::ZERO, &Wanted { limit, ..service(name) });
    }
    let stalled = Weather::StalledOne("pods");
    let activator = stage.activator();
    stage.breaks(
        stage.between(4_000, 8_000),
        Fault::Sky(activator, stalled, stage.between(25_000, 45_000)),
    );
    if stage.chance.one_in(2) {
        let slot = Slot(Part::Autoscaler, stage.chance.below(2));
        stage.breaks(stage.between(9_000, 30_000), Fault::Kill(slot, stage.between(0, 2_000)));
    }
    for round in 0..4 {
        for (index, name) in [NAME, OTHER].into_iter().enumerate() {
            // A Revision sleeps after 7 s without requests.
            let begin = Duration::from_millis(10_000 * round + if index == 0 { 0 } else { 5_000 });
            for _ in 0..4 {
                let call = Call::plain(1, stage.between(5, 400));
                stage.call(begin + stage.between(0, 2_500), name, call);
            }
        }
    }
}

/// A Service that is awake is made anew, while nobody hears of pods.
fn remade(stage: &mut Stage<'_>) {
    let limit = *stage.chance.pick(&[0, 1, 5]);
    stage.apply(Duration::ZERO, &Wanted { limit, ..service(NAME) });
    for round in 0..2 {
        let at = Duration::from_secs(5 + 20 * round) + stage.between(0, 3_000);
        stage.call(at, NAME, Call::plain(3, Duration::from_millis(150)));
        stage.breaks(at + stage.between(500, 3_000), Fault::Remake(stage.chance.below(100)));
    }
}

/// Bodies are sent to a Service that one activator has not heard of.
fn behind_owner(stage: &mut Stage<'_>) {
    let kind = *stage.chance.pick(&["revisions", "routes"]);
    let (activator, time) = (stage.activator(), stage.between(15_000, 40_000));
    stage.breaks(Duration::ZERO, Fault::Sky(activator, Weather::StalledOne(kind), time));
    let habit = *stage.chance.pick(&[Habit::Well, Habit::Slow]);
    stage.apply(stage.between(100, 1_000), &Wanted { habit, timeout_s: 60, ..service(NAME) });
    for _ in 0..8 {
        let call = uploads(stage.chance, 1);
        stage.call(stage.between(1_500, 20_000), NAME, call);
    }
}

/// A Service is deleted while bodies wait for its first pod.
fn deleted_while_waiting(stage: &mut Stage<'_>) {
    let wanted = Wanted { habit: Habit::Slow, ..service(NAME) };
    stage.apply(Duration::ZERO, &wanted);
    let at = stage.between(14_000, 25_000);
    stage.call(at, NAME, uploads(stage.chance, 4));
    // A body is kept by the activator that it came to for 2 s.
    let (least, most) = *stage.chance.pick(&[(100, 2_000), (2_050, 4_500)]);
    let gone = at + stage.between(least, most);
    stage.add(gone, Act::Delete(NAME.to_owned()));
    if stage.chance.one_in(2) {
        stage.apply(gone + stage.between(0, 2_000), &wanted);
    }
}

/// A process has to list everything anew and slowly, while a Service is applied.
fn listed_anew(stage: &mut Stage<'_>) {
    let part = *stage.chance.pick(&[Part::Controller, Part::Controller, Part::Autoscaler]);
    for index in 0..2 {
        let slot = Slot(part, index);
        let fault = Fault::Sky(slot, Weather::Slow(6_000), stage.between(4_000, 8_000));
        stage.breaks(Duration::ZERO, fault);
        stage.breaks(
            stage.between(10, 500),
            Fault::Sky(slot, Weather::Gone, stage.between(10, 1_500)),
        );
    }
    stage.apply(stage.between(0, 4_000), &service(NAME));
    stage.apply(stage.between(0, 4_000), &Wanted { is_pair: true, ..service(OTHER) });
    stage.call(Duration::from_secs(8), NAME, Call::plain(2, Duration::from_millis(150)));
}

/// The only pod crashes again and again, while requests wait.
fn crashing(stage: &mut Stage<'_>) {
    let habit = *stage.chance.pick(&[Habit::Well, Habit::Slow]);
    stage.apply(Duration::ZERO, &Wanted { habit, timeout_s: 60, ..service(NAME) });
    let at = stage.between(2_000, 12_000);
    stage.call(at, NAME, Call::plain(4, Duration::from_secs(2)));
    for _ in 0..3 {
        let fault = Fault::CrashPod(stage.chance.below(100), stage.between(500, 6_000));
        stage.breaks(at + stage.between(200, 12_000), fault);
    }
    stage.call(at + stage.between(1_000, 9_000), NAME, Call::plain(2, Duration::from_millis(150)));
}
