//! One request, in words that hold at both servers: what only a server knows, such as a UID, stands
//! as a placeholder.

use std::fmt;

use http::Method;
use serde_json::Value;

use crate::kinds::Kind;

/// A request.
#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) kind: &'static Kind,
    /// Name of the object; the one that the placeholders mean as well. Empty for a collection.
    pub(crate) name: String,
    pub(crate) method: Method,
    /// Behind the object's or the collection's path: a subresource.
    pub(crate) below: &'static str,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) accept: Option<&'static str>,
    pub(crate) content_type: &'static str,
    pub(crate) body: Option<Value>,
}

// === impl Operation ===

impl Operation {
    /// A request for the object `name` of a kind, or for its collection.
    pub(crate) fn new(method: Method, kind: &'static Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            method,
            below: "",
            query: Vec::new(),
            accept: None,
            content_type: "application/json",
            body: None,
        }
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    pub(crate) fn sending(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    pub(crate) fn below(self, below: &'static str) -> Self {
        Self { below, ..self }
    }

    /// Whether it asks for objects as they were at any time.
    pub(crate) fn is_of_any_time(&self) -> bool {
        self.method == Method::GET
            && self.query.iter().any(|(key, value)| *key == "resourceVersion" && value == "0")
    }

    /// Whether nothing is to be stored.
    pub(crate) fn is_dry_run(&self) -> bool {
        let in_body = |body: &Value| body["dryRun"].is_array();
        self.query.iter().any(|(key, _)| *key == "dryRun")
            || self.body.as_ref().is_some_and(in_body)
    }

    /// Path and query, in which `fill` has replaced placeholders.
    pub(crate) fn target(&self, namespace: &str, fill: impl Fn(&str) -> String) -> String {
        let mut target = self.kind.path(namespace);
        // A new object is sent to its collection.
        if !self.name.is_empty() && self.method != Method::POST {
            target.push('/');
            target.push_str(&self.name);
        }
        target.push_str(self.below);
        for (index, (key, value)) in self.query.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            let value: String = form_urlencoded::byte_serialize(fill(value).as_bytes()).collect();
            target.extend([*key, "=", &value]);
        }
        target
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target("NS", str::to_owned))?;
        if let Some(accept) = self.accept {
            write!(f, " (accept {accept})")?;
        }
        if let Some(body) = &self.body {
            write!(f, " ({}) {body}", self.content_type)?;
        }
        Ok(())
    }
}
