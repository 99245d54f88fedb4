//! The steps of a write: identity, strict decoding, pruning, defaults, admission, validation, and
//! ownership of fields.

use std::sync::Arc;

use serde_json::Value;

use super::Call;
use crate::admission::{AdmissionOperation, AdmissionVerdict, Phase, Review};
use crate::apply::{self, FieldWriter};
use crate::failure::{Cause, RequestFailure, Subject};
use crate::request::{FieldValidation, Subresource, is_events_v1};
use crate::resources::{self, ResourceType};
use crate::schema::Schema;
use crate::{measure, metadata};

impl Call<'_> {
    /// Refuses or reports faults and fields that the schema does not know, as `fieldValidation`
    /// says. Then drops those fields and fills in the schema's defaults. `strict` makes the failure
    /// of a refusal.
    pub(super) fn conform(
        &mut self,
        value: &mut Value,
        mut faults: Vec<String>,
        strict: impl FnOnce(&Self, &str) -> RequestFailure,
    ) -> Result<(), RequestFailure> {
        let schema = self.schema();
        if self.query.field_validation != FieldValidation::Ignore {
            let unknown = schema.unknown_fields(value).into_iter();
            faults.extend(unknown.map(|field| format!("unknown field \"{field}\"")));
        }
        match self.query.field_validation {
            FieldValidation::Strict if !faults.is_empty() => {
                return Err(strict(self, &faults.join(", ")));
            }
            FieldValidation::Warn => self.warnings.extend(faults),
            FieldValidation::Strict | FieldValidation::Ignore => {}
        }
        schema.prune(value);
        schema.apply_defaults(value);
        Ok(())
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
        let problems = self.schema().validate(value);
        if !problems.is_empty() {
            let causes = problems.into_iter().map(|problem| Cause {
                reason: problem.kind.reason().into(),
                message: problem.message,
                field: problem.field,
            });
            let name = value["metadata"]["name"].as_str().unwrap_or_default();
            let resource = &self.target.resource;
            let subject = Subject::new(&resource.group, &resource.kind, name);
            return Err(RequestFailure::invalid(subject, causes.collect()));
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
        let manager = self.manager();
        let api_version = self.target.resource.api_version();
        let writer = FieldWriter {
            manager: &manager,
            api_version: &api_version,
            subresource: self.target.subresource.map(Subresource::as_str),
            now: self.now,
        };
        apply::track_update(&self.schema(), old, value, &writer);
    }

    /// Checks that a body is of the kind, namespace and name that the path says, and fills in those
    /// that it leaves out. Events come out in their stored form.
    pub(super) fn check_identity(&self, value: &mut Value) -> Result<(), RequestFailure> {
        if !value.is_object() {
            return Err(RequestFailure::bad_request("the body of the request is not an object"));
        }
        let resource = &self.target.resource;
        let api_version = resource.api_version();
        for (key, expected) in [("apiVersion", &api_version), ("kind", &resource.kind)] {
            match value[key].as_str() {
                None | Some("") => value[key] = Value::from(expected.as_str()),
                Some(found) if found == expected => {}
                Some(found) => {
                    let what = if key == "kind" { "kind" } else { "API version" };
                    return Err(RequestFailure::bad_request(format!(
                        "the {what} in the data ({found}) does not match the expected {what} \
                         ({expected})"
                    )));
                }
            }
        }
        if is_events_v1(resource) {
            *value = resources::event_from_events_v1(value);
        }
        let fields = metadata::of(value);
        let places = [("namespace", &self.target.namespace), ("name", &self.target.name)];
        for (key, expected) in places {
            let found = fields.get(key).and_then(Value::as_str).unwrap_or_default();
            match expected {
                Some(expected) if found.is_empty() => {
                    fields.insert(key.into(), Value::from(expected.as_str()));
                }
                Some(expected) if found != expected => {
                    return Err(RequestFailure::bad_request(format!(
                        "the {key} of the provided object does not match the {key} sent on the \
                         request"
                    )));
                }
                None if key == "namespace" => {
                    fields.remove(key);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Kubernetes' words for a body that breaks strict decoding.
    pub(super) fn strict_failure(&self, faults: &str) -> RequestFailure {
        let kind = &self.target.resource.kind;
        let version = self.target.resource.version.as_str();
        RequestFailure::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding \
             error: {faults}"
        ))
    }
}
