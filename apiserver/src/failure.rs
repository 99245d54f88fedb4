//! Failures of a request, as the `v1 Status` object that every Kubernetes client understands.
//!
//! A failure is made where the fault is found and turned into a response once, at the edge.
//! Messages are Kubernetes' own word for word where tools match on them.

use serde_json::{Value, json};

/// One field that is wrong, in `details.causes` of a Status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable kind, such as `FieldValueInvalid`.
    pub reason: String,
    /// What is wrong, for people.
    pub message: String,
    /// Path of the field, such as `spec.replicas`.
    pub field: String,
}

/// Which object a failure is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Group of the resource or kind.
    pub group: String,
    /// Plural of the resource, or the kind for a validation failure, as Kubernetes has it.
    pub kind: String,
    /// Name of the object; may be empty.
    pub name: String,
}

/// A request that was not done, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestFailure {
    /// HTTP status.
    pub code: u16,
    /// Kubernetes' machine-readable reason, such as `NotFound`.
    pub reason: &'static str,
    /// What happened, for people.
    pub message: String,
    /// The object in question; boxed to keep the many results that carry a failure small.
    pub subject: Box<Subject>,
    /// The fields at fault.
    pub causes: Vec<Cause>,
    /// After how many seconds to try again, sent as `Retry-After` too.
    pub retry_after_s: Option<u32>,
}

// === impl Subject ===

impl Subject {
    /// The object `name` of the resource or kind `kind` in `group`.
    pub fn new(group: &str, kind: &str, name: &str) -> Self {
        Self { group: group.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
    }

    /// `deployments.apps "web"`: how Kubernetes names an object in messages.
    fn quoted(&self) -> String {
        let Self { group, kind, name } = self;
        if group.is_empty() {
            format!("{kind} \"{name}\"")
        } else {
            format!("{kind}.{group} \"{name}\"")
        }
    }
}

// === impl RequestFailure ===

impl RequestFailure {
    /// Any failure; the named constructors below cover the common ones.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            subject: Box::default(),
            causes: Vec::new(),
            retry_after_s: None,
        }
    }

    /// The same failure, said to be about `subject`.
    #[must_use]
    pub fn about(mut self, subject: Subject) -> Self {
        self.subject = Box::new(subject);
        self
    }

    /// 404: the object does not exist.
    pub fn not_found(subject: Subject) -> Self {
        Self::new(404, "NotFound", format!("{} not found", subject.quoted())).about(subject)
    }

    /// 404: no such path or resource type.
    pub fn no_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 409: the name is taken.
    pub fn already_exists(subject: Subject) -> Self {
        let message = format!("{} already exists", subject.quoted());
        Self::new(409, "AlreadyExists", message).about(subject)
    }

    /// 409: the object is not in the state that the request builds on.
    pub fn conflict(subject: Subject, detail: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {}: {detail}", subject.quoted());
        Self::new(409, "Conflict", message).about(subject)
    }

    /// 409 of a stale `resourceVersion`.
    pub fn modified(subject: Subject) -> Self {
        Self::conflict(
            subject,
            "the object has been modified; please apply your changes to the latest version and \
             try again",
        )
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 403: understood and refused.
    pub fn forbidden(subject: Subject, detail: &str) -> Self {
        let message = format!("{} is forbidden: {detail}", subject.quoted());
        Self::new(403, "Forbidden", message).about(subject)
    }

    /// 405: the resource has no such verb.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 410: the revision to go on from is no longer known; the client lists again.
    pub fn expired(oldest: u64, asked: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// 422: the object breaks its schema. `subject.kind` is the kind here, not the plural.
    pub fn invalid(subject: Subject, causes: Vec<Cause>) -> Self {
        let said: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let list = match said.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} is invalid: {list}", subject.quoted());
        let mut failure = Self::new(422, "Invalid", message).about(subject);
        failure.causes = causes;
        failure
    }

    /// 422: an option of the request, of the kind `options`, is wrong.
    pub fn invalid_option(options: &str, field: &str, reason: &str, message: &str) -> Self {
        let cause = Cause { reason: reason.into(), message: message.into(), field: field.into() };
        Self::invalid(Subject::new("meta.k8s.io", options, ""), vec![cause])
    }

    /// 500: not the caller's fault.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// 429: a limit of this server was reached; try again after a second.
    pub fn too_many(message: impl Into<String>) -> Self {
        let mut failure = Self::new(429, "TooManyRequests", message);
        failure.retry_after_s = Some(1);
        failure
    }

    /// The Status object of this failure.
    pub fn status(&self) -> Value {
        let Self { code, reason, message, subject, causes, retry_after_s } = self;
        let mut details = serde_json::Map::new();
        let texts = [("name", &subject.name), ("group", &subject.group), ("kind", &subject.kind)];
        for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            details.insert(key.into(), Value::from(text.as_str()));
        }
        if !causes.is_empty() {
            let causes = causes.iter().map(
                |Cause {
                     reason,
                     message,
                     field,
                 }| {
                    json!({ "reason": reason, "message": message, "field": field })
                },
            );
            details.insert("causes".into(), causes.collect());
        }
        if let Some(seconds) = retry_after_s {
            details.insert("retryAfterSeconds".into(), Value::from(*seconds));
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        });
        if !details.is_empty() {
            status["details"] = Value::Object(details);
        }
        status
    }
}
