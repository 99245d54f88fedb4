//! Clients that read events: their response begins while they wait for a pod.
//!
//! The status of such a response is 200 before anybody knows how the request ends. So whatever goes
//! wrong from then on is told by an event, in the form that the client's SDK raises as an error, and
//! counts as what it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Collected, Limited};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::answer::ERROR_HEADER;
use super::client::Client;
use super::failed::Failed;
use super::leftover;
use super::note::Notes;
use super::reader::{EVENTS, media_of};
use super::waiting::Waiting;
use crate::body::{BodyError, EventBody, ProxyBody, Rest, SILENCE_MAX};
use crate::error::RequestError;
use crate::models::answer;
use crate::models::call::ErrorForm;
use crate::progress::Progress;
use crate::settings::StartLimit;

/// Most of a model's error that is told in an event. A longer one, and one that takes longer than
/// [`ERROR_WITHIN`], is told by its status alone.
const ERROR_BYTES_MAX: usize = 16 * 1024;
const ERROR_WITHIN: Duration = Duration::from_secs(10);
/// Longest text that is told of an error that is no JSON.
const ERROR_CHARS_MAX: usize = 1000;

// === impl Client ===

impl Client {
    /// Waits for a pod, and begins the response when that takes long.
    pub(super) async fn answer_in_time(
        self: &Arc<Self>,
        mut waiting: Waiting,
        form: ErrorForm,
    ) -> Result<Response<ProxyBody>, Failed> {
        let begin = waiting.visit.arrived() + SILENCE_MAX;
        let limit = waiting.visit.live().settings.start_limit;
        // That of an automatic limit is only the first look.
        let goes_on = matches!(limit, Some(StartLimit::Auto { .. }));
        if goes_on || waiting.prepared.deadlines.wait_end().is_none_or(|end| end > begin) {
            match timeout_at(begin, waiting.visit.pod()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    waiting.visit.failed(&error);
                    let start = waiting.visit.usual_start();
                    return Err(Failed::unsent(waiting.request, error).at(start));
                }
                Err(_) => return Ok(self.begin_events(waiting, form)),
            }
        }
        self.finish(waiting).await
    }

    fn begin_events(
        self: &Arc<Self>,
        mut waiting: Waiting,
        form: ErrorForm,
    ) -> Response<ProxyBody> {
        // The head that goes out names no coding.
        waiting.request.headers_mut().remove(header::ACCEPT_ENCODING);
        let client = Arc::clone(self);
        let revision = Arc::clone(waiting.visit.revision());
        let broken = Box::new(move |why: &BodyError| broken(form, why));
        let form_of_notes = waiting.visit.live().settings.waiting_events;
        let notes = Notes::of(&waiting.request, form_of_notes, &revision.key.name);
        let note =
            Box::new(move || notes.event(revision.start_view(Instant::now()), unix_seconds()));
        let rest = async move {
            let response = match client.finish(waiting).await {
                Ok(response) => response,
                Err(failed) => {
                    client.proxy.context.meters.error(&failed.error);
                    if let Some(request) = failed.request {
                        // A connection that closes on an unread body may lose the event.
                        leftover::must_close(*request).await;
                    }
                    failed.error.response(form, failed.start)
                }
            };
            rest(response, form).await
        };
        let progress = Progress::current();
        let task = AbortOnDropHandle::new(tokio::spawn(Progress::scope(progress.clone(), rest)));
        let mut response =
            Response::new(ProxyBody::from(EventBody::new(task, note, broken, progress)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENTS));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // nginx would keep the comments back until they fill a buffer.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

/// What follows the comments: the events of a response, or one event that says what it is instead.
async fn rest(response: Response<ProxyBody>, form: ErrorForm) -> Rest<ProxyBody> {
    let (head, body) = response.into_parts();
    let media = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_events = media_of(&head.headers).eq_ignore_ascii_case(EVENTS.as_bytes());
    let is_plain = !head.headers.contains_key(header::CONTENT_ENCODING);
    if head.status == StatusCode::OK && is_events && is_plain {
        return Rest::Events(body);
    }
    // Not as a part of the client's stream: it may be slow to take the comments.
    let text = Limited::new(body.apart(), ERROR_BYTES_MAX).collect();
    let text = timeout(ERROR_WITHIN, text).await.ok().and_then(Result::ok);
    let text = text.map(Collected::to_bytes).unwrap_or_default();
    let error = match serde_json::from_slice::<Value>(&text) {
        Ok(told) if told.get("error").is_some_and(is_error) => told,
        _ => {
            let text = String::from_utf8_lossy(&text);
            let label = head.headers.get(ERROR_HEADER).and_then(|label| label.to_str().ok());
            let told = message(head.status, &String::from_utf8_lossy(media), &text);
            // A good answer that is no stream is the model's fault.
            let status = match head.status {
                StatusCode::OK => StatusCode::BAD_GATEWAY,
                status => status,
            };
            answer::error(form, status, label.unwrap_or("model-answer"), &told)
        }
    };
    let pause = head.headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
    let retry = match pause.and_then(|after| after.parse::<u32>().ok()) {
        Some(seconds) => format!("retry: {seconds}000\n"),
        None => String::new(),
    };
    Rest::Error(Bytes::from(format!("event: error\n{retry}data: {error}\n\n")))
}

/// Whether SDKs take this for an error: they pass over `null`.
fn is_error(error: &Value) -> bool {
    error.is_object() || error.as_str().is_some_and(|text| !text.is_empty())
}

/// What ends a stream that broke off, perhaps in the middle of an event.
fn broken(form: ErrorForm, why: &BodyError) -> Bytes {
    let lost = RequestError::Upstream;
    let error = answer::error(form, lost.status(), lost.label(), &why.to_string());
    Bytes::from(format!("\n\nevent: error\ndata: {error}\n\n"))
}

fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

fn message(status: StatusCode, media: &str, text: &str) -> String {
    let text: String = text.trim().chars().take(ERROR_CHARS_MAX).collect();
    match (status, text.is_empty()) {
        (StatusCode::OK, _) if media.is_empty() => {
            "the model answered without a stream of events".to_owned()
        }
        (StatusCode::OK, _) => format!("the model answered with {media}, no stream of events"),
        (status, true) => format!("the model answered with status {}", status.as_u16()),
        (_, false) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_stream_becomes_an_error_that_sdks_raise() {
        let event = async |status: u16, media: &'static str, body: &'static str| {
            let response = Response::builder()
                .status(status)
                .header(header::CONTENT_TYPE, media)
                .body(ProxyBody::local(Bytes::from_static(body.as_bytes())));
            match rest(response.unwrap(), ErrorForm::OpenAi).await {
                Rest::Error(event) => String::from_utf8(event.to_vec()).unwrap(),
                Rest::Events(_) => "events".to_owned(),
            }
        };
        assert_eq!(event(200, "text/event-stream; charset=utf-8", "data: 1\n\n").await, "events");
        assert_ne!(event(200, "text/event-streams", "data: 1\n\n").await, "events");
        let own = "{\n\"error\": {\"message\": \"no\", \"code\": 400}}";
        assert_eq!(
            event(400, "application/json", own).await,
            "event: error\ndata: {\"error\":{\"code\":400,\"message\":\"no\"}}\n\n"
        );
        for (status, body, told) in [
            (500, "it\nburns", "it\\nburns"),
            (502, "", "the model answered with status 502"),
            (
                200,
                "{\"error\":null}",
                "the model answered with application/json, no stream of events",
            ),
        ] {
            let event = event(status, "application/json", body).await;
            assert!(event.starts_with("event: error\ndata: {\"error\":{"), "{event}");
            assert!(event.contains(&format!("\"message\":\"{told}\"")), "{event}");
            assert_eq!(event.matches('\n').count(), 3, "one line of data");
        }
    }
}
