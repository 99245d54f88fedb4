//! What breaks.

use std::fmt;
use std::time::Duration;

use super::{Act, LENGTH_MS, QUIET_MS, Step};
use crate::api_link::Weather;
use crate::chance::Chance;
use crate::parts::Part;

/// One of the processes of a part, by the order of their names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot(pub(crate) Part, pub(crate) usize);

/// Something that breaks, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A process ends at once and is started again after the time.
    Kill(Slot, Duration),
    /// A process ends at one of its next writes, before it or after it.
    KillAtWrite { slot: Slot, number: u32, is_after: bool, down: Duration },
    /// The autoscaler that leads ends when it has marked a pod for deletion, and before it has lowered
    /// the scale.
    KillAtMark(Duration),
    /// A process stands still at one of its next writes, which arrives when it goes on.
    PauseAtWrite { slot: Slot, number: u32, time: Duration },
    /// A process stands still.
    Pause(Slot, Duration),
    /// A pod is replaced, in order.
    Upgrade(Slot),
    /// Nothing arrives from one at the other, nor back if `both`.
    Cut { from: Slot, to: Slot, both: bool, time: Duration },
    /// Bytes between two take longer.
    Lag { from: Slot, to: Slot, lag: Duration, time: Duration },
    /// The API server is so for one process.
    Sky(Slot, Weather, Duration),
    /// The API server is so for all.
    AllSkies(Weather, Duration),
    /// A pod's process ends; the number chooses which.
    CrashPod(usize, Duration),
    /// A pod's readiness probe fails.
    UnwellPod(usize, Duration),
    /// A Service, by number, is deleted and made again at once, and nobody hears of its pods.
    Remake(usize),
    /// A pod's machine is lost.
    LosePod(usize),
    /// A pod breaks off every request; its readiness probe succeeds.
    SickPod(usize, Duration),
    /// The wall clock is wrong.
    Clock { by: Duration, is_ahead: bool, time: Duration },
}

/// How often each kind of fault is drawn.
const WEIGHTS: [(u32, u8); 15] = [
    (5, 0),
    (3, 1),
    (3, 2),
    (4, 3),
    (1, 4),
    (5, 5),
    (2, 6),
    (3, 7),
    (2, 8),
    (2, 9),
    (1, 10),
    (5, 11),
    (2, 12),
    (2, 13),
    (2, 14),
];

/// The faults of a world, and no more than `most`.
pub(super) fn all(chance: &Chance, most: usize, steps: &mut Vec<Step>) {
    for _ in 0..chance.below(most + 1) {
        let at = chance.between(QUIET_MS, LENGTH_MS);
        steps.push(Step { at, act: Act::Break(one(chance)) });
    }
}

fn one(chance: &Chance) -> Fault {
    let time = match chance.below(3) {
        0 => chance.between(100, 2_000),
        1 => chance.between(2_000, 10_000),
        _ => chance.between(10_000, 45_000),
    };
    let pod = chance.below(100);
    match *chance.weighted(&WEIGHTS) {
        0 => Fault::Kill(slot(chance), chance.between(0, 4_000)),
        1 => Fault::Pause(slot(chance), time),
        2 => Fault::Upgrade(slot(chance)),
        3 => {
            let (from, to) = link(chance);
            Fault::Cut { from, to, both: chance.one_in(2), time }
        }
        4 => {
            let (from, to) = link(chance);
            Fault::Lag { from, to, lag: chance.between(20, 1_500), time }
        }
        5 => Fault::Sky(slot(chance), weather(chance), time),
        6 => Fault::AllSkies(weather(chance), time),
        7 => Fault::CrashPod(pod, chance.between(200, 8_000)),
        8 => Fault::UnwellPod(pod, time),
        9 => Fault::LosePod(pod),
        11 => Fault::KillAtWrite {
            slot: Slot(*chance.pick(&[Part::Autoscaler, Part::Controller]), chance.below(6)),
            number: 1 + *chance.pick(&[0, 1, 2, 3, 5, 9]),
            is_after: chance.one_in(2),
            down: chance.between(0, 4_000),
        },
        12 => Fault::SickPod(pod, time),
        13 => Fault::Remake(pod),
        14 => Fault::PauseAtWrite {
            slot: Slot(*chance.pick(&[Part::Autoscaler, Part::Controller]), chance.below(6)),
            number: 1 + *chance.pick(&[0, 1, 2, 3, 5, 9]),
            time,
        },
        _ => Fault::Clock {
            by: *chance.pick(&[Duration::from_secs(10), Duration::from_hours(1)]),
            is_ahead: chance.one_in(2),
            time,
        },
    }
}

