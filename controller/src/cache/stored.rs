//! What a cache needs from a kind.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::index::Mark;

/// A kind that is watched and written here.
pub(crate) trait Stored:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// Whether objects of the kind bear marks at all.
    const HAS_MARKS: bool = false;

    /// The marks by which the object is found.
    fn marks(&self) -> Vec<Mark> {
        Vec::new()
    }

    /// Drops the fields that nothing here reads: tens of thousands of objects are kept.
    fn trim(&mut self);
}
