//! The gauntlet of a write: strict decoding, pruning, defaults, admission, validation.

use serde_json::Value;

use super::Call;
use crate::admission::{Operation, Phase, Review, Verdict};
use crate::failure::{Cause, Failure, Subject};
use crate::measure;
use crate::request::{FieldValidation, Subresource};

impl Call<'_> {
    /// Deals with fields that the schema does not know, as `fieldValidation` says, and drops
    /// them; then fills in the schema's defaults. `strict` makes the failure of strictness.
    pub(super) fn conform(
        &mut self,
        value: &mut Value,
        mut faults: Vec<String>,
        strict: impl FnOnce(&Self, &str) -> Failure,
    ) -> Result<(), Failure> {
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
        operation: Operation,
        old: Option<&Value>,
        value: Value,
    ) -> Result<Value, Failure> {
        let changed = self.review(Phase::Mutate, operation, old, Some(&value))?;
        Ok(changed.unwrap_or(value))
    }

    /// Checks the final object against its schema, then lets admission judge it.
    pub(super) fn validate(
        &mut self,
        operation: Operation,
        old: Option<&Value>,
        value: &Value,
    ) -> Result<(), Failure> {
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
            return Err(Failure::invalid(subject, causes.collect()));
        }
        self.review(Phase::Validate, operation, old, Some(value))?;
        // What is stored has to be readable at the next start, whoever put it together.
        measure::check_levels(value)?;
        measure::check_bytes(value)
    }

    /// Lets admission judge a deletion.
    pub(super) fn admit_deletion(&mut self, old: &Value, name: &str) -> Result<(), Failure> {
        let kept = self.target.name.replace(name.to_owned());
        let judged = self.review(Phase::Validate, Operation::Delete, Some(old), None);
        self.target.name = kept;
        judged.map(|_| ())
    }

    fn review(
        &mut self,
        phase: Phase,
        operation: Operation,
        old: Option<&Value>,
        object: Option<&Value>,
    ) -> Result<Option<Value>, Failure> {
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
            Verdict::Allowed { object, warnings } => {
                self.warnings.extend(warnings);
                Ok(object)
            }
            Verdict::Denied { code, message } => {
                let reason = match code {
                    403 => "Forbidden",
                    409 => "Conflict",
                    422 => "Invalid",
                    500.. => "InternalError",
                    _ => "BadRequest",
                };
                Err(Failure::new(code, reason, message))
            }
        }
    }
}
