//! Ownership of objects: one controller reference that blocks its owner's foreground deletion.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt as _};

/// kubectl's record of what was applied; copying it to a child would be a lie about the child.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The controller reference to `owner`.
pub(crate) fn reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Metadata of a child of `owner`.
pub(crate) fn child<K: Resource<DynamicType = ()>>(
    owner: &K,
    name: &str,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: owner.namespace(),
        labels: Some(labels).filter(|labels| !labels.is_empty()),
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        owner_references: Some(vec![reference(owner)]),
        ..ObjectMeta::default()
    }
}

/// Whether `owner` controls `object`: the same UID, for a name can be used again.
pub(crate) fn controls<K: Resource, C: Resource>(owner: &K, object: &C) -> bool {
    let uid = owner.meta().uid.as_deref();
    uid.is_some() && controller(object).map(|reference| reference.uid.as_str()) == uid
}

/// The holder of a child's name.
pub(crate) enum Claim<C> {
    /// No object has the name.
    Free,
    /// The owner's own child has the name.
    Ours(Arc<C>),
    /// A foreign object has the name.
    Foreign,
}

/// Whether the object that has the name of a child of `owner` is that child.
pub(crate) fn claim<K: Resource, C: Resource>(owner: &K, known: Option<Arc<C>>) -> Claim<C> {
    match known {
        None => Claim::Free,
        Some(known) if controls(owner, &*known) => Claim::Ours(known),
        Some(_) => Claim::Foreign,
    }
}

/// Whether both have the same controller.
pub(crate) fn have_same_controller<K: Resource>(one: &K, other: &K) -> bool {
    let uid = |object| controller(object).map(|reference| reference.uid.as_str());
    uid(one).is_some() && uid(one) == uid(other)
}

/// The controller reference of `object`, if it has one.
pub(crate) fn controller<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object
        .meta()
        .owner_references
        .as_ref()?
        .iter()
        .find(|reference| reference.controller == Some(true))
}

/// Message about a foreign object in the place of one of ours. Text: knative/serving
/// pkg/apis/serving/v1/revision_lifecycle.go.
pub(crate) fn not_owned(kind: &str, name: &str) -> String {
    format!("There is an existing {kind} {name:?} that we do not own.")
}

/// `map` without the keys for which `drop` holds.
pub(crate) fn without(
    map: &BTreeMap<String, String>,
    drop: impl Fn(&str) -> bool,
) -> BTreeMap<String, String> {
    map.iter()
        .filter(|(key, _)| !drop(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use ebb_api::serving::{Configuration, Service};

    use super::*;

    #[test]
    fn ownership_goes_by_uid_and_controller_flag() {
        let mut service = Service::default();
        service.metadata.name = Some("digits".to_owned());
        service.metadata.uid = Some("1".to_owned());
        let child_object = Configuration {
            metadata: child(&service, "digits", BTreeMap::new(), BTreeMap::new()),
            ..Configuration::default()
        };
        assert!(controls(&service, &child_object));
        let owner = controller(&child_object).unwrap();
        assert_eq!(owner.api_version, "serving.knative.dev/v1");
        assert_eq!(owner.block_owner_deletion, Some(true));

        service.metadata.uid = Some("2".to_owned());
        assert!(!controls(&service, &child_object));
        service.metadata.uid = None;
        assert!(!controls(&service, &Configuration::default()));
    }
}
