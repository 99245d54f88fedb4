//! How many tokens an answer has cost, read from the answer as it passes.
//!
//! Pure. An answer is neither kept nor changed: [`AnswerScan`] takes its bytes in whatever parts they
//! come, and holds the same few bytes however long it is.

use self::events::EventScan;
use self::scan::JsonScan;

mod events;
mod scan;

pub(crate) use self::scan::Usage;

/// Reads one answer.
#[derive(Debug)]
pub(crate) enum AnswerScan {
    /// One JSON object.
    Json(JsonScan),
    /// A stream of events, and how many of them had a piece of the answer.
    Events(EventScan, u64),
}

// === impl AnswerScan ===

impl AnswerScan {
    /// Reads one JSON object.
    pub(crate) fn json() -> Self {
        Self::Json(JsonScan::default())
    }

    /// Reads a stream of events.
    pub(crate) fn events() -> Self {
        Self::Events(EventScan::default(), 0)
    }

    /// Reads a part; returns how many events with a piece of the answer have ended in it.
    pub(crate) fn part(&mut self, bytes: &[u8]) -> u32 {
        match self {
            Self::Json(scan) => {
                scan.part(bytes);
                0
            }
            Self::Events(scan, all) => {
                let pieces = scan.part(bytes);
                *all += u64::from(pieces);
                pieces
            }
        }
    }

    /// What the answer has cost so far, as it says itself. A stream that does not say it, or has not
    /// yet when it is broken off, has cost a token for each event with a piece of the answer: engines
    /// send an event for each, some for several.
    pub(crate) fn usage(&self) -> Usage {
        match self {
            Self::Json(scan) => scan.found().usage,
            Self::Events(scan, pieces) => {
                let said = scan.usage();
                Usage { completion: said.completion.max(*pieces), ..said }
            }
        }
    }
}

#[cfg(test)]
mod tests;
