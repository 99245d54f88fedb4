//! What the autoscaler is told and what it asks for: the whole surface of its core.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebb_api::config::Config;
use ebb_api::report::{DrainOrder, Report, RevisionKey};
use ebb_daemon::desired::Seen;
use ebb_daemon::lease::Epoch;
use tokio::time::Instant;

use crate::activators::ReporterPod;
use crate::decision::Averages;
use crate::pods::{PodCounts, RevisionPod};
use crate::spec::Metric;
use crate::target::ScaleTarget;

/// The present, as the core needs it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For durations: never goes back.
    pub instant: Instant,
    /// The whole second of the load windows that `instant` lies in.
    pub second: u64,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum FleetEvent {
    /// An activator reported.
    Report(Report),
    /// All Revisions there are; one that is not among them is gone.
    TargetsListed(Vec<ScaleTarget>),
    /// A Revision was made or changed.
    TargetApplied(Box<ScaleTarget>),
    /// A Revision was deleted.
    TargetDeleted {
        /// Which.
        key: RevisionKey,
        /// Its UID: one of the same name may be there already.
        uid: String,
    },
    /// All pods of revisions there are.
    PodsListed(Vec<(RevisionKey, RevisionPod)>),
    /// A pod was made or changed.
    PodApplied {
        /// The revision it belongs to.
        revision: RevisionKey,
        /// The pod.
        pod: RevisionPod,
    },
    /// A pod was deleted, or came to its end.
    PodDeleted {
        /// The revision it belonged to.
        revision: RevisionKey,
        /// Its UID.
        uid: String,
    },
    /// The activators' pods there are, all of them, by the names that activators report under.
    Activators(BTreeMap<String, ReporterPod>),
    /// The settings changed.
    Config(Arc<Config>),
    /// Everything that was to be written for a revision has been.
    Written {
        /// Which.
        key: RevisionKey,
        /// What its status said then.
        seen: Seen,
    },
    /// The scale was another one than a write was to change, so nothing was written.
    Refused(RevisionKey),
    /// In which term this autoscaler leads from now on. One that does not lead keeps what it hears,
    /// so that it can take over at once, and asks for nothing.
    Leads(Option<Epoch>),
    /// Time has passed; see [`crate::Fleet::deadline`].
    Tick,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell every activator.
    Drain(DrainOrder),
    /// Tell this activator, which says what changed since words that are not known here, to begin
    /// its stream anew, with everything.
    BeginAnew(String),
    /// Write to the API server. A newer write for the same revision replaces one that has not
    /// begun, and [`FleetEvent::Written`] follows when none is left.
    Write(Box<Write>),
    /// Show the numbers of a revision.
    Measure(Arc<RevisionKey>, Measures),
    /// Tell people something about a revision.
    Notice(Box<RevisionNotice>),
    /// The revision is gone: forget its numbers and its writes.
    Forget(RevisionKey),
}

/// What is written first where not everything can be: the first of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// From zero: somebody waits.
    Wake,
    /// More replicas.
    #[default]
    Raise,
    /// Fewer.
    Lower,
    /// Deletion costs alone.
    Mark,
}

/// What to write for one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Write {
    /// The revision.
    pub key: RevisionKey,
    /// Its UID; one that was made anew is left alone.
    pub uid: String,
    /// How urgent the scale is.
    pub urgency: Urgency,
    /// Whether pods go by this scale: the marks are then written before it, else after it.
    pub is_lowering: bool,
    /// Deletion cost of pods by name; nothing takes it away.
    pub marks: BTreeMap<String, Option<i32>>,
    /// The replicas that the API server was last known to ask for, or nothing: if it asks for
    /// others, the decision was made by a number that is no longer there.
    pub known: Option<u32>,
    /// The version of the Revision that this was known by.
    pub version: u64,
    /// The replicas to ask for; nothing if only marks are left to write.
    pub desired: Option<u32>,
}

/// What people should know of a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionNotice {
    /// The revision.
    pub key: RevisionKey,
    /// Its UID.
    pub uid: String,
    /// What is held up, why, and what to look at.
    pub note: String,
}

/// The numbers of one revision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// What the load is measured in.
    pub metric: Metric,
    /// Load that one replica should have.
    pub target: f64,
    /// Replicas that the load asks for, before any bounds.
    pub desired: Option<u32>,
    /// Replicas asked for.
    pub requested: u32,
    /// Load.
    pub averages: Option<Averages>,
    /// Burst that would fit.
    pub excess_burst: Option<f64>,
    /// Whether the short window rules.
    pub is_panicking: bool,
    /// Pods.
    pub pods: PodCounts,
}
