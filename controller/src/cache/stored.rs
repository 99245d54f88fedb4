//! What a kind must be able to do to be kept here.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::index::Mark;

/// What every kind that is watched and written here can do.
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

    /// By what others find the object.
    fn marks(&self) -> Vec<Mark> {
        Vec::new()
    }

    /// Drops what nobody here reads: tens of thousands of objects are kept.
    fn trim(&mut self);
}
