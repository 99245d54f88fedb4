//! The HTTP face: routes of the protocol, admission, and the way to the threads that compute.
//!
//! Parsing, inference and writing the answer all happen on blocking threads, at most
//! [`ServerLimits::concurrency`] at once, so that health routes answer whatever the models do. A
//! request whose client leaves while it waits is dropped; one that computes already is finished.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::Semaphore;

use crate::model::{Model, VERSION};
use crate::protocol::{ModelMetadata, ServerMetadata};
use crate::rejection::Rejection;

/// Largest body of a request unless set otherwise: a batch of ten 224x224 colour images as JSON.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// How long a body may take to arrive. The proxy in front has it nearly complete already.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// How many requests may wait for each that computes. Beyond it waiting only adds latency, and
/// each waiting body costs memory.
pub const WAITING_PER_RUNNING: usize = 16;

/// What the server takes on at once.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Inferences that compute at the same time.
    pub concurrency: usize,
    /// Largest body in bytes.
    pub body_bytes: usize,
}

/// All loaded models, and the places for requests.
struct Server {
    models: BTreeMap<String, Arc<Model>>,
    limits: ServerLimits,
    admission: Semaphore,
    running: Arc<Semaphore>,
}

/// Name and version in the path.
type ModelPath = Path<BTreeMap<String, String>>;

// === impl ServerLimits ===

impl ServerLimits {
    /// Requests that are computing or waiting; those beyond are refused.
    fn admitted_max(self) -> usize {
        self.concurrency.saturating_mul(1 + WAITING_PER_RUNNING)
    }
}

// === impl Server ===

impl Server {
    fn model(&self, path: &BTreeMap<String, String>) -> Result<&Arc<Model>, Rejection> {
        let name = path.get("model").map_or("", String::as_str);
        let model = self.models.get(name).ok_or_else(|| Rejection::UnknownModel {
            model: name.to_owned(),
            known: self
                .models
                .keys()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", "),
        })?;
        match path.get("version") {
            Some(version) if version != VERSION => Err(Rejection::UnknownVersion {
                model: name.to_owned(),
                version: version.clone(),
                known: VERSION.to_owned(),
            }),
            _ => Ok(model),
        }
    }

    async fn infer(
        &self,
        path: &BTreeMap<String, String>,
        body: Body,
    ) -> Result<Vec<u8>, Rejection> {
        let model = Arc::clone(self.model(path)?);
        let _admitted = self
            .admission
            .try_acquire()
            .map_err(|_| Rejection::Busy { limit: self.limits.admitted_max() })?;
        let body = read(body, self.limits.body_bytes).await?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        let work = move || {
            // The permit is held by the work, not by the request: when a client leaves, the next
            // request must not start while the first inference still computes.
            let _running = running;
            model.infer_json(&body)
        };
        let joined = tokio::task::spawn_blocking(work).await;
        joined.unwrap_or_else(|error| {
            tracing::error!(error = %error, "Inference broke off");
            Err(Rejection::Panicked)
        })
    }
}

/// The server's routes over `models`.
pub fn router(models: Vec<Model>, limits: ServerLimits) -> Router {
    let server = Arc::new(Server {
        models: models
            .into_iter()
            .map(|model| (model.name().to_owned(), Arc::new(model)))
            .collect(),
        limits,
        admission: Semaphore::new(limits.admitted_max().min(Semaphore::MAX_PERMITS)),
        running: Arc::new(Semaphore::new(limits.concurrency.min(Semaphore::MAX_PERMITS))),
    });
    Router::new()
        .route("/v2", get(server_metadata))
        // Models are loaded before the port opens, so a server that can be asked is ready.
        .route("/v2/health/live", get(|| async {}))
        .route("/v2/health/ready", get(|| async {}))
        .route("/v2/models/{model}", get(model_metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}", get(model_metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(server)
}

async fn server_metadata() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        extensions: [],
    })
}

async fn model_metadata(
    State(server): State<Arc<Server>>,
    Path(path): ModelPath,
) -> Result<Json<ModelMetadata>, Rejection> {
    server.model(&path).map(|model| Json(model.metadata()))
}

async fn model_ready(
    State(server): State<Arc<Server>>,
    Path(path): ModelPath,
) -> Result<(), Rejection> {
    server.model(&path).map(|_| ())
}

async fn infer(
    State(server): State<Arc<Server>>,
    Path(path): ModelPath,
    body: Body,
) -> Result<Response, Rejection> {
    let answer = server.infer(&path, body).await?;
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], answer).into_response())
}

async fn unknown_route(uri: Uri) -> Rejection {
    Rejection::UnknownRoute { path: uri.path().to_owned() }
}

async fn wrong_method(method: Method, uri: Uri) -> Rejection {
    Rejection::WrongMethod { method: method.to_string(), path: uri.path().to_owned() }
}

async fn read(body: Body, limit_bytes: usize) -> Result<Bytes, Rejection> {
    let collected = tokio::time::timeout(BODY_TIME_MAX, Limited::new(body, limit_bytes).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Rejection::BodyTooLarge { limit_bytes })
        }
        Ok(Err(_)) => Err(Rejection::BodyBroken),
        Err(_) => Err(Rejection::BodySlow { limit_s: BODY_TIME_MAX.as_secs() }),
    }
}
