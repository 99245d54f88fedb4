//! Notices to people, as Events of Revisions: `kubectl describe revision` shows them.

use std::time::Duration;

use ebb_api::serving::Revision;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::event::RevisionNotice;
use crate::writer::FIELD_MANAGER;

/// Most notices that wait. One cause holds up thousands of revisions at once: the first few notices
/// name it, the metrics count the rest, and an API server in trouble is spared.
const NOTICES_MAX: usize = 64;
/// Longest time for one Event.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Action of the Events.
const ACTION: &str = "Scaling";

/// Writes notices as Events. Nothing is started before the first notice.
pub struct Notices {
    client: Client,
    dropped: Counter,
    /// Ends with its owner: the autoscaler that decides next repeats an Event that was not written.
    publishing: Option<(mpsc::Sender<RevisionNotice>, AbortOnDropHandle<()>)>,
}

// === impl Notices ===

impl Notices {
    /// A writer of Events; `dropped` counts notices for which there was no room.
    pub fn new(client: Client, dropped: Counter) -> Self {
        Self { client, dropped, publishing: None }
    }

    /// Hands a notice over and returns at once. Must be called within a Tokio runtime.
    pub fn tell(&mut self, notice: RevisionNotice) {
        // The publisher ends only by a panic. The next notice gets a new publisher, for one Event
        // that cannot be written is no reason to end the autoscaler.
        self.publishing.take_if(|(_, task)| task.is_finished());
        let (queue, _) = self.publishing.get_or_insert_with(|| {
            let (queue, notices) = mpsc::channel(NOTICES_MAX);
            let publishing = tokio::spawn(publish(self.client.clone(), notices));
            (queue, AbortOnDropHandle::new(publishing))
        });
        if queue.try_send(notice).is_err() {
            self.dropped.inc();
        }
    }
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").field("publishing", &self.publishing).finish_non_exhaustive()
    }
}

async fn publish(client: Client, mut notices: mpsc::Receiver<RevisionNotice>) {
    let recorder = Recorder::new(client, Reporter::from(FIELD_MANAGER));
    while let Some(RevisionNotice { key, uid, reason, note }) = notices.recv().await {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: ACTION.to_owned(),
            secondary: None,
        };
        let revision = ObjectReference {
            api_version: Some(Revision::api_version(&()).into_owned()),
            kind: Some(Revision::kind(&()).into_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        match tokio::time::timeout(PUBLISH_TIMEOUT, recorder.publish(&event, &revision)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(revision.name = %key, %error, "An Event was not written");
            }
            Err(_) => tracing::warn!(revision.name = %key, "No answer about an Event in time"),
        }
    }
}
