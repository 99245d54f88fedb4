//! `DELETE`: one object, or a selection of a collection.

use std::sync::Arc;

use http::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, WRITE_ATTEMPTS_MAX};
use crate::deletion::{self, DeletionPlan, Manner};
use crate::failure::RequestFailure;
use crate::media;
use crate::object::Object;
use crate::reply::{self, ReplyBody};
use crate::request::Propagation;
use crate::store::{Page, StoreError};

/// Namespaces that are never deleted: something always expects them.
const KEPT_NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// The body of a deletion; every field may be in the query instead.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    grace_period_seconds: Option<u64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<Preconditions>,
    dry_run: Option<Vec<String>>,
}

/// What must be true of the object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// The outcome of a deletion.
enum Outcome {
    /// The object is gone, or would be but for a dry run; this is its last version.
    Gone(Arc<Object>),
    /// The object is marked as being deleted, or would be but for a dry run.
    Marked(Value),
}

impl Call<'_> {
    pub(super) fn delete(&mut self) -> Result<Response<ReplyBody>, RequestFailure> {
        let (manner, preconditions) = self.read_options()?;
        let view = self.view()?;
        let current = self.current().ok_or_else(|| RequestFailure::not_found(self.subject()))?;
        match self.delete_one(current, manner, &preconditions)? {
            Outcome::Marked(value) => Ok(reply::json(200, view.unstored(value, self.now))),
            Outcome::Gone(object) if self.target.resource.is_shown_when_gone() => {
                Ok(reply::json(200, view.object(&object, self.now)))
            }
            Outcome::Gone(object) => {
                let mut details = json!({
                    "name": object.name(),
                    "kind": self.target.resource.plural,
                    "uid": object.uid(),
                });
                if !self.target.resource.group.is_empty() {
                    details["group"] = Value::from(self.target.resource.group.as_str());
                }
                Ok(reply::value(&json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Success", "details": details,
                })))
            }
        }
    }

    pub(super) fn delete_collection(&mut self) -> Result<Response<ReplyBody>, RequestFailure> {
        let (manner, preconditions) = self.read_options()?;
        let view = self.view()?;
        let page: Page = self.page()?;
        for object in &page.objects {
            self.target.name = Some(object.name().to_owned());
            match self.delete_one(Arc::clone(object), manner, &preconditions) {
                // Another client deleted the object first: the wish is fulfilled.
                Err(failure) if failure.code == 404 => {}
                other => {
                    other?;
                }
            }
        }
        Ok(reply::json(200, view.page(&page, self.now)))
    }

    fn read_options(&mut self) -> Result<(Manner, Preconditions), RequestFailure> {
        let options: DeleteOptions = if self.body.is_empty() {
            DeleteOptions::default()
        } else {
            let decoded = media::decode(&self.headers, &self.body)?;
            serde_json::from_value(decoded.value).map_err(|error| {
                RequestFailure::bad_request(format!("invalid DeleteOptions: {error}"))
            })?
        };
        let DeleteOptions {
            grace_period_seconds,
            propagation_policy,
            orphan_dependents,
            preconditions,
            dry_run,
        } = options;
        self.query.dry_run |= dry_run.is_some_and(|stages| stages.iter().any(|one| one == "All"));
        let named = propagation_policy.as_deref().map(Propagation::parse).transpose()?;
        let older = orphan_dependents
            .map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background });
        let manner = Manner {
            grace_s: grace_period_seconds.or(self.query.grace_s),
            propagation: named.or(older).or(self.query.propagation),
        };
        Ok((manner, preconditions.unwrap_or_default()))
    }

    fn delete_one(
        &mut self,
        first: Arc<Object>,
        manner: Manner,
        preconditions: &Preconditions,
    ) -> Result<Outcome, RequestFailure> {
        let collection = self.target.collection();
        let mut current = first;
        for _ in 0..WRITE_ATTEMPTS_MAX {
            self.check_deletable(&current, preconditions)?;
            let old = current.value();
            self.admit_deletion(&old, current.name())?;
            let plan = deletion::plan(&old, manner, self.now);
            let done = match plan {
                DeletionPlan::Wait => Ok(Outcome::Marked(old)),
                DeletionPlan::Remove if self.query.dry_run => {
                    Ok(Outcome::Gone(Arc::clone(&current)))
                }
                DeletionPlan::Mark(value) | DeletionPlan::RemoveMarked(value)
                    if self.query.dry_run =>
                {
                    Ok(Outcome::Marked(value))
                }
                DeletionPlan::Remove => {
                    self.shared.store.remove(&collection, &current).map(Outcome::Gone)
                }
                DeletionPlan::RemoveMarked(value) => {
                    let store = &self.shared.store;
                    let marked = store.replace(&collection, &current, value);
                    let removed = marked.and_then(|marked| store.remove(&collection, &marked));
                    removed.map(|object| Outcome::Marked(object.value()))
                }
                DeletionPlan::Mark(value) => {
                    let stored = self.shared.store.replace(&collection, &current, value);
                    stored.map(|object| Outcome::Marked(object.value()))
                }
            };
            match done {
                Err(StoreError::Changed) => {
                    let (namespace, name) = (current.namespace(), current.name());
                    let latest = self.shared.store.get(&collection, namespace, name);
                    current = latest.ok_or_else(|| RequestFailure::not_found(self.subject()))?;
                }
                done => return done.map_err(|error| self.refused(error)),
            }
        }
        Err(RequestFailure::modified(self.subject()))
    }

    fn check_deletable(
        &self,
        object: &Object,
        preconditions: &Preconditions,
    ) -> Result<(), RequestFailure> {
        if self.is_namespace() && KEPT_NAMESPACES.contains(&object.name()) {
            let detail = "this namespace may not be deleted";
            return Err(RequestFailure::forbidden(self.subject(), detail));
        }
        let Preconditions { uid, resource_version } = preconditions;
        if let Some(uid) = uid.as_deref().filter(|uid| *uid != object.uid()) {
            let detail = format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The \
                 object might have been deleted and then recreated",
                object.uid()
            );
            return Err(RequestFailure::conflict(self.subject_by_kind(), &detail));
        }
        let revision = object.revision().to_string();
        match resource_version.as_deref().filter(|wanted| *wanted != revision) {
            Some(wanted) => {
                let detail = format!(
                    "the ResourceVersion in the precondition ({wanted}) does not match the \
                     ResourceVersion in record ({revision}). The object might have been modified"
                );
                Err(RequestFailure::conflict(self.subject_by_kind(), &detail))
            }
            None => Ok(()),
        }
    }
}
