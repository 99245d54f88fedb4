//! Pods as a watch brings them, without what the parts on the way of requests never read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Pod, PodSpec, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube_core::Resource;
use serde::{Deserialize, Deserializer};

use crate::by_value;

/// A pod of which a watch reads the marks, the owners, the node, the ports, the resources and the
/// status; all else is empty, whatever the API server sent. Dereferences to the pod.
///
/// Most of a pod is `managedFields` and its spec: every activator and every autoscaler gets each
/// change of each pod, and would build a tree of it only to drop the tree. Whoever reads a further
/// field adds it here.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchedPod(pub Pod);

#[derive(Deserialize)]
struct ReadPod {
    #[serde(default)]
    metadata: ReadMeta,
    spec: Option<ReadSpec>,
    #[serde(default, deserialize_with = "by_value::read_optional")]
    status: Option<PodStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadSpec {
    #[serde(default)]
    containers: Vec<ReadContainer>,
    init_containers: Option<Vec<ReadContainer>>,
    node_name: Option<String>,
    overhead: Option<BTreeMap<String, Quantity>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadContainer {
    #[serde(default)]
    name: String,
    restart_policy: Option<String>,
    ports: Option<Vec<ContainerPort>>,
    resources: Option<ResourceRequirements>,
}

// === impl WatchedPod ===

impl<'de> Deserialize<'de> for WatchedPod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ReadPod { metadata, spec, status } = ReadPod::deserialize(deserializer)?;
        let spec = spec.map(PodSpec::from);
        Ok(Self(Pod { metadata: metadata.into(), spec, status }))
    }
}

impl Deref for WatchedPod {
    type Target = Pod;

    fn deref(&self) -> &Pod {
        &self.0
    }
}

impl Resource for WatchedPod {
    type DynamicType = <Pod as Resource>::DynamicType;
    type Scope = <Pod as Resource>::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        Pod::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        <Pod as Resource>::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        <Pod as Resource>::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        Pod::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

// === impl ReadMeta ===

impl From<ReadMeta> for ObjectMeta {
    fn from(read: ReadMeta) -> Self {
        Self {
            name: read.name,
            namespace: read.namespace,
            uid: read.uid,
            resource_version: read.resource_version,
            labels: read.labels,
            annotations: read.annotations,
            owner_references: read.owner_references,
            deletion_timestamp: read.deletion_timestamp,
            deletion_grace_period_seconds: read.deletion_grace_period_seconds,
            ..Self::default()
        }
    }
}

// === impl ReadSpec ===

impl From<ReadSpec> for PodSpec {
    fn from(read: ReadSpec) -> Self {
        let all = |read: Vec<ReadContainer>| read.into_iter().map(Container::from).collect();
        Self {
            containers: all(read.containers),
            init_containers: read.init_containers.map(all),
            node_name: read.node_name,
            overhead: read.overhead,
            ..Self::default()
        }
    }
}

// === impl ReadContainer ===

impl From<ReadContainer> for Container {
    fn from(read: ReadContainer) -> Self {
        Self {
            name: read.name,
            ports: read.ports,
            resources: read.resources,
            restart_policy: read.restart_policy,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read_is_as_in_the_pod_itself() {
        let json = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "labels": {"l": "1"}, "annotations": {"a": "1"},
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o",
                    "controller": true,
                }],
                "deletionTimestamp": "2026-01-02T03:04:05Z", "deletionGracePeriodSeconds": 30,
            },
            "spec": {"nodeName": "n1", "overhead": {"memory": "1Mi"}, "containers": [
                {"name": "c", "resources": {"requests": {"memory": "1Gi"}}, "ports": [{"name": "user-port", "containerPort": 80}]},
                {"name": "d"},
            ], "initContainers": [{"name": "i", "restartPolicy": "Always"}]},
            "status": {
                "phase": "Running", "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{
                    "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 2,
                    "state": {"running": {}},
                }],
            },
        });
        let whole: Pod = serde_json::from_str(&json.to_string()).unwrap();
        let read: WatchedPod = serde_json::from_str(&json.to_string()).unwrap();
        assert_eq!(*read, whole);
    }

    #[test]
    fn what_nobody_reads_is_left_out_whatever_it_is() {
        let json = json!({
            "metadata": {"name": "a", "managedFields": [{"manager": 7}], "unknown": {}},
            "spec": {
                "containers": [{"name": "c", "env": "no list", "ports": null}],
                "volumes": [{"name": "v"}],
            },
            "status": null,
        });
        let read: WatchedPod = serde_json::from_str(&json.to_string()).unwrap();
        let container = Container { name: "c".to_owned(), ..Container::default() };
        let mut left = Pod {
            spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
            ..Pod::default()
        };
        left.metadata.name = Some("a".to_owned());
        assert_eq!(*read, left);
        let empty: WatchedPod = serde_json::from_str("{}").unwrap();
        assert_eq!(*empty, Pod::default());
    }

    #[test]
    fn a_field_of_another_type_is_an_error() {
        for broken in [r#"{"metadata": {"uid": 7}}"#, r#"{"status": {"podIP": 7}}"#] {
            let error = serde_json::from_str::<WatchedPod>(broken).unwrap_err();
            assert!(error.to_string().contains("expected a string"), "{error}");
        }
    }
}
