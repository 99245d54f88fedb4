//! Server-side apply.

use http::Response;
use serde_json::Value;

use super::Call;
use super::update::named_in;
use crate::apply::{self, ApplyError};
use crate::failure::{Cause, RequestFailure};
use crate::metadata;
use crate::reply::ReplyBody;
use crate::request::Subresource;
use crate::resources::completion;
use crate::schema::ProblemKind;

impl Call<'_> {
    /// Applies a document: creates the object if need be.
    pub(super) fn apply(
        &mut self,
        document: &Value,
    ) -> Result<Response<ReplyBody>, RequestFailure> {
        self.check_applier()?;
        let applied = self.applicable(document)?;
        if self.current().is_none() && self.target.subresource.is_none() {
            if let Some(uid) = named_in(&applied, "uid") {
                let detail = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object \
                     was found"
                );
                return Err(RequestFailure::conflict(self.subject(), &detail));
            }
            let mut value = self.applied(None, &applied)?;
            self.check_named(document)?;
            self.check_place(document)?;
            self.fill_in(&mut value);
            return self.create_decoded(&value, false);
        }
        self.rewrite(&mut |call, old| {
            let mut value = call.applied(Some(old), &applied)?;
            call.check_named(document)?;
            call.check_place(document)?;
            // The merged object has the metadata of the stored one.
            call.check_preconditions(old, &applied)?;
            call.fill_in(&mut value);
            Ok(value)
        })
    }

    /// Checks that the request says who applies.
    pub(super) fn check_applier(&self) -> Result<(), RequestFailure> {
        if self.query.field_manager.is_some() {
            return Ok(());
        }
        Err(RequestFailure::invalid_option(
            "PatchOptions",
            "fieldManager",
            "FieldValueRequired",
            "Required value: is required for apply patch",
        ))
    }

    /// The document as it can be merged.
    fn applicable(&self, document: &Value) -> Result<Value, RequestFailure> {
        let resource = &self.target.resource;
        check_type(document, &resource.api_version(), &resource.kind)?;
        let mut applied = document.clone();
        self.identify(&mut applied);
        let schema = self.schema();
        let unknown = schema.unknown_fields(&applied).into_iter();
        let unknown = unknown.map(|field| format!("{field}: field not declared in schema"));
        let broken = schema.validate(&applied).into_iter();
        let broken = broken.filter(|problem| problem.kind == ProblemKind::TypeInvalid);
        if let Some(problem) = unknown.chain(broken.map(|problem| problem.to_string())).next() {
            let metadata = |key: &str| document["metadata"][key].as_str().unwrap_or_default();
            return Err(RequestFailure::bad_request(format!(
                "failed to create typed patch object ({}/{}; {}): .{problem}",
                metadata("namespace"),
                metadata("name"),
                type_text(&resource.api_version(), &resource.kind),
            )));
        }
        let managed = metadata::of(&mut applied).get("managedFields");
        if managed.is_some_and(|managed| !managed.is_null()) {
            return Err(RequestFailure::bad_request("metadata.managedFields must be nil"));
        }
        self.reset_fields(&mut applied);
        Ok(applied)
    }

    /// Drops what this request cannot write, so that nobody comes to own it.
    fn reset_fields(&self, applied: &mut Value) {
        let resource = &self.target.resource;
        let is_status = self.target.subresource == Some(Subresource::Status);
        let Some(fields) = applied.as_object_mut().filter(|_| resource.has_status) else {
            return;
        };
        if !is_status {
            fields.remove("status");
            return;
        }
        fields.retain(|name, _| {
            matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status")
        });
        let metadata = metadata::of(applied);
        match (resource.custom, resource.kind.as_str()) {
            (true, _) => metadata.retain(|name, _| {
                matches!(name.as_str(), "name" | "namespace" | "resourceVersion" | "uid")
            }),
            (false, "Deployment") => {
                metadata.remove("labels");
            }
            (false, "Pod") => {
                metadata.remove("ownerReferences");
            }
            (false, _) => {}
        }
    }

    pub(super) fn applied(
        &self,
        old: Option<&Value>,
        applied: &Value,
    ) -> Result<Value, RequestFailure> {
        let (manager, api_version) = (self.manager(), self.target.resource.api_version());
        let writer = self.field_writer(&manager, &api_version);
        let blank = completion::empty(&self.target.resource);
        let done = apply::apply(&self.schema(), (old, &blank), applied, &writer, self.query.force);
        done.map_err(|mut error| {
            if let ApplyError::Conflicts(conflicts) = &mut error
                && self.target.subresource == Some(Subresource::Scale)
            {
                // Whoever owns the number of a scale is told as the owner of one.
                let own = format!(" using {api_version}");
                for conflict in conflicts {
                    conflict.message = conflict.message.replace(&own, " using autoscaling/v1");
                }
            }
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
}

/// Checks that an applied document says what it is.
pub(super) fn check_type(
    document: &Value,
    api_version: &str,
    kind: &str,
) -> Result<(), RequestFailure> {
    let text = |key: &str| document[key].as_str().unwrap_or_default();
    if text("kind") == kind && text("apiVersion") == api_version {
        return Ok(());
    }
    let found = type_text(text("apiVersion"), text("kind"));
    Err(RequestFailure::bad_request(format!("invalid object type: {found}")))
}

/// `apps/v1, Kind=Deployment`, and `/v1, Kind=Pod`: how Go programs write a type.
fn type_text(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}
