//! An object as JSON text.
//!
//! A pod template alone takes 5 KiB as a structure, used or not, and half a dozen objects of each
//! service are kept while the service sleeps: 42 KiB in all, of which their JSON is a quarter. An
//! object is parsed when it is reconciled, which compares it as JSON anyway.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use super::stored::Stored;

/// An object of a kind as text, with the part of its metadata that identifies it.
pub(crate) struct Packed<K> {
    metadata: ObjectMeta,
    text: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

// === impl Packed ===

impl<K: Stored> Packed<K> {
    /// The object as text.
    pub(super) fn of(object: &K) -> Self {
        let ObjectMeta { name, namespace, uid, resource_version, .. } = object.meta().clone();
        let text = serde_json::to_vec(object);
        let text = text.expect("API types have string keys only and always serialise");
        Self {
            metadata: ObjectMeta {
                name,
                namespace,
                uid,
                resource_version,
                ..ObjectMeta::default()
            },
            text: text.into_boxed_slice(),
            kind: PhantomData,
        }
    }

    /// The object itself.
    pub(super) fn unpack(&self) -> Arc<K> {
        let object = serde_json::from_slice(&self.text);
        Arc::new(object.expect("it was written from an object of the kind"))
    }
}

impl<K> Clone for Packed<K> {
    fn clone(&self) -> Self {
        let Self { metadata, text, kind } = self;
        Self { metadata: metadata.clone(), text: text.clone(), kind: *kind }
    }
}

impl<K> fmt::Debug for Packed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("name", &self.metadata.name).finish_non_exhaustive()
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Packed<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
