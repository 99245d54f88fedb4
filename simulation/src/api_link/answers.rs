//! Answers of an API server, and of one in trouble.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::BoxError;

use super::Answer;

const JSON: header::HeaderValue = header::HeaderValue::from_static("application/json");

pub(super) fn whole(bytes: Bytes) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn failure(status: StatusCode, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the simulation makes the API server fail", "reason": reason,
        "code": status.as_u16(),
    })
}

/// The answer to a watch of a version that is forgotten: the watch begins, and ends with its first
/// event.
pub(super) fn expired() -> Answer {
    let event = json!({"type": "ERROR", "object": failure(StatusCode::GONE, "Expired")});
    let mut answer = Response::new(whole(format!("{event}\n").into()));
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    answer
}

/// The answer of a server that cannot do what it is asked.
pub(super) fn refusal(status: StatusCode, reason: &str) -> Answer {
    let mut answer = Response::new(whole(failure(status, reason).to_string().into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    if status == StatusCode::TOO_MANY_REQUESTS {
        answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    answer
}
