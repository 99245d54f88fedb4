//! `PUT` and `PATCH`: new versions of objects.
//!
//! Each attempt reads the current version, computes the next one and stores it, unless another
//! write was faster. Then a client that named a version gets the conflict; otherwise a new attempt
//! is made.

use std::sync::Arc;

use http::Response;
use serde_json::Value;

use super::{Call, WRITE_ATTEMPTS_MAX};
use crate::admission::AdmissionOperation;
use crate::apply::{self, ApplyError, FieldWriter};
use crate::failure::{Cause, RequestFailure, Subject};
use crate::media::{self, PatchKind};
use crate::metadata;
use crate::object::Object;
use crate::patch::{self, PatchError};
use crate::reply::{self, ReplyBody};
use crate::request::Subresource;
use crate::store::StoreError;
use crate::strict::Decoded;

/// A patch as it came in.
#[derive(Debug)]
pub(super) struct Patch {
    kind: PatchKind,
    document: Value,
    duplicates: Vec<String>,
}

/// The outcome of storing a new version.
pub(super) enum Stored {
    /// The object as it is now.
    Object(Arc<Object>),
    /// The object as a dry run would leave it, or its last version when its last finalizer was
    /// removed.
    Unstored(Value),
}

// === impl Patch ===

impl Patch {
    /// The kind and the document.
    pub(super) fn into_parts(self) -> (PatchKind, Value) {
        (self.kind, self.document)
    }
}

// === impl Call ===

