//! Events on objects: the few that a person looks for, each said once.
//!
//! An event is a write, so nothing is announced that `kubectl get` shows anyway.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tracing::warn;

/// Longest note that the API takes (1 kB), less room for the ellipsis.
const NOTE_BYTES_MAX: usize = 1000;

/// Something worth telling about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Whether the notice needs a person's attention.
    pub(crate) warning: bool,
    /// One word in CamelCase.
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) note: String,
}

/// Publishes notices.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Recorder,
}

// === impl Notice ===

impl Notice {
    /// Good or neutral news.
    pub(crate) fn normal(reason: &'static str, note: String) -> Self {
        Self { warning: false, reason, note }
    }

    /// News that needs a person's attention.
    pub(crate) fn warning(reason: &'static str, note: String) -> Self {
        Self { warning: true, reason, note }
    }
}

// === impl Events ===

impl Events {
    /// Publishes as the controller; repeated events become a series.
    pub(crate) fn new(client: Client) -> Self {
        let reporter = Reporter { controller: "ebb-controller".to_owned(), instance: None };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Publishes a notice about `object`. A failure is logged: an event is never worth a retry.
    pub(crate) async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, notice: Notice) {
        let Notice { warning, reason, note } = notice;
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(shortened(note)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let reference: ObjectReference = object.object_ref(&());
        if let Err(error) = self.recorder.publish(&event, &reference).await {
            warn!(%error, object.name = ?reference.name, event.reason = reason, "Cannot publish an event");
        }
    }
}

fn shortened(mut note: String) -> String {
    if note.len() > NOTE_BYTES_MAX {
        let mut end = NOTE_BYTES_MAX;
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let cut = shortened("ä".repeat(900));
        assert!(cut.len() <= 1024 && cut.ends_with('…'));
        assert_eq!(shortened("short".to_owned()), "short");
    }
}
