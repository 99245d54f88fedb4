//! The steps of a write: strict decoding, pruning, defaults, admission, validation, and
//! ownership of fields.

use std::sync::Arc;

use serde_json::Value;

use super::Call;
use crate::admission::{AdmissionOperation, AdmissionVerdict, Phase, Review};
use crate::apply::{self, FieldWriter};
use crate::failure::{Cause, RequestFailure};
use crate::request::{FieldValidation, Subresource, is_events_v1};
use crate::resources::{ResourceType, completion};
use crate::schema::{ProblemKind, Schema};
use crate::{measure, metadata};

impl Call<'_> {
    /// Refuses values of a wrong type, and refuses or reports faults and fields that the schema does
    /// not know, as `fieldValidation` says. Then drops those fields and fills in the schema's
    /// defaults. `refuse` makes the failure of a refusal.
    pub(super) fn conform(
        &mut self,
        value: &mut Value,
        mut faults: Vec<String>,
        refuse: impl Fn(&Self, &str) -> RequestFailure,
    ) -> Result<(), RequestFailure> {
        let schema = self.schema();
        let is_custom = self.target.resource.custom;
        // The real server decodes built-in kinds and all metadata into structs, and validates later.
        let broken = schema.validate(value).into_iter().find(|problem| {
            problem.kind != ProblemKind::Required
                && (!is_custom || problem.field.starts_with("metadata."))
        });
        if let Some(problem) = broken {
            return Err(refuse(self, &problem.to_string()));
        }
        if self.query.field_validation != FieldValidation::Ignore {
            let unknown = schema.unknown_fields(value).into_iter();
            faults.extend(unknown.map(|field| format!("unknown field \"{field}\"")));
        }
        match self.query.field_validation {
            FieldValidation::Strict if !faults.is_empty() => {
                let faults = faults.join(", ");
                return Err(refuse(self, &format!("strict decoding error: {faults}")));
            }
            FieldValidation::Warn => self.warnings.extend(faults),
            FieldValidation::Strict | FieldValidation::Ignore => {}
        }
        schema.prune(value);
        schema.drop_empty(value);
        self.fill_in(value);
        Ok(())
    }

    /// Fills in what the server knows better than to ask for.
    pub(super) fn fill_in(&self, value: &mut Value) {
        self.schema().apply_defaults(value);
        completion::complete(&self.target.resource, value);
    }

    /// Lets admission change the object.
    pub(super) fn mutate(
        &mut self,
        operation: AdmissionOperation,
        old: Option<&Value>,
        value: Value,
    ) -> Result<Value, RequestFailure> {
        let changed = self.review(Phase::Mutate, operation, old, Some(&value))?;
        Ok(changed.unwrap_or(value))
    }

    /// Checks the final object against its schema, then lets admission judge it.
    pub(super) fn validate(
        &mut self,
        operation: AdmissionOperation,
        old: Option<&Value>,
        value: &Value,
    ) -> Result<(), RequestFailure> {
        let resource = &self.target.resource;
        let is_core = !resource.custom && matches!(resource.group.as_str(), "" | "apps");
        let mut causes = metadata::problems(old, value, !is_core);
        if resource.custom {
            self.warnings.extend(metadata::finalizer_warnings(old, value));
        }
        let problems = self.schema().validate(value).into_iter();
        let problems = problems.filter(|problem| !problem.field.starts_with("metadata."));
        causes.extend(problems.map(|problem| Cause {
            reason: problem.kind.reason().into(),
            message: problem.message,
            field: problem.field,
        }));
        if !causes.is_empty() {
            return Err(RequestFailure::invalid(self.subject_by_kind(), causes));
        }
        self.review(Phase::Validate, operation, old, Some(value))?;
        // A stored object has to be readable at the next start, however it was put together.
        measure::check_levels(value)?;
        measure::check_bytes(value)
    }

    /// Lets admission judge a deletion.
    pub(super) fn admit_deletion(&mut self, old: &Value, name: &str) -> Result<(), RequestFailure> {
        let kept = self.target.name.replace(name.to_owned());
        let judged = self.review(Phase::Validate, AdmissionOperation::Delete, Some(old), None);
        self.target.name = kept;
        judged.map(|_| ())
    }

    fn review(
        &mut self,
        phase: Phase,
        operation: AdmissionOperation,
        old: Option<&Value>,
        object: Option<&Value>,
    ) -> Result<Option<Value>, RequestFailure> {
        let resource = &self.target.resource;
        let verdict = self.shared.admission.review(&Review {
            phase,
            group: &resource.group,
            version: &resource.version,
            kind: &resource.kind,
            operation,
            subresource: self.target.subresource.map(Subresource::as_str),
            namespace: self.target.namespace(),
            name: self.target.name(),
            object,
            old,
            user: self.user,
            dry_run: self.query.dry_run,
        });
        match verdict {
            AdmissionVerdict::Allowed { object, warnings } => {
                self.warnings.extend(warnings);
                Ok(object)
            }
            AdmissionVerdict::Denied { code, message } => {
                let reason = match code {
                    403 => "Forbidden",
                    409 => "Conflict",
                    422 => "Invalid",
                    500.. => "InternalError",
                    _ => "BadRequest",
                };
                Err(RequestFailure::new(code, reason, message))
            }
        }
    }

    pub(super) fn is_namespace(&self) -> bool {
        let resource = &self.target.resource;
        resource.group.is_empty() && resource.plural == "namespaces"
    }

    /// The schema of the stored form: events.k8s.io/v1 Events are kept as core v1 ones.
    pub(super) fn schema(&self) -> Arc<Schema> {
        let resource = &self.target.resource;
        let stored = is_events_v1(resource).then(|| {
            let core = |own: &&Arc<ResourceType>| own.group.is_empty() && own.kind == "Event";
            self.shared.resources.iter().find(core)
        });
        Arc::clone(&stored.flatten().unwrap_or(resource).schema)
    }

    /// Records the writer of each changed field.
    pub(super) fn track(&self, old: Option<&Value>, value: &mut Value) {
        // The managers of an object are not written through a part of it.
        if let (Some(old), true) = (old, self.target.subresource.is_some()) {
            value["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
        }
        // Nobody but the server has written the status of a new object.
        let mut empty = completion::empty(&self.target.resource);
        if self.target.resource.has_status {
            empty["status"] = value["status"].clone();
        }
        let (manager, api_version) = (self.manager(), self.target.resource.api_version());
        let writer = self.field_writer(&manager, &api_version);
        apply::track_update(&self.schema(), Some(old.unwrap_or(&empty)), value, &writer);
    }

    /// Who writes fields by this request.
    pub(super) fn field_writer<'a>(
        &self,
        manager: &'a str,
        api_version: &'a str,
    ) -> FieldWriter<'a> {
        let subresource = self.target.subresource.map(Subresource::as_str);
        FieldWriter { manager, api_version, subresource, now: self.now }
    }

    /// Kubernetes' words for a body that cannot be decoded.
    pub(super) fn undecodable(&self, what: &str) -> RequestFailure {
        let kind = &self.target.resource.kind;
        let version = self.target.resource.version.as_str();
        RequestFailure::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {what}"
        ))
    }
}
