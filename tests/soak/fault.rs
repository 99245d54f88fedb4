//! The faults of targets T1 and T2, by their numbers in the list of goals.

use clap::ValueEnum;

/// A fault under which no request may fail, or few.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "UPPER")]
pub(crate) enum Fault {
    /// Each activator in turn is told to end, and replaced.
    F1,
    /// An activator is killed.
    F2,
    /// All autoscalers are killed, and killed again whenever they come back.
    F3,
    /// The API server is silent or refuses connections.
    F6,
    /// The API server or its store is slow.
    F7,
    /// Activators and autoscalers hear each other not at all, in one way, or half the time.
    F13,
    /// The webhook cannot be reached.
    F16,
    /// Every component is replaced by itself, one after another or all at once.
    F20,
    /// Requests come around the moment at which a service goes to sleep.
    F24,
}

impl Fault {
    /// The fault's number.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F1 => "F1",
            Self::F2 => "F2",
            Self::F3 => "F3",
            Self::F6 => "F6",
            Self::F7 => "F7",
            Self::F13 => "F13",
            Self::F16 => "F16",
            Self::F20 => "F20",
            Self::F24 => "F24",
        }
    }

    /// The fault in a few words.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::F1 => "each activator in turn ends and is replaced",
            Self::F2 => "an activator is killed",
            Self::F3 => "all autoscalers are killed, again and again",
            Self::F6 => "the API server is silent, or refuses",
            Self::F7 => "the API server or etcd is slow",
            Self::F13 => "activators and autoscalers are cut off from each other",
            Self::F16 => "the webhook cannot be reached",
            Self::F20 => "every component is replaced, one by one or at once",
            Self::F24 => "requests race the scale to zero",
        }
    }

    /// How often the fault strikes at the least, however few requests are wanted. A race to zero is
    /// a strike of its own, and six services race at once.
    pub(crate) fn strikes_min(self) -> u64 {
        if self == Self::F24 { 60 } else { 6 }
    }

    /// How many requests under the fault are wanted where a soak is asked for so many. In a race only
    /// the first request of each client counts, and a race takes some 12 s: a million would take
    /// days.
    pub(crate) fn wanted(self, requests: u64) -> u64 {
        if self == Self::F24 { requests.div_ceil(100) } else { requests }
    }

    /// The share of requests under the fault that may fail: target T2, where an activator is killed
    /// with what it has. A request that began before it was gone for a second is not under the fault.
    pub(crate) fn lost_share_max(self) -> f64 {
        if self == Self::F2 { 0.001 } else { 0.0 }
    }

    /// Whether services are woken while it is on, half of the times, and sleep when it strikes: target
    /// T3 is how long that takes.
    pub(crate) fn meets_sleepers(self) -> bool {
        self == Self::F3
    }

    /// How many services sleep and are woken.
    pub(crate) fn sleepers(self) -> usize {
        match self {
            _ if self.meets_sleepers() => 4,
            _ if self.lets_wake() => 1,
            _ => 0,
        }
    }

    /// Whether a service that sleeps can be woken under this fault: not without an API server.
    fn lets_wake(self) -> bool {
        self != Self::F6
    }
}
