//! The kinds that the server serves, and how.
//!
//! Custom kinds come from their CustomResourceDefinitions, so that here and on a cluster they have
//! one schema and one set of columns. The built-in kinds are those that the controller, the
//! runner, `kubectl` and `kn` work with.

mod builtin;
pub(crate) mod completion;
mod custom;
mod event;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::schema::Schema;
use crate::table::column::Column;

pub use self::event::{event_from_events_v1, event_to_events_v1};

/// Everything that can be done with a kind that clients may write.
const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// What can be done with a kind whose objects the server itself makes.
const READ_VERBS: &[&str] = &["get", "list", "watch"];

/// One kind that is served.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a kind, as in Kubernetes' own APIResource"
)]
pub struct ResourceType {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Kind of its objects.
    pub kind: String,
    /// Name in paths.
    pub plural: String,
    /// Name for one object.
    pub singular: String,
    /// Other names that `kubectl get` takes.
    pub short_names: Vec<String>,
    /// Groups of kinds for `kubectl get`, such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether there is a status subresource. Then writes of the object ignore its status, and
    /// writes of the status ignore all else.
    pub has_status: bool,
    /// Whether there is a scale subresource.
    pub has_scale: bool,
    /// Verbs, as discovery lists them.
    pub verbs: &'static [&'static str],
    /// Schema of its objects, metadata included.
    pub schema: Arc<Schema>,
    /// Columns of its table.
    pub columns: Vec<Column>,
    /// Whether it comes from a CustomResourceDefinition.
    pub custom: bool,
    /// Whether `metadata.generation` counts changes of its spec.
    pub generation: bool,
}

// === impl ResourceType ===

impl ResourceType {
    /// Whether a PUT may leave out the version that it builds on.
    pub(crate) fn takes_any_version(&self) -> bool {
        !self.custom && self.plural != "leases"
    }

    /// Whether the answer to a deletion is the object that is gone, and not only its name.
    pub(crate) fn is_shown_when_gone(&self) -> bool {
        let shown = ["namespaces", "pods", "serviceaccounts", "services"];
        self.group.is_empty() && shown.contains(&self.plural.as_str())
    }

    /// Whether a PUT of an object that is not there creates it, as in the real server.
    pub(crate) fn is_created_by_put(&self) -> bool {
        !self.custom && matches!(self.plural.as_str(), "events" | "leases" | "services")
    }

    /// `v1` or `group/version`: the `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// Every kind: the built-in ones first, then those of `definitions`.
pub fn all(definitions: &[CustomResourceDefinition]) -> Vec<ResourceType> {
    let mut compiler = builtin::compiler();
    let mut resources = builtin::resources(&mut compiler);
    resources.extend(custom::resources(&mut compiler, definitions));
    resources
}
