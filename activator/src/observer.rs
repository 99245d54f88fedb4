//! Traits for the receivers of load reports, and of events that a person may want to see.

use std::sync::Arc;
use std::time::Duration;

use ebb_api::report::{Report, RevisionKey};
use tokio::time::Instant;

/// Takes the reports of load; the autoscaler, or a stream to it.
pub trait ReportSink: Send + Sync {
    /// Called once a second, and from the request path for a first request: must not block.
    fn report(&self, report: Report);

    /// How long no autoscaler has answered; `None` where the autoscaler is part of this process and
    /// always hears.
    fn silence(&self, now: Instant) -> Option<Duration> {
        let _ = now;
        None
    }
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request waits and there is no pod for it.
    Waking {
        /// The revision.
        revision: RevisionKey,
    },
    /// The first pod since [`Event::Waking`] is ready.
    Ready {
        /// The revision.
        revision: RevisionKey,
        /// How long the first request has waited.
        took: Duration,
    },
    /// The last pod is gone.
    Asleep {
        /// The revision.
        revision: RevisionKey,
    },
    /// All pods failed; waiting requests were refused.
    Failed {
        /// The revision.
        revision: RevisionKey,
        /// Why.
        reason: Arc<str>,
    },
}

/// Receives events.
pub trait Observer: Send + Sync {
    /// Called from the request path: must not block.
    fn event(&self, event: Event);
}

/// Ignores events.
impl Observer for () {
    fn event(&self, _event: Event) {}
}
