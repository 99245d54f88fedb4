//! Routes that serve tests of a platform rather than callers: a request of known length, a body
//! that comes back, and the variables that the platform gave the process.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json;

use crate::load::ServerVisit;
use crate::refusal::Refusal;
use crate::server::Service;

/// Longest pause of `/sleep`: no proxy's default timeout is longer.
const SLEEP_MS_MAX: u64 = 600_000;

/// The query of `/sleep`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Pause {
    #[serde(default)]
    ms: Option<u64>,
}

/// `/sleep?ms=N`: answers after that long. Counts in `/stats`, but takes no generation's place.
/// `POST /sleep` without `ms`, as in `?level=1`: gives the weights up.
pub async fn sleep(
    State(service): State<Service>,
    method: Method,
    Query(Pause { ms }): Query<Pause>,
) -> Result<Response, Refusal> {
    if ms.is_none() && method == Method::POST {
        service.weights().sleep();
        return Ok(Response::default());
    }
    let ms = ms.unwrap_or_default();
    if ms > SLEEP_MS_MAX {
        return Err(Refusal::Sleep { sent: ms, limit: SLEEP_MS_MAX });
    }
    let mut visit = service.load().enter()?;
    tokio::time::sleep(Duration::from_millis(ms)).await;
    visit.finish();
    Ok(Json(json!({ "slept_ms": ms })).into_response())
}

/// `/echo`: sends the body back as it comes. The body has no size limit, as none of it is kept.
pub async fn echo(State(service): State<Service>, request: Request) -> Result<Response, Refusal> {
    let visit = service.load().enter()?;
    let (parts, body) = request.into_parts();
    let chunks = futures::stream::unfold((body.into_data_stream(), visit), next_chunk);
    let mut response = Response::new(Body::from_stream(chunks));
    if let Some(content_type) = parts.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
    }
    Ok(response)
}

type Echo = (axum::body::BodyDataStream, ServerVisit);

/// The next chunk, with the visit that ends with the last.
async fn next_chunk(
    (mut chunks, mut visit): Echo,
) -> Option<(Result<bytes::Bytes, axum::Error>, Echo)> {
    let Some(chunk) = chunks.next().await else {
        visit.finish();
        return None;
    };
    Some((chunk, (chunks, visit)))
}

/// `/env`: `PORT` and the variables that begin with `K_`, and no other, as those may be secret.
pub async fn env() -> Json<BTreeMap<String, String>> {
    let told = |name: &str| name == "PORT" || name.starts_with("K_");
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Json(variables.filter(|(name, _)| told(name)).collect())
}
