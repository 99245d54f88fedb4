//! What clients that read events are sent while they wait for a model:
//! `serving.ebb.dev/waiting-events` on a template.

use std::collections::BTreeMap;

use crate::annotations::Key;

/// The annotation of a template.
pub const WAITING_EVENTS: Key = Key(&["serving.ebb.dev/waiting-events"]);

/// What a wait looks like in a stream of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitingEvents {
    /// Comments, which every reader of events passes over.
    #[default]
    Comments,
    /// Events named `waiting`, with the phase and the usual time as JSON.
    Progress,
    /// Chunks of a chat completion whose `reasoning_content` says it, for programs that show what a
    /// model thinks.
    Reasoning,
}

/// What is wrong with the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be \"comments\", \"progress\" or \"reasoning\"")]
pub struct WaitingEventsError;

// === impl WaitingEvents ===

impl WaitingEvents {
    /// The form with this name.
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "comments" => Some(Self::Comments),
            "progress" => Some(Self::Progress),
            "reasoning" => Some(Self::Reasoning),
            _ => None,
        }
    }

    /// What a Revision's annotations say; comments where they say nothing.
    ///
    /// # Errors
    ///
    /// The annotation is none of the three words.
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Result<Self, WaitingEventsError> {
        match WAITING_EVENTS.get(annotations).unwrap_or_default() {
            "" => Ok(Self::default()),
            word => Self::of_word(word).ok_or(WaitingEventsError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_three_words_can_be_meant() {
        let said = |text: &str| {
            let annotations = BTreeMap::from([(WAITING_EVENTS.name().to_owned(), text.to_owned())]);
            WaitingEvents::of(Some(&annotations))
        };
        assert_eq!(said("progress"), Ok(WaitingEvents::Progress));
        assert_eq!(said("reasoning"), Ok(WaitingEvents::Reasoning));
        assert_eq!((said("comments"), said("")), (Ok(WaitingEvents::Comments), said("comments")));
        assert_eq!(WaitingEvents::of(None), Ok(WaitingEvents::Comments));
        assert_eq!((said("yes"), said("Progress")), (Err(WaitingEventsError), said("yes")));
    }
}
