//! The report link in memory: on a cluster it is a stream between two processes.

use std::sync::{Arc, OnceLock};

use ebb_activator::{Activator, Observer, ReportSink};
use ebb_api::report::{DrainOrder, Report};
use ebb_autoscaler::{DrainControl, Intake};

use crate::terminal::{Terminal, TerminalEvent};

/// Takes reports up to the autoscaler.
pub(super) struct Up(pub(super) Intake);

/// Takes orders down to the activator. The autoscaler needs this end before the activator is made.
#[derive(Clone, Default)]
pub(super) struct Down(Arc<OnceLock<Activator>>);

/// Shows what happens to revisions.
pub(super) struct Narrator(pub(super) Terminal);

impl Down {
    /// Ties the activator to this end; once.
    pub(super) fn tie(&self, activator: Activator) {
        let tied = self.0.set(activator);
        debug_assert!(tied.is_ok(), "the link is tied once");
    }
}

impl ReportSink for Up {
    fn report(&self, report: Report) {
        self.0.record(report);
    }
}

impl DrainControl for Down {
    fn drain(&self, order: DrainOrder) {
        if let Some(activator) = self.0.get() {
            activator.drain(&order);
        }
    }
}

impl Observer for Narrator {
    fn event(&self, event: ebb_activator::Event) {
        use ebb_activator::Event as Seen;
        self.0.show(&match event {
            Seen::Waking { revision } => TerminalEvent::Waking { revision: revision.to_string() },
            Seen::Ready { revision, took } => TerminalEvent::Ready {
                revision: revision.to_string(),
                took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            },
            Seen::Asleep { revision } => TerminalEvent::Asleep { revision: revision.to_string() },
            // `news` tells it from the Revision's condition, with the exit code.
            Seen::Failed { .. } => return,
        });
    }
}
