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
use crate::failure::{Cause, RequestFailure};
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
        let named = self.check_named(&value);
        let kind = self.check_kind(&value);
        if let Err(failure) = &kind
            && failure.code != 422
        {
            return Err(failure.clone());
        }
        self.check_place(&value)?;
        self.identify(&mut value);
        self.conform(&mut value, duplicates, Self::undecodable)?;
        named?;
        let resource = Arc::clone(&self.target.resource);
        let is_whole = self.target.subresource.is_none();
        if resource.is_created_by_put()
            && self.current().is_none()
            && let Some(uid) = named_in(&value, "uid")
        {
            return Err(self.another_uid(uid, ""));
        }
        if is_whole && resource.is_created_by_put() && self.current().is_none() {
            check_version(&value)?;
            metadata::of(&mut value).remove("managedFields");
            return self.create_decoded(&value, true);
        }
        self.rewrite(&mut |call, old| {
            let was = old["metadata"]["uid"].as_str().unwrap_or_default();
            if let Some(uid) = named_in(&value, "uid").filter(|uid| *uid != was) {
                return Err(call.another_uid(uid, was));
            }
            check_version(&value)?;
            if named_in(&value, "resourceVersion").is_none() && !resource.takes_any_version() {
                return Err(RequestFailure::invalid(
                    call.subject(),
                    vec![Cause {
                        reason: "FieldValueInvalid".into(),
                        message: "Invalid value: 0: must be specified for an update".into(),
                        field: "metadata.resourceVersion".into(),
                    }],
                ));
            }
            // A custom kind's is a part of its validation.
            kind.clone()?;
            Ok(value.clone())
        })
    }

    pub(super) fn patch(&mut self) -> Result<Response<ReplyBody>, RequestFailure> {
        let patch = self.read_patch()?;
        if patch.kind == PatchKind::Apply {
            return self.apply(&patch.document);
        }
        if self.query.force {
            let message = "Forbidden: may not be specified for non-apply patch";
            let reason = "FieldValueForbidden";
            return Err(RequestFailure::invalid_option("PatchOptions", "force", reason, message));
        }
        let Patch { kind, document, mut duplicates } = patch;
        self.rewrite(&mut |call, old| {
            let mut value = old.clone();
            call.patched(kind, &mut value, &document)?;
            let refuse = |call: &Self, what: &str| call.unusable_patch(what, &document);
            // A strategic merge patch is decoded into the kind that is there.
            let kind = if kind == PatchKind::Strategic { Ok(()) } else { call.check_kind(&value) };
            if let Err(failure) = kind {
                let is_custom = call.target.resource.custom;
                return Err(if is_custom { failure } else { refuse(call, &failure.message) });
            }
            call.conform(&mut value, std::mem::take(&mut duplicates), refuse)?;
            call.check_named(&value)?;
            call.check_place(&value)?;
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

    /// Kubernetes' words for a patch whose result cannot be decoded.
    fn unusable_patch(&self, what: &str, document: &Value) -> RequestFailure {
        let cause = Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {:?}: {what}", document.to_string()),
            field: "patch".into(),
        };
        RequestFailure::invalid(self.subject_by_kind(), vec![cause])
    }

    /// The object as it is.
    pub(super) fn current(&self) -> Option<Arc<Object>> {
        let (namespace, name) = (self.target.namespace(), self.target.name());
        self.shared.store.get(&self.target.collection(), namespace, name)
    }

    /// Computes the next version from the current one with `next` and stores it.
    pub(super) fn rewrite(
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
    pub(super) fn check_preconditions(
        &self,
        old: &Value,
        value: &Value,
    ) -> Result<(), RequestFailure> {
        let was = &old["metadata"];
        let another = named_in(value, "uid").filter(|uid| was["uid"] != *uid);
        let is_patch = media::patch_kind(&self.headers).is_ok();
        if let Some(uid) = another.filter(|_| !is_patch) {
            return Err(self.another_uid(uid, was["uid"].as_str().unwrap_or_default()));
        }
        if named_in(value, "resourceVersion")
            .is_some_and(|version| was["resourceVersion"] != version)
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
        Err(RequestFailure::invalid(self.subject_by_kind(), vec![cause]))
    }

    fn another_uid(&self, uid: &str, found: &str) -> RequestFailure {
        let detail =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
        RequestFailure::conflict(self.subject(), &detail)
    }

    fn store_version(
        &mut self,
        current: &Arc<Object>,
        old: &Value,
        value: Value,
    ) -> Result<Stored, Attempt> {
        let mut value = self.isolated(old, value);
        metadata::carry(old, &mut value);
        let is_status = self.target.subresource == Some(Subresource::Status);
        let is_counted = self.target.resource.generation && !is_status;
        if is_counted {
            metadata::count_change(old, &mut value);
        }
        let mut value = self.mutate(AdmissionOperation::Update, Some(old), value)?;
        if is_counted {
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
            Some(Subresource::Status) if !self.target.resource.custom => {
                built_in_status(old, value)
            }
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
        media::patch_kind(&self.headers) == Ok(PatchKind::Apply)
    }

    fn lost(&self, error: StoreError) -> Attempt {
        match error {
            StoreError::Changed => Attempt::Lost,
            error => Attempt::Failed(self.refused(error)),
        }
    }
}

/// A write of a built-in kind's status may change metadata too, but for those that the real server's
/// strategies keep.
fn built_in_status(old: &Value, mut value: Value) -> Value {
    let kept = match old["kind"].as_str() {
        Some("Deployment") => "labels",
        Some("Pod") => "ownerReferences",
        _ => "",
    };
    let metadata = metadata::of(&mut value);
    match old["metadata"].get(kept) {
        Some(own) => metadata.insert(kept.into(), own.clone()),
        None => metadata.remove(kept),
    };
    let mut isolated = old.clone();
    isolated["metadata"] = value["metadata"].take();
    isolated["status"] = value["status"].take();
    if kept == "ownerReferences" && isolated["status"]["qosClass"].is_null() {
        isolated["status"]["qosClass"] = old["status"]["qosClass"].clone();
    }
    if isolated["status"].is_null() {
        isolated.as_object_mut().map(|fields| fields.remove("status"));
    }
    isolated
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

/// Refuses a version that none has.
fn check_version(value: &Value) -> Result<(), RequestFailure> {
    match named_in(value, "resourceVersion") {
        Some(version) if version.parse::<u64>().is_err() => Err(RequestFailure::bad_request(
            format!("metadata.resourceVersion {version:?} is no version of an object"),
        )),
        _ => Ok(()),
    }
}

/// What the metadata of `value` says of the object that is meant; an empty text says nothing.
pub(super) fn named_in<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value["metadata"][key].as_str().filter(|text| !text.is_empty())
}