impl Call<'_> {
    pub(super) fn replace(&mut self) -> Result<Response<ReplyBody>, RequestFailure> {
        let Decoded { mut value, duplicates } = media::decode(&self.headers, &self.body)?;
        self.check_identity(&mut value)?;
        self.conform(&mut value, duplicates, Self::strict_failure)?;
        self.rewrite(&mut |_, _| Ok(value.clone()))
    }

    pub(super) fn patch(&mut self) -> Result<Response<ReplyBody>, RequestFailure> {
        let patch = self.read_patch()?;
        if patch.kind == PatchKind::Apply {
            return self.apply(&patch.document);
        }
        let Patch { kind, document, mut duplicates } = patch;
        self.rewrite(&mut |call, old| {
            let mut value = old.clone();
            call.patched(kind, &mut value, &document)?;
            let faults = std::mem::take(&mut duplicates);
            call.conform(&mut value, faults, |call, faults| {
                call.strict_patch_failure(faults, &document)
            })?;
            Ok(value)
        })
    }

    pub(super) fn read_patch(&self) -> Result<Patch, RequestFailure> {
        let kind = media::patch_kind(&self.headers)?;
        if kind == PatchKind::Strategic && self.target.resource.custom {
            return Err(media::unsupported(
                "application/json-patch+json, application/merge-patch+json, \
                 application/apply-patch+yaml",
            ));
        }
        let Decoded { value, duplicates } = media::decode(&self.headers, &self.body)?;
        Ok(Patch { kind, document: value, duplicates })
    }

    pub(super) fn patched(
        &self,
        kind: PatchKind,
        value: &mut Value,
        document: &Value,
    ) -> Result<(), RequestFailure> {
        let done = match kind {
            PatchKind::Json => patch::json(value, document),
            PatchKind::Merge | PatchKind::Apply => patch::merge(value, document),
            PatchKind::Strategic => patch::strategic(&self.schema(), value, document),
        };
        done.map_err(|error| match error {
            PatchError::Malformed(_) => RequestFailure::bad_request(error.to_string()),
            PatchError::Inapplicable(_) => {
                RequestFailure::new(422, "Invalid", error.to_string()).about(self.subject())
            }
        })
    }

    /// Kubernetes' words for a patch whose result breaks strict decoding.
    fn strict_patch_failure(&self, faults: &str, document: &Value) -> RequestFailure {
        let cause = Cause {
            reason: "FieldValueInvalid".into(),
            message: format!(
                "Invalid value: \"{}\": strict decoding error: {faults}",
                document.to_string().replace('"', "\\\"")
            ),
            field: "patch".into(),
        };
        let resource = &self.target.resource;
        let subject = Subject::new(&resource.group, &resource.kind, self.target.name());
        RequestFailure::invalid(subject, vec![cause])
    }

    /// Server-side apply: creates the object if need be.
    fn apply(&mut self, document: &Value) -> Result<Response<ReplyBody>, RequestFailure> {
        if self.query.field_manager.is_none() {
            return Err(RequestFailure::bad_request("fieldManager is required for apply patch"));
        }
        let mut applied = document.clone();
        self.check_identity(&mut applied)?;
        let unknown = self.schema().unknown_fields(&applied);
        if let Some(field) = unknown.first() {
            return Err(RequestFailure::bad_request(format!(
                "failed to create typed patch object ({}/{}; {}, Kind={}): .{field}: field not \
                 declared in schema",
                self.target.namespace(),
                self.target.name(),
                self.target.resource.api_version(),
                self.target.resource.kind,
            )));
        }
        let fields = metadata::of(&mut applied);
        if fields.get("managedFields").is_some_and(|managed| !managed.is_null()) {
            return Err(RequestFailure::bad_request("metadata.managedFields must be nil"));
        }
        if self.current().is_none() && self.target.subresource.is_none() {
            if let Some(uid) = named(&applied, "uid") {
                let detail = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object \
                     was found"
                );
                return Err(RequestFailure::conflict(self.subject(), &detail));
            }
            let mut value = self.applied(None, &applied)?;
            self.schema().apply_defaults(&mut value);
            return self.create_decoded(&value, false);
        }
        self.rewrite(&mut |call, old| {
            // The merged object has the metadata of the stored one.
            call.check_preconditions(old, &applied)?;
            let mut value = call.applied(Some(old), &applied)?;
            call.schema().apply_defaults(&mut value);
            Ok(value)
        })
    }

    fn applied(&self, old: Option<&Value>, applied: &Value) -> Result<Value, RequestFailure> {
        let manager = self.manager();
        let api_version = self.target.resource.api_version();
        let writer = FieldWriter {
            manager: &manager,
            api_version: &api_version,
            subresource: self.target.subresource.map(Subresource::as_str),
            now: self.now,
        };
        let done = apply::apply(&self.schema(), old, applied, &writer, self.query.force);
        done.map_err(|error| {
            let message = error.to_string();
            let ApplyError::Conflicts(conflicts) = error else {
                return RequestFailure::bad_request(message);
            };
            let mut failure = RequestFailure::new(409, "Conflict", message);
            let causes = conflicts.into_iter().map(|conflict| Cause {
                reason: "FieldManagerConflict".into(),
                message: conflict.message,
                field: conflict.field,
            });
            failure.causes = causes.collect();
            failure
        })
    }

    /// The object as it is.
    pub(super) fn current(&self) -> Option<Arc<Object>> {
        let (namespace, name) = (self.target.namespace(), self.target.name());
        self.shared.store.get(&self.target.collection(), namespace, name)
    }

    /// Computes the next version from the current one with `next` and stores it.
    fn rewrite(
        &mut self,
        next: &mut dyn FnMut(&mut Self, &Value) -> Result<Value, RequestFailure>,
    ) -> Result<Response<ReplyBody>, RequestFailure> {
        let view = self.view()?;
        let body = match self.store_next(next)? {
            Stored::Object(object) => view.object(&object, self.now),
            Stored::Unstored(value) => view.unstored(value, self.now),
        };
        Ok(reply::json(200, body))
    }

    /// As [`Self::rewrite`], for answers other than the object.
    pub(super) fn store_next(
        &mut self,
        next: &mut dyn FnMut(&mut Self, &Value) -> Result<Value, RequestFailure>,
    ) -> Result<Stored, RequestFailure> {
        for _ in 0..WRITE_ATTEMPTS_MAX {
            let current =
                self.current().ok_or_else(|| RequestFailure::not_found(self.subject()))?;
            let old = current.value();
            let value = next(self, &old)?;
            self.check_preconditions(&old, &value)?;
            match self.store_version(&current, &old, value) {
                // A client that named a version fails the preconditions of the next attempt.
                Err(Attempt::Lost) => {}
                Err(Attempt::Failed(failure)) => return Err(failure),
                Ok(stored) => return Ok(stored),
            }
        }
        Err(RequestFailure::modified(self.subject()))
    }

    /// Checks that the object and the version that the client means, if it named them, are the
    /// current ones. As in the real server, the UID of a PUT is a precondition, and that of a patch
    /// a field that cannot change.
    fn check_preconditions(&self, old: &Value, value: &Value) -> Result<(), RequestFailure> {
        let was = &old["metadata"];
        let another = named(value, "uid").filter(|uid| was["uid"] != *uid);
        let is_patch = media::patch_kind(&self.headers).is_ok();
        if let Some(uid) = another.filter(|_| !is_patch) {
            let detail = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                was["uid"].as_str().unwrap_or_default()
            );
            return Err(RequestFailure::conflict(self.subject(), &detail));
        }
        if named(value, "resourceVersion").is_some_and(|version| was["resourceVersion"] != version)
        {
            return Err(RequestFailure::modified(self.subject()));
        }
        let Some(uid) = another else {
            return Ok(());
        };
        let cause = Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: \"{uid}\": field is immutable"),
            field: "metadata.uid".into(),
        };
        Err(RequestFailure::invalid(self.subject(), vec![cause]))
    }

    fn store_version(
        &mut self,
        current: &Arc<Object>,
        old: &Value,
        value: Value,
    ) -> Result<Stored, Attempt> {
        let mut value = self.isolated(old, value);
        metadata::carry(old, &mut value, &self.target.resource);
        let mut value = self.mutate(AdmissionOperation::Update, Some(old), value)?;
        if self.target.resource.generation {
            metadata::count_change(old, &mut value);
        }
        if !self.is_apply() {
            self.track(Some(old), &mut value);
        }
        self.validate(AdmissionOperation::Update, Some(old), &value)?;
        if self.query.dry_run {
            return Ok(Stored::Unstored(value));
        }
        let store = &self.shared.store;
        let collection = self.target.collection();
        if metadata::unchanged(old, &value) {
            return Ok(Stored::Object(Arc::clone(current)));
        }
        if crate::deletion::is_over(&value) {
            store.remove(&collection, current).map_err(|error| self.lost(error))?;
            return Ok(Stored::Unstored(value));
        }
        let stored = store.replace(&collection, current, value);
        stored.map(Stored::Object).map_err(|error| self.lost(error))
    }

    /// The new version, changed only in the part that the request may write: the status or
    /// everything else.
    fn isolated(&self, old: &Value, mut value: Value) -> Value {
        match self.target.subresource {
            Some(Subresource::Status) => {
                let mut isolated = old.clone();
                isolated["status"] = value["status"].take();
                isolated["metadata"]["managedFields"] = value["metadata"]["managedFields"].take();
                if isolated["status"].is_null() {
                    isolated.as_object_mut().map(|fields| fields.remove("status"));
                }
                isolated
            }
            _ if self.target.resource.has_status => {
                let fields = value.as_object_mut();
                match (old.get("status"), fields) {
                    (Some(status), Some(fields)) => fields.insert("status".into(), status.clone()),
                    (None, Some(fields)) => fields.remove("status"),
                    (_, None) => None,
                };
                value
            }
            _ => value,
        }
    }

    fn is_apply(&self) -> bool {
        self.target.subresource != Some(Subresource::Scale)
            && media::patch_kind(&self.headers) == Ok(PatchKind::Apply)
    }

    fn lost(&self, error: StoreError) -> Attempt {
        match error {
            StoreError::Changed => Attempt::Lost,
            error => Attempt::Failed(self.refused(error)),
        }
    }
}

/// Why a version was not stored.
enum Attempt {
    /// Another write was faster; a new attempt may succeed.
    Lost,
    /// A failure that ends the request.
    Failed(RequestFailure),
}

// === impl Attempt ===

impl From<RequestFailure> for Attempt {
    fn from(failure: RequestFailure) -> Self {
        Self::Failed(failure)
    }
}

/// What the metadata of `value` says of the object that is meant; an empty text says nothing.
fn named<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value["metadata"][key].as_str().filter(|text| !text.is_empty())
}
