//! What Ebb says itself at the models host: lists of models, and errors in the form that a client's
//! SDK reads.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::call::ErrorForm;
use crate::error::ModelError;
use crate::revision::{Revision, RevisionSummary};
use crate::route::{Door, ModelTable, ModelView};

/// Most models in a list, the first by name: some 300 KiB, made for each request.
const LISTED_MAX: usize = 1000;
/// Most names that an error lists.
const NAMES_MAX: usize = 20;
/// Longest part of an unknown name that comes back to the client.
const ECHO_CHARS_MAX: usize = 200;

/// A model in a list. `OpenAI`'s four fields, and those of Ebb.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: String,
    #[serde(flatten)]
    summary: RevisionSummary,
}

impl Listed {
    fn of(model: ModelView<'_, Arc<Revision>>, now: Instant) -> Self {
        let ModelView { id, namespace, created_s, target } = model;
        let summary = match target {
            Ok(revision) => RevisionSummary::of(revision, now),
            Err(why) => RevisionSummary::without_revision(why),
        };
        let owned_by = namespace.to_owned();
        Self { id, object: "model", created: created_s, owned_by, summary }
    }
}

/// The models that a door knows and that the client may use. Nothing wakes by it.
pub(crate) fn list(
    models: &ModelTable<Arc<Revision>>,
    door: Door,
    may_use: impl Fn(&str) -> bool,
    now: Instant,
) -> Value {
    let (models, has_more) = models.list(door, LISTED_MAX, may_use);
    let data: Vec<_> = models.into_iter().map(|model| Listed::of(model, now)).collect();
    json!({"object": "list", "data": data, "has_more": has_more})
}

/// One of them.
pub(crate) fn show(
    models: &ModelTable<Arc<Revision>>,
    id: &str,
    door: Door,
    may_use: impl Fn(&str) -> bool,
    now: Instant,
) -> Result<Value, ModelError> {
    let model = models.find(id, door).filter(|model| may_use(&model.id));
    let model = model.ok_or_else(|| unknown(models, id, door, may_use))?;
    Ok(json!(Listed::of(model, now)))
}

/// The error for a model that the door does not know, or that the client may not use: it has the names
/// that it may.
pub(crate) fn unknown<T>(
    models: &ModelTable<T>,
    name: &str,
    door: Door,
    may_use: impl Fn(&str) -> bool,
) -> ModelError {
    let (names, is_more) = models.list(door, NAMES_MAX, may_use);
    let names: Vec<_> = names.into_iter().map(|model| model.id).collect();
    let known = match (names.is_empty(), is_more) {
        (true, _) => {
            let none = if models.is_empty() {
                "no Service declares a model here: annotate one with serving.ebb.dev/models"
            } else {
                "there is none here that this client may use"
            };
            none.to_owned()
        }
        (false, true) => format!("there are {} and more: GET /v1/models", names.join(", ")),
        (false, false) => format!("there is {}", names.join(", ")),
    };
    ModelError::ModelUnknown { name: name.chars().take(ECHO_CHARS_MAX).collect(), known }
}

/// The body of an error in the form of an SDK; `label` is Ebb's own word for it.
pub(crate) fn error(form: ErrorForm, status: StatusCode, label: &str, message: &str) -> Value {
    if form == ErrorForm::Anthropic {
        let kind = match status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        return json!({"type": "error", "error": {"type": kind, "message": message}});
    }
    let kind = match label {
        // OpenAI's words for what there is too much of.
        "requests-spent" => "requests",
        "tokens-spent" => "tokens",
        _ if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    let (code, param) = match label {
        "key-missing" | "key-unknown" => ("invalid_api_key", None),
        "requests-spent" | "tokens-spent" => ("rate_limit_exceeded", None),
        "model-unknown" => ("model_not_found", Some("model")),
        "model-missing" | "model-twice" | "model-unfit" => (label, Some("model")),
        label => (label, None),
    };
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_form_that_each_sdk_reads() {
        let told = |form, label| error(form, StatusCode::NOT_FOUND, label, "no");
        assert_eq!(
            told(ErrorForm::OpenAi, "model-unknown"),
            json!({"error": {"message": "no", "type": "invalid_request_error",
                "param": "model", "code": "model_not_found"}})
        );
        assert_eq!(
            told(ErrorForm::OpenAi, "path-unknown")["error"]["param"],
            Value::Null,
            "it has no parameter to blame"
        );
        assert_eq!(
            told(ErrorForm::Anthropic, "model-unknown"),
            json!({"type": "error", "error": {"type": "not_found_error", "message": "no"}})
        );
        let full = error(ErrorForm::OpenAi, StatusCode::SERVICE_UNAVAILABLE, "queue-full", "full");
        assert_eq!(full["error"]["type"], "server_error");
    }
}
