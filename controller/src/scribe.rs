//! Every write of the reconcilers: only where something differs, counted, and remembered.
//!
//! Objects are written by server-side apply as [`MANAGER`], statuses as [`STATUS_MANAGER`], so that
//! `managedFields` tells the two apart. Three kinds are created by POST instead: a Revision (never
//! changed afterwards, and a name that is taken must be an error), a Deployment (`replicas` must be
//! written once and never be owned by an apply), and the core/v1 Service of a Route (a foreign
//! Service may have the name, and ours never loses a field).

use std::sync::Arc;

use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Client, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cache::{Cache, Stored, Writing};
use crate::difference;
use crate::metrics::ControllerMetrics;
use crate::owner;

/// Field manager of everything but statuses.
pub(crate) const MANAGER: &str = "ebb-controller";
/// Field manager of statuses.
pub(crate) const STATUS_MANAGER: &str = "ebb-controller-status";

/// Why a reconcile cannot bring the cluster closer to what an object asks for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// A request to the API server failed.
    #[error("cannot {verb} {kind} {namespace}/{name}")]
    Request {
        /// The verb of the request.
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// Namespace of the object.
        namespace: String,
        /// Name of the object.
        name: String,
        /// The cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// A foreign object has the place of a child: no event is sure to report when the place is
    /// free.
    #[error("{kind} {namespace}/{name} exists and is not owned by this object")]
    Taken {
        /// Kind of the child.
        kind: String,
        /// Namespace of the child.
        namespace: String,
        /// Name of the child.
        name: String,
    },
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Writes objects and statuses.
#[derive(Clone)]
pub(crate) struct Scribe {
    client: Client,
    metrics: ControllerMetrics,
}

// === impl WriteError ===

impl WriteError {
    fn new<K: Stored>(verb: &'static str, object: &K, source: kube::Error) -> Self {
        Self::Request {
            verb,
            kind: K::kind(&()).into_owned(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            source: Box::new(source),
        }
    }

    /// A foreign object has the place of `child`.
    pub(crate) fn taken<K: Stored>(child: &K) -> Self {
        Self::Taken {
            kind: K::kind(&()).into_owned(),
            namespace: child.namespace().unwrap_or_default(),
            name: child.name_any(),
        }
    }

    /// The status that the API server answered with, if it did.
    fn status(&self) -> Option<&Status> {
        match self {
            Self::Request { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::Taken { .. } => None,
        }
    }

    /// Whether the object exists already.
    pub(crate) fn is_already_exists(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// Whether the object was changed meanwhile, or another has its name.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.is_conflict() || is_of_another(status))
    }

    /// The API server's message, if it refused the object itself, so that trying again helps only
    /// once somebody has changed a quota, a policy or the object.
    pub(crate) fn refusal(&self) -> Option<&str> {
        let refuses = |status: &&Status| matches!(status.code, 400 | 403 | 422);
        let status = self.status().filter(refuses).filter(|status| !is_of_another(status))?;
        Some(status.message.as_str())
    }

    /// Whether the error lasts until a person does something.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Self::Taken { .. }) || self.refusal().is_some()
    }
}

/// Whether the object of the name has another UID than the one in the patch: the API server says so
/// as of a field that cannot change.
fn is_of_another(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 && causes.into_iter().any(|cause| cause.field == "metadata.uid")
}

// === impl Scribe ===

impl Scribe {
    /// A scribe that counts its writes.
    pub(crate) fn new(client: Client, metrics: ControllerMetrics) -> Self {
        Self { client, metrics }
    }

    /// Creates an object that must not exist yet.
    pub(crate) async fn create<K: Stored>(
        &self,
        cache: &Cache<K>,
        desired: &K,
    ) -> Result<Arc<K>, WriteError> {
        let params =
            PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let writing = cache.begin(desired);
        let answer = self.api(desired).create(&params, desired).await;
        self.finish(writing, "create", desired, answer)
    }

    /// Creates an object that is in no store and yet may exist already: made by somebody else and
    /// without our label, or by us a moment ago. An existing object is then returned, and the
    /// caller must check its owner. Asking first would cost a request at every start.
    pub(crate) async fn create_or_find<K: Stored>(
        &self,
        cache: &Cache<K>,
        desired: &K,
    ) -> Result<Arc<K>, WriteError> {
        let error = match self.create(cache, desired).await {
            Err(error) if error.is_already_exists() => error,
            made => return made,
        };
        let reading = cache.begin(desired);
        match self.api(desired).get_opt(&desired.name_any()).await {
            Ok(Some(found)) if owner::have_same_controller(desired, &found) => {
                Ok(reading.answered(found))
            }
            // Not into the cache: without our label no event would ever remove the object from it.
            Ok(Some(found)) => Ok(Arc::new(found)),
            // Deleted in between: the next try creates it.
            Ok(None) => Err(error),
            Err(source) => Err(WriteError::new("read", desired, source)),
        }
    }

    /// Brings the object to `desired`; writes nothing if `existing` has all of that already.
    ///
    /// Without `existing` the apply is not forced: an object that somebody else made in the
    /// meantime is then reported as a conflict, not overwritten. With it the apply names its UID:
    /// an object that got the name meanwhile is refused, and none is made if it is gone.
    pub(crate) async fn apply<K: Stored>(
        &self,
        cache: &Cache<K>,
        desired: &K,
        existing: Option<&Arc<K>>,
    ) -> Result<Arc<K>, WriteError> {
        let mut wanted = value(desired);
        if let Some(existing) = existing
            && !difference::differs(&value(existing.as_ref()), &wanted, MANAGER)
        {
            return Ok(existing.clone());
        }
        let mut params = PatchParams::apply(MANAGER);
        if let Some(existing) = existing {
            params.force = true;
            wanted["metadata"]["uid"] = json!(existing.meta().uid);
        }
        let name = desired.name_any();
        let writing = cache.begin(desired);
        let answer = self.api(desired).patch(&name, &params, &Patch::Apply(&wanted)).await;
        self.finish(writing, "apply", desired, answer)
    }

    /// Changes a few fields of an object that has not changed since it was read.
    pub(crate) async fn merge<K: Stored>(
        &self,
        cache: &Cache<K>,
        object: &K,
        mut patch: Value,
    ) -> Result<Arc<K>, WriteError> {
        // The version makes two writers of the same list of routes take turns.
        patch["metadata"]["resourceVersion"] = json!(object.meta().resource_version);
        let params =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let name = object.name_any();
        let writing = cache.begin(object);
        let answer = self.api(object).patch(&name, &params, &Patch::Merge(&patch)).await;
        self.finish(writing, "merge", object, answer)
    }

    /// Replaces the whole status of an object that has not changed since it was read. The version
    /// is a precondition: a new object that got the name meanwhile keeps its own status, and no
    /// decision of the autoscaler, which is part of a Revision's status, is ever replaced by an
    /// older one.
    pub(crate) async fn status<K: Stored, S: Serialize + Sync>(
        &self,
        cache: &Cache<K>,
        object: &K,
        status: &S,
    ) -> Result<Arc<K>, WriteError> {
        let name = object.name_any();
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {
                "name": name,
                "uid": object.meta().uid,
                "resourceVersion": object.meta().resource_version,
            },
            "status": value(status),
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        let writing = cache.begin(object);
        let answer = self.api(object).patch_status(&name, &params, &Patch::Apply(&patch)).await;
        self.finish(writing, "status", object, answer)
    }

    /// Deletes an object that has not changed since it was read; one that is gone already is deleted.
    pub(crate) async fn delete<K: Stored>(&self, object: &K) -> Result<(), WriteError> {
        let preconditions =
            Preconditions { uid: object.uid(), resource_version: object.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let answer = self.api(object).delete(&object.name_any(), &params).await;
        self.metrics.wrote(&K::kind(&()), "delete");
        match answer {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(WriteError::new("delete", object, source)),
            Ok(_) => Ok(()),
        }
    }

    fn api<K: Stored>(&self, object: &K) -> Api<K> {
        let namespace = object.namespace().unwrap_or_default();
        Api::namespaced(self.client.clone(), &namespace)
    }

    fn finish<K: Stored>(
        &self,
        writing: Writing<K>,
        verb: &'static str,
        object: &K,
        answer: kube::Result<K>,
    ) -> Result<Arc<K>, WriteError> {
        self.metrics.wrote(&K::kind(&()), verb);
        match answer {
            Ok(written) => Ok(writing.answered(written)),
            Err(source) => Err(WriteError::new(verb, object, source)),
        }
    }
}

fn value<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).expect("API types have string keys only and always serialise")
}
