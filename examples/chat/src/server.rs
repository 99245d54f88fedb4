//! The HTTP face: the OpenAI routes, health and stats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::response::{IntoResponse, Response, Sse};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};

use crate::aids;
use crate::completion::{Completion, Heading};
use crate::load::{ServerLoad, Stats};
use crate::protocol::{BODY_BYTES_MAX, ChatRequest};
use crate::refusal::Refusal;
use crate::settings::ChatSettings;
use crate::standby::{self, Weights};

/// How long a body may take to arrive. The proxy in front has it nearly complete already.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Tells nginx and similar proxies to pass each event on at once.
const NO_BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// The simulated engine, shared by all requests.
#[derive(Clone, Debug)]
pub struct Service(Arc<Engine>);

#[derive(Debug)]
struct Engine {
    settings: ChatSettings,
    load: ServerLoad,
    weights: Weights,
    answers: AtomicU64,
}

// === impl Service ===

impl Service {
    fn new(settings: ChatSettings) -> Self {
        let load = ServerLoad::new(settings.concurrency.get());
        let weights = Weights::load(&settings);
        Self(Arc::new(Engine { settings, load, weights, answers: AtomicU64::new(0) }))
    }

    /// The requests inside.
    pub fn load(&self) -> &ServerLoad {
        &self.0.load
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.0.weights
    }

    fn model(&self) -> Value {
        let id = &self.0.settings.model;
        json!({"id": id, "object": "model", "created": 0, "owned_by": "ebb-chat"})
    }

    fn heading(&self) -> Heading {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Heading {
            id: format!("chatcmpl-{}", self.0.answers.fetch_add(1, Ordering::Relaxed)),
            created_s: since_1970.unwrap_or_default().as_secs(),
            model: self.0.settings.model.clone(),
        }
    }
}

/// The routes of an engine with these settings, whose weights are in memory from here on.
pub fn router(settings: ChatSettings) -> Router {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/v1/chat/completions", post(chat))
        .route("/health", get(|| async {}))
        .route("/stats", get(stats))
        .route("/sleep", any(aids::sleep))
        .route("/wake_up", post(standby::wake_up))
        .route("/is_sleeping", get(standby::is_sleeping))
        .route("/echo", any(aids::echo))
        .route("/env", get(aids::env))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_route)
        .with_state(Service::new(settings))
}

async fn models(State(service): State<Service>) -> Json<Value> {
    Json(json!({"object": "list", "data": [service.model()]}))
}

async fn model(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let known = &service.0.settings.model;
    if id != *known {
        return Err(Refusal::UnknownModel { model: id, known: known.clone() });
    }
    Ok(Json(service.model()))
}

async fn stats(State(service): State<Service>) -> Json<Stats> {
    Json(service.load().stats())
}

async fn chat(State(service): State<Service>, body: Body) -> Result<Response, Refusal> {
    let mut visit = service.load().enter()?;
    let settings = &service.0.settings;
    let order = read(body).await.and_then(|body| {
        let request: ChatRequest = serde_json::from_slice(&body).map_err(Refusal::Malformed)?;
        request.order(settings)
    });
    let order = order.and_then(|order| {
        if service.weights().are_asleep() { Err(Refusal::Asleep) } else { Ok(order) }
    });
    let order = order.inspect_err(|_| visit.finish())?;
    let stream = order.stream;
    let place = service.load().place().await;
    let heading = service.heading();
    let completion = Completion::begin(heading, order, settings.tokens_per_second, visit, place);
    Ok(if stream {
        ([NO_BUFFERING], Sse::new(completion.stream())).into_response()
    } else {
        Json(completion.whole().await).into_response()
    })
}

async fn unknown_route(method: Method, uri: Uri) -> Refusal {
    Refusal::UnknownRoute { method: method.to_string(), path: uri.path().to_owned() }
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    let collected = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIME_MAX, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge),
        Ok(Err(_)) | Err(_) => Err(Refusal::BodyBroken),
    }
}
