//! The events that the autoscaler takes and the actions it asks for: the whole surface of its core.

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
use crate::scale_target::ScaleTarget;
use crate::spec::Metric;
use crate::standby::{StandbyAnswer, StandbyCall};

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
    /// All Revisions there are; one that is missing here is gone.
    TargetsListed(Vec<ScaleTarget>),
    /// A Revision was made or changed.
    TargetApplied(Box<ScaleTarget>),
    /// A Revision was deleted.
    TargetDeleted {
        /// The Revision.
        key: RevisionKey,
        /// Its UID: another Revision of the same name may be there already.
        uid: String,
    },
    /// A Revision is there that is another autoscaler's, and may have been this one's before.
    TargetLeft {
        /// The Revision.
        key: RevisionKey,
        /// Its UID.
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
    /// All existing pods of activators, by the names that the activators report under.
    Activators(BTreeMap<String, ReporterPod>),
    /// The settings changed.
    Config(Arc<Config>),
    /// Everything there was to write for a revision is written.
    Written {
        /// The revision.
        key: RevisionKey,
        /// Its status after that.
        seen: Seen,
    },
    /// The scale was not the one that a write expected, so nothing was written.
    Refused(RevisionKey),
    /// A call to a pod with standby has ended.
    Answered(StandbyAnswer),
    /// The term in which this autoscaler leads from now on; `None` if it does not lead. A standby
    /// keeps what the activators report, so that it can take over at once, and decides nothing.
    Leads(Option<Epoch>),
    /// Time has passed; see [`crate::Fleet::deadline`].
    Tick,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell every activator.
    Drain(DrainOrder),
    /// Tell this activator to begin its stream anew with a full report: it reports changes of a
    /// state that is not known here.
    BeginAnew(String),
    /// Write to the API server. A newer write for the same revision replaces one that has not
    /// begun, and [`FleetEvent::Written`] follows when none is left.
    Write(Box<Write>),
    /// Call a pod with standby; [`FleetEvent::Answered`] follows.
    Call(Box<StandbyCall>),
    /// Show the numbers of a revision.
    Measure(Arc<RevisionKey>, Measures),
    /// Tell people something about a revision.
    Notice(Box<RevisionNotice>),
    /// The revision is gone: forget its numbers and its writes.
    Forget(RevisionKey),
}

/// The order of writes when not all can be made: the first variant goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// From zero: a request may wait.
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
    /// Its UID; a Revision made anew under the same name is left alone.
    pub uid: String,
    /// How urgent the scale is.
    pub urgency: Urgency,
    /// Whether this scale removes pods: the marks are then written before it, else after it.
    pub is_lowering: bool,
    /// Deletion cost of pods by name; `None` removes it.
    pub marks: BTreeMap<String, Option<i32>>,
    /// The replicas that the API server was last known to ask for, if any. If it asks for others by
    /// now, the decision is outdated and the write is refused.
    pub known: Option<u32>,
    /// The version of the Revision last known: the write's condition where `known` is `None`.
    pub version: u64,
    /// The replicas to ask for; `None` if only marks are left to write.
    pub desired: Option<u32>,
}

/// A message to people about a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionNotice {
    /// The revision.
    pub key: RevisionKey,
    /// Its UID.
    pub uid: String,
    /// The Event's reason, a word.
    pub reason: &'static str,
    /// What is the matter, why, and what to look at.
    pub note: String,
}

/// The numbers of one revision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// The unit of the load.
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
