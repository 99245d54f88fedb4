//! Responses.

use std::convert::Infallible;

use bytes::Bytes;
use futures::Stream;
use futures::StreamExt as _;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::Value;

use crate::failure::RequestFailure;

/// Body of every response: whole, or a stream of watch events or log lines.
pub type ReplyBody = UnsyncBoxBody<Bytes, Infallible>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Longest text of one warning, as in Kubernetes.
const WARNING_CHARS_MAX: usize = 256;

/// A JSON document.
pub(super) fn json(code: u16, body: impl Into<Bytes>) -> Response<ReplyBody> {
    respond(code, JSON, Full::new(body.into()).boxed_unsync())
}

/// A JSON document of a value made for it.
pub(super) fn value(value: &Value) -> Response<ReplyBody> {
    json(200, value.to_string())
}

/// A line of text.
pub(super) fn text(body: &'static str) -> Response<ReplyBody> {
    respond(200, TEXT, Full::new(Bytes::from_static(body.as_bytes())).boxed_unsync())
}

/// A stream of JSON documents, a line each.
pub(super) fn json_stream(
    chunks: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<ReplyBody> {
    respond(200, JSON, body(chunks))
}

/// A stream of text.
pub(super) fn text_stream(
    chunks: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<ReplyBody> {
    respond(200, TEXT, body(chunks))
}

/// The Status of a failure.
pub(super) fn failure(failure: &RequestFailure) -> Response<ReplyBody> {
    let mut response = json(failure.code, failure.status().to_string());
    if let Some(seconds) = failure.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Adds warnings for the user to a response.
pub(super) fn warn(response: &mut Response<ReplyBody>, warnings: &[String]) {
    for (index, warning) in warnings.iter().enumerate() {
        // A write that was attempted again repeats its warnings.
        if warnings[..index].contains(warning) {
            continue;
        }
        let printable = warning.chars().filter(|character| !character.is_control());
        let text: String = printable.take(WARNING_CHARS_MAX).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        // 299 is "miscellaneous persistent warning"; the agent is left out with a dash.
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

fn body(chunks: impl Stream<Item = Bytes> + Send + 'static) -> ReplyBody {
    StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))).boxed_unsync()
}

fn respond(code: u16, content_type: HeaderValue, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
