//! The parts of each kind's objects that are kept, and the marks by which the objects are found.
//!
//! A service is half a dozen objects, and all of them are kept while it sleeps: fields that nothing
//! here reads are dropped as an object comes in. `managedFields` alone are a tree of maps that
//! takes more memory than the object.

use ebb_api::serving::{Configuration, Revision, Route, Service, TrafficTarget};
use ebb_api::{labels, models};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus, Service as CoreService};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use crate::cache::{By, Mark, Stored};
use crate::difference;
use crate::owner;
use crate::route::{claims, routing};
use crate::scribe::MANAGER;

/// Conditions of a Deployment that say why it makes no progress; see `revision::status`.
const TROUBLES: [&str; 2] = ["Progressing", "ReplicaFailure"];

impl Stored for Service {
    fn trim(&mut self) {
        forget_fields(&mut self.metadata);
        shrink(&mut self.spec.template.spec.pod);
    }
}

impl Stored for Configuration {
    fn trim(&mut self) {
        keep_applied_fields(&mut self.metadata);
        shrink(&mut self.spec.template.spec.pod);
    }
}

impl Stored for Revision {
    const HAS_MARKS: bool = true;

    fn marks(&self) -> Vec<Mark> {
        let configuration = self.labels().get(labels::CONFIGURATION).cloned();
        let routes = routing::routes_of(self).into_iter().map(|route| Mark(By::Route, route));
        configuration.map(|name| Mark(By::Configuration, name)).into_iter().chain(routes).collect()
    }

    fn trim(&mut self) {
        forget_fields(&mut self.metadata);
        shrink(&mut self.spec.pod);
    }
}

impl Stored for Route {
    const HAS_MARKS: bool = true;

    fn marks(&self) -> Vec<Mark> {
        let in_force = self.status.iter().flat_map(|status| &status.traffic);
        let targets = self.spec.traffic.iter().chain(in_force);
        let hosts = claims::tag_hosts(self, targets.clone()).map(|host| Mark(By::Host, host));
        let models = models::declared(self.metadata.annotations.as_ref()).unwrap_or_default();
        let models = models.into_iter().map(|model| Mark(By::Model, model.name));
        targets.flat_map(marks_of).chain(hosts).chain(models).collect()
    }

    fn trim(&mut self) {
        keep_applied_fields(&mut self.metadata);
    }
}

impl Stored for Deployment {
    fn trim(&mut self) {
        keep_applied_fields(&mut self.metadata);
        if let Some(pod) = self.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()) {
            shrink(pod);
        }
        if let Some(conditions) = self.status.as_mut().and_then(|status| status.conditions.as_mut())
        {
            conditions.retain(|condition| TROUBLES.contains(&condition.type_.as_str()));
            conditions.shrink_to_fit();
        }
    }
}

impl Stored for Pod {
    const HAS_MARKS: bool = true;

    fn marks(&self) -> Vec<Mark> {
        let uid = self.labels().get(labels::REVISION_UID).filter(|uid| !uid.is_empty());
        uid.map(|uid| Mark(By::Revision, uid.clone())).into_iter().collect()
    }

    /// Of a pod only its status is read here; the spec is the larger part.
    fn trim(&mut self) {
        self.spec = None;
        let metadata = &mut self.metadata;
        metadata.managed_fields = None;
        metadata.annotations = None;
        metadata.owner_references = None;
        if let Some(own) = &mut metadata.labels {
            own.retain(|key, _| [labels::REVISION, labels::REVISION_UID].contains(&key.as_str()));
        }
        self.status = self.status.take().map(|status| PodStatus {
            conditions: status.conditions,
            container_statuses: status.container_statuses,
            init_container_statuses: status.init_container_statuses,
            ..PodStatus::default()
        });
    }
}

impl Stored for CoreService {
    const HAS_MARKS: bool = true;

    /// A Route's own is found by the name that both have.
    fn marks(&self) -> Vec<Mark> {
        let route = self.labels().get(labels::ROUTE).filter(|route| **route != self.name_any());
        route.map(|route| Mark(By::Route, route.clone())).into_iter().collect()
    }

    fn trim(&mut self) {
        keep_applied_fields(&mut self.metadata);
        self.status = None;
    }
}

fn marks_of(target: &TrafficTarget) -> impl Iterator<Item = Mark> {
    let mark = |by, name: &Option<String>| name.clone().map(|name| Mark(by, name));
    let followed = mark(By::Follows, &target.configuration_name);
    followed.into_iter().chain(mark(By::Names, &target.revision_name))
}

/// For kinds that are never applied here: a Service belongs to its author, a Revision is made once.
fn forget_fields(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(notes) = &mut metadata.annotations {
        notes.remove(owner::LAST_APPLIED);
    }
}

/// For kinds that are applied here: a field that was applied and is wanted no more must be found.
fn keep_applied_fields(metadata: &mut ObjectMeta) {
    let fields = metadata.managed_fields.take().unwrap_or_default();
    forget_fields(metadata);
    let own = fields.into_iter().filter_map(|entry| difference::compact(entry, MANAGER));
    metadata.managed_fields = Some(own.collect()).filter(|own: &Vec<_>| !own.is_empty());
}

/// Gives back what the decoder reserved: lists of large structures grow by four at a time.
fn shrink(pod: &mut PodSpec) {
    pod.containers.shrink_to_fit();
    let containers = pod.containers.iter_mut().chain(pod.init_containers.iter_mut().flatten());
    for container in containers {
        container.env.iter_mut().for_each(Vec::shrink_to_fit);
        container.ports.iter_mut().for_each(Vec::shrink_to_fit);
        container.volume_mounts.iter_mut().for_each(Vec::shrink_to_fit);
    }
}
