//! What the activator tells at the admin listener of its process, besides metrics and health.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use ebb_api::report::RevisionKey;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::activator::Activator;
use crate::revision::{Revision, RevisionSummary};

/// Most revisions in a list, the first by namespace and name: some 300 KiB, made for each request. Any
/// other can be asked for by its name.
const LISTED_MAX: usize = 1000;

/// A revision, as this activator knows it.
#[derive(Serialize)]
struct Stated<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(flatten)]
    summary: RevisionSummary,
    /// Requests that wait here for a pod.
    queued: usize,
}

// === impl Stated ===

impl<'a> Stated<'a> {
    fn of(revision: &'a Revision, now: Instant) -> Self {
        let RevisionKey { namespace, name } = &revision.key;
        let summary = RevisionSummary::of(revision, now);
        Self { namespace, name, summary, queued: revision.standing().queued }
    }
}

/// `/revisions`, how far each revision is, and `/revisions/NAMESPACE/NAME`, how far that one is. Nothing
/// wakes by a question.
pub fn router(activator: Activator) -> Router {
    Router::new()
        .route("/revisions", get(list))
        .route("/revisions/{namespace}/{name}", get(show))
        .with_state(activator)
}

async fn list(State(activator): State<Activator>) -> Response {
    let mut revisions = activator.directory().revisions();
    // One of which nothing is known but that somebody has named it.
    revisions.retain(|revision| revision.is_known());
    revisions.sort_by(|a, b| a.key.cmp(&b.key));
    let has_more = revisions.len() > LISTED_MAX;
    revisions.truncate(LISTED_MAX);
    let now = Instant::now();
    let items: Vec<_> = revisions.iter().map(|revision| Stated::of(revision, now)).collect();
    Json(json!({"revisions": items, "has_more": has_more})).into_response()
}

async fn show(
    State(activator): State<Activator>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    let revision: Option<Arc<Revision>> =
        activator.directory().revision(&RevisionKey::new(namespace, name));
    let Some(revision) = revision.filter(|revision| revision.is_known()) else {
        let told = "there is no revision of this name: /revisions lists them\n";
        return (StatusCode::NOT_FOUND, told).into_response();
    };
    Json(Stated::of(&revision, Instant::now())).into_response()
}
