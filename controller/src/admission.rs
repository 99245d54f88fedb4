//! Whether a write of an object is accepted, and how defaults change the object.
//!
//! Pure: a [`Request`] and the settings go in, a [`Verdict`] comes out: of [`mutate`] first, then
//! of [`validate`], one for each of Knative's two webhooks. An API server wraps the message of a
//! denial by a webhook; an API server that calls these functions itself does so by
//! [`Verdict::passed_on`].
//!
//! An object is defaulted as typed value and then written back field by field, so that fields
//! which the types do not know survive. Its size is checked before it becomes typed, because a
//! typed container is a thousand times larger than the two bytes of an empty one in JSON.

mod decode;
mod merge;
mod settings;
#[cfg(test)]
mod tests;

use ebb_api::config::Config;
use ebb_api::defaults::{self, Occasion};
use ebb_api::field_error::FieldErrors;
use ebb_api::serving::{Configuration, Revision, Route, Service};
use ebb_api::validation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Name of the webhook that defaults objects.
pub const MUTATING_WEBHOOK: &str = "webhook.serving.knative.dev";
/// Name of the webhook that validates objects.
pub const VALIDATING_WEBHOOK: &str = "validation.webhook.serving.knative.dev";
/// Name of the webhook that validates ConfigMaps.
pub const CONFIG_WEBHOOK: &str = "config.webhook.serving.knative.dev";

/// HTTP status of a denial; Knative's webhooks use it for every problem.
const BAD_REQUEST: u16 = 400;

/// The kind of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The object does not exist yet.
    Create,
    /// The object exists, and is replaced or patched.
    Update,
    /// The object is removed.
    Delete,
}

/// One write that asks for admission. Whether it is a dry run makes no difference here, for
/// nothing here has an effect.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Group of the object's kind, empty for the core group.
    pub group: &'a str,
    /// Version of the object's kind.
    pub version: &'a str,
    /// Kind of the object.
    pub kind: &'a str,
    /// The kind of write.
    pub operation: Operation,
    /// The part of the object that is written, if not the whole: `status` or `scale`.
    pub subresource: Option<&'a str>,
    /// The object as it would be stored, absent when it is deleted.
    pub object: Option<&'a Value>,
    /// The object as it is stored, absent when it is created.
    pub old: Option<&'a Value>,
    /// Name of the user who asks, recorded in annotations; without a name nothing is recorded.
    pub username: Option<&'a str>,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The write may happen.
    Allowed {
        /// The object to store, if it differs from the one in the request.
        object: Option<Value>,
        /// Warnings for the client.
        warnings: Vec<String>,
    },
    /// The write must not happen.
    Denied {
        /// HTTP status for the client.
        code: u16,
        /// What is wrong and where, in Knative's words.
        message: String,
    },
}

/// A kind that is defaulted and validated.
trait Admitted: Serialize + DeserializeOwned {
    fn default(&mut self, occasion: Occasion<'_, Self>, config: &Config);
    fn validate(&self, old: Option<&Self>, config: &Config) -> FieldErrors;
}

// === impl Verdict ===

impl Verdict {
    fn allowed() -> Self {
        Self::Allowed { object: None, warnings: Vec::new() }
    }

    fn denied(message: String) -> Self {
        Self::Denied { code: BAD_REQUEST, message }
    }

    /// The same verdict, with the words in which an API server passes on a webhook's denial.
    #[must_use]
    pub fn passed_on(self, webhook: &str) -> Self {
        match self {
            Self::Allowed { .. } => self,
            Self::Denied { code, message } => Self::Denied {
                code,
                message: format!("admission webhook {webhook:?} denied the request: {message}"),
            },
        }
    }
}

// === impl Admitted ===

impl Admitted for Service {
    fn default(&mut self, occasion: Occasion<'_, Self>, config: &Config) {
        defaults::service(self, occasion, config);
    }

    fn validate(&self, old: Option<&Self>, config: &Config) -> FieldErrors {
        validation::service(self, old, config)
    }
}

impl Admitted for Configuration {
    fn default(&mut self, occasion: Occasion<'_, Self>, config: &Config) {
        defaults::configuration(self, occasion, config);
    }

    fn validate(&self, old: Option<&Self>, config: &Config) -> FieldErrors {
        validation::configuration(self, old, config)
    }
}

impl Admitted for Route {
    fn default(&mut self, occasion: Occasion<'_, Self>, _: &Config) {
        defaults::route(self, occasion);
    }

