//! The inputs of [`super::Room`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::pod::{Amounts, MEMORY};
use ebb_api::report::RevisionKey;
use tokio::time::Instant;

/// What a model is taken to need for a start that was never measured.
const START_UNKNOWN: Duration = Duration::from_secs(10);
/// Most that the start of a model adds to the residency: nobody waits longer for an idle replica.
const RESIDENCY_MAX: Duration = Duration::from_mins(1);
/// How many starts long a turn is, and at most: a quarter of the time goes to starts.
const TURN_STARTS: u32 = 3;
const TURN_MAX: Duration = Duration::from_mins(3);
/// Bytes of one unit of memory; for devices a unit is one of them.
const MEMORY_UNIT: f64 = 1_073_741_824.0;
/// Least part of a unit that counts as held, for what holds next to nothing would be worth anything.
const UNITS_MIN: f64 = 1.0 / 64.0;

/// An amount that a claim needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The resource.
    pub resource: String,
    /// How much: what is lacking, or the whole of what the pod asks for where nobody says that.
    pub amount: u64,
    /// Whether it is what is lacking.
    pub is_lack: bool,
}

/// A pod that holds something.
#[derive(Clone, Debug)]
pub struct Holder<'a> {
    /// Its revision.
    pub revision: Arc<RevisionKey>,
    /// Its UID.
    pub uid: &'a Arc<str>,
    /// The node that it runs on.
    pub node: &'a str,
    /// What it holds.
    pub amounts: &'a Amounts,
    /// Whether it is being deleted.
    pub is_ending: bool,
    /// How long it has been ready; `None` if it is not.
    pub ready_for: Option<Duration>,
    /// Whether no activator has a request in it.
    pub is_idle: bool,
    /// Whether its model sleeps in it.
    pub is_asleep: bool,
}

/// A revision some of whose pods hold something.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tenant {
    /// Its priority: the higher stays longer.
    pub priority: i16,
    /// Replicas asked for now.
    pub scale: u32,
    /// Replicas that it keeps: its min-scale, its initial scale until it was reached, or the last one
    /// where none may scale to zero.
    pub floor: u32,
    /// Whether requests wait for it, or pods of it wait for room: it lets nothing go unless it is
    /// another's turn.
    pub is_pressed: bool,
    /// The clock when it was last used.
    pub level: f64,
    /// When it was last used.
    pub used: Option<Instant>,
    /// How long its start takes, if that was measured.
    pub start: Option<Duration>,
}

/// A pod that waits for room.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its UID.
    pub uid: Arc<str>,
    /// Its revision.
    pub revision: Arc<RevisionKey>,
    /// The revision's priority.
    pub priority: i16,
    /// Whether it is the first pod of its revision: a request may wait.
    pub is_wake: bool,
    /// Whether anybody wants it: a request, or the revision's lower bounds.
    pub is_wanted: bool,
    /// The resources that no node has enough of.
    pub needs: Vec<Need>,
}

/// All pods, as far as room is concerned.
#[derive(Debug, Default)]
pub struct RoomScene<'a> {
    /// The pods that wait for room.
    pub waiting: Vec<Waiting>,
    /// The pods that hold something.
    pub holders: Vec<Holder<'a>>,
    /// The revisions of those pods.
    pub tenants: BTreeMap<Arc<RevisionKey>, Tenant>,
    /// Whether replicas may be chosen now: not while a part of the load is unknown.
    pub may_choose: bool,
}

// === impl Tenant ===

impl Tenant {
    /// How long a replica of it stays once it is ready: as long as its start took, so that models spend
    /// no more time on starts than ready.
    pub(super) fn residency(&self, least: Duration) -> Duration {
        least.max(self.usual_start().min(RESIDENCY_MAX))
    }

    /// The same for one that is in use. Its clients wait once it goes, so that it stays longer than an
    /// idle one.
    pub(super) fn turn(&self, least: Duration) -> Duration {
        least.max((self.usual_start() * TURN_STARTS).min(TURN_MAX))
    }

    fn usual_start(&self) -> Duration {
        self.start.unwrap_or(START_UNKNOWN)
    }

    /// What a replica of it is worth that holds so much of a resource: seconds of its start for each
    /// unit, on top of the clock.
    pub(super) fn worth(&self, resource: &str, amount: u64) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a size is no exact number here")]
        let amount = amount as f64;
        let units = if resource == MEMORY { amount / MEMORY_UNIT } else { amount };
        let start = self.usual_start().as_secs_f64().max(1.0);
        self.level + start / units.max(UNITS_MIN)
    }
}
