//! What a seed makes of a world: what is deployed, called and broken, and when.
//!
//! A plan is made whole before the world begins, and from the seed alone. So the steps can be left
//! out one by one, to see which of them a failure needs.

use std::fmt;
use std::time::Duration;

use crate::chance::Chance;
use crate::identity::Habit;

mod faults;
mod loads;
mod scenes;

pub(crate) use faults::{Fault, Slot};

/// How long things go on. Idle revisions fall asleep in it: the window is six seconds.
const LENGTH_MS: u64 = 60_000;
/// When the first fault may begin: until then the platform starts.
const QUIET_MS: u64 = 6_000;

/// Most faults of one world: with more, everything is excused by something.
const FAULTS_MAX: usize = 6;
/// Most faults beside a scene.
const FAULTS_BESIDE_MAX: usize = 2;

/// Purpose of the plan's chance.
const PURPOSE: u64 = 1;

/// What happens in a world.
pub(crate) struct Plan {
    /// In the order of time.
    pub(crate) steps: Vec<Step>,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) act: Act,
}

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A Service is applied: made, or changed.
    Apply(Wanted),
    /// A Service is deleted.
    Delete(String),
    /// Requests come to a Service at once.
    Call(String, Call),
    /// A setting of a ConfigMap is changed.
    Configure(&'static str, &'static str, String),
    /// Something breaks.
    Break(Fault),
}

/// A Service as a user wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    /// Counts the changes of the template: each makes a Revision.
    pub(crate) generation: u32,
    pub(crate) limit: u32,
    pub(crate) timeout_s: u64,
    pub(crate) habit: Habit,
    pub(crate) min_scale: u32,
    /// Whether half of the traffic stays with the first Revision.
    pub(crate) is_split: bool,
    pub(crate) is_h2: bool,
    /// Whether it is a Configuration and a Route instead of a Service; deleting it deletes the Route.
    pub(crate) is_pair: bool,
}

/// Requests of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) count: u32,
    pub(crate) work: Duration,
    pub(crate) parts: u64,
    pub(crate) upload: usize,
    pub(crate) framing: Framing,
    /// Whether they come one after the other on one connection, instead of at once.
    pub(crate) is_kept: bool,
    pub(crate) leaves_after: Option<Duration>,
    /// Whether it comes to the outer door, where nobody knows the host.
    pub(crate) is_outside: bool,
}

/// How the bodies of a request and its answer end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Nobody says before how long they are.
    Open,
    /// Their lengths are said before them.
    Sized,
    /// Trailers come after them.
    Trailers,
}

impl Call {
    /// So many short requests at once, without bodies.
    pub(crate) const fn plain(count: u32, work: Duration) -> Self {
        Self {
            count,
            work,
            parts: 1,
            upload: 0,
            framing: Framing::Open,
            is_kept: false,
            leaves_after: None,
            is_outside: false,
        }
    }

    /// How long the model works until the first part of its answer, and between two.
    pub(crate) fn step(&self) -> Duration {
        self.work / u32::try_from(self.parts).unwrap_or(1)
    }
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let chance = Chance::new(seed, PURPOSE);
        let mut steps = Vec::new();
        // Beside a scene there is less: what happens there is excused by less.
        let has_scene = scenes::scene(&chance, &mut steps);
        let (services, faults) = if has_scene {
            (chance.below(2), FAULTS_BESIDE_MAX)
        } else {
            (1 + chance.below(3), FAULTS_MAX)
        };
        for index in 0..services {
            loads::service(&chance, index, &mut steps);
        }
        loads::settings(&chance, &mut steps);
        faults::all(&chance, faults, &mut steps);
        // A stable sort: steps at one time stay in the order in which they were drawn.
        steps.sort_by_key(|step| step.at);
        Self { steps }
    }

    /// The steps, one a line.
    pub(crate) fn text(&self) -> String {
        let line = |step: &Step| format!("{:>9.3} s  {}\n", step.at.as_secs_f64(), step.act);
        self.steps.iter().map(line).collect()
    }

    /// The plan without the steps of these numbers.
    pub(crate) fn without(mut self, left_out: &[usize]) -> Self {
        let mut number = 0;
        self.steps.retain(|_| {
            number += 1;
            !left_out.contains(&(number - 1))
        });
        self
    }
}

impl fmt::Display for Act {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply(wanted) => {
                let Wanted { name, generation, limit, timeout_s, habit, min_scale, .. } = wanted;
                let Wanted { is_split, is_h2, is_pair, .. } = wanted;
                write!(
                    formatter,
                    "{name} is applied, generation {generation}: limit {limit}, timeout {timeout_s} s, {habit:?}, min-scale {min_scale}"
                )?;
                let more = [
                    (*is_split, ", split"),
                    (*is_h2, ", h2c"),
                    (*is_pair, ", as Configuration and Route"),
                ];
                more.iter()
                    .filter(|(is_so, _)| *is_so)
                    .try_for_each(|(_, word)| formatter.write_str(word))
            }
            Self::Delete(name) => write!(formatter, "{name} is deleted"),
            Self::Call(name, call) => {
                write!(formatter, "{} requests to {name}: {call}", call.count)
            }
            Self::Configure(map, key, value) => write!(formatter, "{map}: {key} becomes {value}"),
            Self::Break(fault) => write!(formatter, "{fault}"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, parts, upload, .. } = self;
        write!(formatter, "work {work:?} in {parts} parts, {upload} bytes up")?;
        let more = [
            (self.framing == Framing::Sized, ", of a length that is said"),
            (self.framing == Framing::Trailers, ", with trailers"),
            (self.is_kept, ", on one connection"),
            (self.is_outside, ", at the outer door"),
        ];
        for (_, word) in more.iter().filter(|(is_so, _)| *is_so) {
            formatter.write_str(word)?;
        }
        match self.leaves_after {
            Some(after) => write!(formatter, ", their clients leave after {after:?}"),
            None => Ok(()),
        }
    }
}
