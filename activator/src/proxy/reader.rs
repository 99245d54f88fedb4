//! Clients that read events, and whose response may begin before it is known.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request};
use http_body::Body as _;

use crate::headers::PEER_READS_EVENTS;
use crate::models;
use crate::models::call::ErrorForm;
use crate::upload::Upload;

/// The media type of a stream of events.
pub(super) const EVENTS: &str = "text/event-stream";
/// Most of a body that may be on its way when a response begins: it fits the buffers of a proxy.
const UNREAD_BYTES_MAX: u64 = 16 * 1024;

/// How a client that sent this head and reads nothing but events wants to be told of an error; `None`
/// for one that may take another answer, and for those whose response must not begin early.
pub(super) fn of_head(request: &Request<Upload>, is_peer: bool) -> Option<ErrorForm> {
    let headers = request.headers();
    // Another activator has looked at its client.
    let form = models::form_of(request.uri().path());
    if is_peer {
        return headers.contains_key(PEER_READS_EVENTS).then_some(form);
    }
    of_body(request, form).filter(|_| accepts_events_alone(headers))
}

/// The same of a client whose body asks for events: `form`, if its response may begin early.
pub(super) fn of_body(request: &Request<Upload>, form: ErrorForm) -> Option<ErrorForm> {
    let headers = request.headers();
    let body = request.body();
    // A proxy may stop sending a body once the response has begun, and a client that waits for "100
    // Continue" may take it for a refusal.
    let is_there = matches!(body, Upload::Whole(_)) || body.is_end_stream();
    let is_small = body.size_hint().upper().is_some_and(|bytes| bytes <= UNREAD_BYTES_MAX);
    // The model's own headers would tell a browser which pages may read the answer.
    let is_of_page = headers.contains_key(header::ORIGIN);
    let waits = headers.contains_key(header::EXPECT) && !is_there;
    let may_begin =
        *request.method() != Method::HEAD && (is_there || is_small) && !is_of_page && !waits;
    may_begin.then_some(form)
}

/// The media type that a head names, without its parameters; empty if it names none.
pub(super) fn media_of(headers: &HeaderMap) -> &[u8] {
    let media = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether events are all that a client accepts. Some take events and JSON, as the server likes.
fn accepts_events_alone(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().flat_map(|line| {
        let ranges = line.as_bytes().split(|byte| *byte == b',');
        ranges
            .map(|range| range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
    });
    let is_events = |media: &[u8]| media.eq_ignore_ascii_case(EVENTS.as_bytes());
    accepted.next().is_some_and(is_events) && accepted.all(is_events)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_who_takes_nothing_but_events_gets_any_early() {
        let asking = |accept: &'static str, path: &str| {
            Request::post(path).header(header::ACCEPT, accept).body(Upload::Empty).unwrap()
        };
        let chat = "/v1/chat/completions";
        for accept in [EVENTS, "Text/Event-Stream;q=0.5", " text/event-stream , text/event-stream"]
        {
            assert_eq!(of_head(&asking(accept, chat), false), Some(ErrorForm::OpenAi), "{accept}");
        }
        let form = of_head(&asking(EVENTS, "/v1/messages"), false);
        assert_eq!(form, Some(ErrorForm::Anthropic));
        let both = "application/json, text/event-stream";
        for accept in ["", "*/*", both, "text/event-streams", "text/*"] {
            assert_eq!(of_head(&asking(accept, chat), false), None, "{accept}");
        }
        for (name, value) in [(header::ORIGIN, "https://a.example"), (PEER_READS_EVENTS, "1")] {
            let accept = if name == header::ORIGIN { EVENTS } else { "" };
            let mut request = asking(accept, chat);
            request.headers_mut().insert(name, HeaderValue::from_static(value));
            assert_eq!(of_head(&request, false), None);
        }
        let mut told = asking("", chat);
        told.headers_mut().insert(PEER_READS_EVENTS, HeaderValue::from_static("1"));
        assert_eq!(of_head(&told, true), Some(ErrorForm::OpenAi));
        assert_eq!(of_head(&asking(EVENTS, chat), true), None, "the other activator has looked");
    }
}
