//! The few fields of a Revision that scaling needs: thousands of these are held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::condition::Condition;
use ebb_api::config::Config;
use ebb_api::report::RevisionKey;

use crate::spec::ScalingSpec;

/// The kept fields of a Revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScaleTarget {
    /// Namespace and name; shared with each decision that is shown.
    pub key: Arc<RevisionKey>,
    /// A name can be used again: another UID is another revision.
    pub uid: String,
    /// Most requests at once in one replica; 0 means no limit.
    pub container_concurrency: i64,
    /// Whether a Route may send requests.
    pub is_reachable: bool,
    /// Which go first when there is no room for all: the higher.
    pub priority: i16,
    /// How long a start takes, if that was measured.
    pub start: Option<Duration>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its labels, for the metrics.
    pub labels: BTreeMap<String, String>,
    /// Whether its status tells that the initial scale was reached once.
    pub is_initialized: bool,
    /// The version of the object.
    pub version: u64,
    /// The replicas that its status asks for; `None` before the first time.
    pub desired: Option<u32>,
    /// The condition `Active` in its status.
    pub active: Option<Condition>,
}

// === impl ScaleTarget ===

impl ScaleTarget {
    /// The parameters of its scaling under these settings.
    pub fn resolve(&self, config: &Config) -> ScalingSpec {
        let Self { container_concurrency, is_reachable, annotations, .. } = self;
        ScalingSpec::resolve(*container_concurrency, *is_reachable, annotations, config)
    }
}