fn slot(chance: &Chance) -> Slot {
    let part =
        *chance.weighted(&[(3, Part::Activator), (3, Part::Autoscaler), (2, Part::Controller)]);
    Slot(part, chance.below(6))
}

/// Two ends of a link: reports and orders, or the hop from one activator to another.
fn link(chance: &Chance) -> (Slot, Slot) {
    let activator = Slot(Part::Activator, chance.below(6));
    let other = match chance.below(3) {
        0 => Slot(Part::Activator, activator.1 + 1),
        _ => Slot(Part::Autoscaler, chance.below(6)),
    };
    if chance.one_in(2) { (activator, other) } else { (other, activator) }
}

fn weather(chance: &Chance) -> Weather {
    match chance.below(9) {
        0 => Weather::Refuses,
        7 => Weather::StalledOne(["pods", "revisions", "routes"][chance.below(3)]),
        8 => Weather::Forbids,
        1 => Weather::Silent,
        2 => Weather::Slow(*chance.pick(&[200, 2_000, 6_000])),
        3 => Weather::Fails(*chance.pick(&[1, 2, 4])),
        4 => Weather::Stalled,
        5 => Weather::Late(*chance.pick(&[200, 2_000])),
        _ => Weather::Gone,
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.0 {
            Part::Activator => "activator",
            Part::Autoscaler => "autoscaler",
            Part::Controller => "controller",
        };
        write!(formatter, "{word} no. {}", self.1)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(slot, down) => {
                write!(formatter, "{slot} is killed, and started after {down:?}")
            }
            Self::KillAtWrite { slot, number, is_after, down } => {
                let when = if *is_after { "after" } else { "before" };
                write!(
                    formatter,
                    "{slot} is killed {when} write no. {number}, and started after {down:?}"
                )
            }
            Self::KillAtMark(down) => {
                write!(formatter, "the autoscaler is killed at a mark, and started after {down:?}")
            }
            Self::PauseAtWrite { slot, number, time } => {
                write!(formatter, "{slot} stands still at write no. {number} for {time:?}")
            }
            Self::Pause(slot, time) => write!(formatter, "{slot} stands still for {time:?}"),
            Self::Upgrade(slot) => write!(formatter, "{slot} is replaced"),
            Self::Cut { from, to, both, time } => {
                let back = if *both { " and back" } else { "" };
                write!(formatter, "the link from {from} to {to}{back} is cut for {time:?}")
            }
            Self::Lag { from, to, lag, time } => {
                write!(formatter, "the link from {from} to {to} takes {lag:?} for {time:?}")
            }
            Self::Sky(slot, weather, time) => {
                write!(formatter, "for {slot} the API server is {weather:?} for {time:?}")
            }
            Self::AllSkies(weather, time) => {
                write!(formatter, "the API server is {weather:?} for {time:?}")
            }
            Self::CrashPod(_, back_off) => {
                write!(formatter, "a pod crashes, back after {back_off:?}")
            }
            Self::UnwellPod(_, time) => write!(formatter, "a pod is not ready for {time:?}"),
            Self::SickPod(_, time) => {
                write!(formatter, "a pod breaks off every request for {time:?}")
            }
            Self::Remake(_) => {
                formatter.write_str("a Service is made anew while nobody hears of pods")
            }
            Self::LosePod(_) => formatter.write_str("a pod's machine is lost"),
            Self::Clock { by, is_ahead, time } => {
                let word = if *is_ahead { "ahead" } else { "behind" };
                write!(formatter, "the wall clock is {by:?} {word} for {time:?}")
            }
        }
    }
}