    fn validate(&self, old: Option<&Self>, _: &Config) -> FieldErrors {
        validation::route(self, old)
    }
}

impl Admitted for Revision {
    fn default(&mut self, occasion: Occasion<'_, Self>, config: &Config) {
        defaults::revision(self, occasion, config);
    }

    fn validate(&self, old: Option<&Self>, config: &Config) -> FieldErrors {
        validation::revision(self, old, config)
    }
}

/// Name of the webhook that validates this object.
pub fn validating_webhook(request: &Request<'_>) -> &'static str {
    if settings::is_config_map(request) { CONFIG_WEBHOOK } else { VALIDATING_WEBHOOK }
}

/// Defaults an object: the verdict's object is the one to store.
///
/// Denies only what cannot be read: `mutation failed: cannot decode incoming new object: ...`.
pub fn mutate(request: &Request<'_>, config: &Config) -> Verdict {
    match (request.group, request.version, request.kind) {
        ("serving.knative.dev", "v1", "Service") => mutate_as::<Service>(request, config),
        ("serving.knative.dev", "v1", "Configuration") => {
            mutate_as::<Configuration>(request, config)
        }
        ("serving.knative.dev", "v1", "Route") => mutate_as::<Route>(request, config),
        ("serving.knative.dev", "v1", "Revision") => mutate_as::<Revision>(request, config),
        _ => Verdict::allowed(),
    }
}

/// Validates an object that [`mutate`] has defaulted.
///
/// Denies with `validation failed: ` and every error, one a line, or with
/// `decoding request failed: ...`. The verdict never carries an object.
pub fn validate(request: &Request<'_>, config: &Config) -> Verdict {
    match (request.group, request.version, request.kind) {
        ("serving.knative.dev", "v1", "Service") => validate_as::<Service>(request, config),
        ("serving.knative.dev", "v1", "Configuration") => {
            validate_as::<Configuration>(request, config)
        }
        ("serving.knative.dev", "v1", "Route") => validate_as::<Route>(request, config),
        ("serving.knative.dev", "v1", "Revision") => validate_as::<Revision>(request, config),
        _ if settings::is_config_map(request) => settings::validate(request, config),
        _ => Verdict::allowed(),
    }
}

fn mutate_as<K: Admitted>(request: &Request<'_>, config: &Config) -> Verdict {
    let Some(object) = written(request) else {
        return Verdict::allowed();
    };
    match defaulted::<K>(object, request, config) {
        Ok(defaulted) => Verdict::Allowed {
            object: (defaulted != *object).then_some(defaulted),
            warnings: Vec::new(),
        },
        Err(problem) => Verdict::denied(format!("mutation failed: {problem}")),
    }
}

fn defaulted<K: Admitted>(
    object: &Value,
    request: &Request<'_>,
    config: &Config,
) -> Result<Value, String> {
    let mut new: K = decode::object(object, "new")?;
    let before = decode::encode(&new)?;
    let by = request.username;
    match old::<K>(request)? {
        None => new.default(Occasion::Create { by }, config),
        Some(old) => new.default(Occasion::Update { old: &old, by }, config),
    }
    let after = decode::encode(&new)?;
    let mut defaulted = object.clone();
    merge::fill(&mut defaulted, Some(&before), &after);
    Ok(defaulted)
}

fn validate_as<K: Admitted>(request: &Request<'_>, config: &Config) -> Verdict {
    let Some(object) = written(request) else {
        return Verdict::allowed();
    };
    let read = || Ok((decode::object::<K>(object, "new")?, old::<K>(request)?));
    let (new, old) = match read() {
        Ok(read) => read,
        Err(problem) => {
            let problem: String = problem;
            return Verdict::denied(format!("decoding request failed: {problem}"));
        }
    };
    let errors = new.validate(old.as_ref(), config);
    if errors.is_empty() {
        Verdict::Allowed { object: None, warnings: errors.warnings() }
    } else {
        Verdict::denied(format!("validation failed: {errors}"))
    }
}

/// The object to judge, if this write has one.
fn written<'a>(request: &Request<'a>) -> Option<&'a Value> {
    // A status belongs to its controller, and neither metadata nor spec can change along with it.
    if request.operation == Operation::Delete || request.subresource.is_some() {
        return None;
    }
    // An object under deletion must be able to lose its finalizers, whatever the rules are by now.
    let deleted = |object: &&Value| !object["metadata"]["deletionTimestamp"].is_null();
    request.object.filter(|object| !deleted(object))
}

fn old<K: Admitted>(request: &Request<'_>) -> Result<Option<K>, String> {
    match (request.operation, request.old) {
        (Operation::Update, Some(old)) => decode::object(old, "old").map(Some),
        _ => Ok(None),
    }
}
