//! What a client that reads events is told while it waits.

use bytes::Bytes;
use ebb_api::waiting_events::WaitingEvents;
use http::Request;
use http::header::HeaderName;
use serde_json::json;

use crate::revision::StartView;
use crate::upload::Upload;

/// The header by which a client says what it wants, whatever the Revision says.
pub(super) const WAITING_EVENTS: HeaderName = HeaderName::from_static("ebb-waiting-events");

/// The path of the only API whose clients know `reasoning_content`.
const CHAT: &str = "/chat/completions";

/// How the client of one request is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notes {
    form: WaitingEvents,
    /// The Revision's name, in the place of the model's: the body is not read again for it.
    revision: String,
}

// === impl Notes ===

impl Notes {
    /// `form` is the Revision's. A word that the client does not know better is passed over.
    pub(super) fn of(request: &Request<Upload>, form: WaitingEvents, revision: &str) -> Self {
        let asked = request.headers().get(WAITING_EVENTS).and_then(|word| word.to_str().ok());
        let form = match asked.and_then(WaitingEvents::of_word).unwrap_or(form) {
            // In any other stream such a chunk means nothing.
            WaitingEvents::Reasoning if !request.uri().path().ends_with(CHAT) => {
                WaitingEvents::Comments
            }
            form => form,
        };
        Self { form, revision: revision.to_owned() }
    }

    /// One event. `now_s` are seconds since 1970.
    pub(super) fn event(&self, start: Option<StartView>, now_s: u64) -> Bytes {
        let said = sentence(start);
        Bytes::from(match self.form {
            WaitingEvents::Comments => format!(": {said}\n\n"),
            WaitingEvents::Progress => {
                let seconds = |time: std::time::Duration| time.as_secs();
                let told = json!({
                    "message": said,
                    "phase": start.map(|start| start.phase.word()),
                    "waking_for_s": start.and_then(|start| start.lasts).map(seconds),
                    "usual_start_s": start.and_then(|start| start.usual).map(seconds),
                });
                format!("event: waiting\ndata: {told}\n\n")
            }
            WaitingEvents::Reasoning => {
                let delta = json!({"reasoning_content": format!("{said}\n")});
                let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
                let told = json!({
                    "id": "chatcmpl-waiting",
                    "object": "chat.completion.chunk",
                    "created": now_s,
                    "model": self.revision,
                    "choices": [choice],
                });
                // The comment keeps it from being counted as a token, here or behind another activator.
                format!(": ebb-waiting\ndata: {told}\n\n")
            }
        })
    }
}

/// Words for people who look at the stream.
fn sentence(start: Option<StartView>) -> String {
    let Some(StartView { phase, lasts, usual }) = start else {
        return "waiting for the model to take or answer the request".to_owned();
    };
    let lasts = lasts.map(|lasts| format!(", {} s", lasts.as_secs())).unwrap_or_default();
    let usual = usual.map(|usual| format!(", usually {} s", usual.as_secs())).unwrap_or_default();
    format!("waiting for the model: {}{lasts}{usual}", phase.word())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ebb_api::start_phase::StartPhase;

    use super::*;

    fn told(path: &str, asked: Option<&str>, form: WaitingEvents) -> String {
        let mut request = Request::post(path).body(Upload::Empty).expect("a request");
        if let Some(word) = asked {
            request.headers_mut().insert(WAITING_EVENTS, word.parse().expect("a value"));
        }
        let start = StartView {
            phase: StartPhase::Loading,
            lasts: Some(Duration::from_millis(12_300)),
            usual: Some(Duration::from_secs(40)),
        };
        let event = Notes::of(&request, form, "qwen-00001").event(Some(start), 1_700_000_000);
        String::from_utf8(event.to_vec()).expect("text")
    }

    const CHAT: &str = "/v1/chat/completions";

    #[test]
    fn a_client_is_told_as_it_asks_and_else_as_the_revision_says() {
        let comment = ": waiting for the model: loading, 12 s, usually 40 s\n\n";
        assert_eq!(told(CHAT, None, WaitingEvents::Comments), comment);
        assert_eq!(told(CHAT, Some("comments"), WaitingEvents::Progress), comment);
        assert_eq!(told(CHAT, Some("loud"), WaitingEvents::Comments), comment);
        let progress = told(CHAT, Some("progress"), WaitingEvents::Comments);
        assert_eq!(
            progress,
            "event: waiting\ndata: {\"message\":\"waiting for the model: loading, 12 s, usually 40 \
             s\",\"phase\":\"loading\",\"usual_start_s\":40,\"waking_for_s\":12}\n\n"
        );
    }

    #[test]
    fn chunks_are_for_chats_alone() {
        let chunk = told(CHAT, None, WaitingEvents::Reasoning);
        let data =
            chunk.strip_prefix(": ebb-waiting\ndata: ").and_then(|data| data.strip_suffix("\n\n"));
        let chunk: serde_json::Value = serde_json::from_str(data.expect("an event")).expect("JSON");
        assert_eq!(chunk["object"], "chat.completion.chunk");
        let said = &chunk["choices"][0]["delta"]["reasoning_content"];
        assert_eq!(said, "waiting for the model: loading, 12 s, usually 40 s\n");
        let other = told("/v1/messages", None, WaitingEvents::Reasoning);
        assert!(other.starts_with(": waiting"), "{other}");
    }
}
