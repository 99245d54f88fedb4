//! The objects to reconcile when an object changed.
//!
//! Pure functions over the stores: an event becomes the names of the objects to reconcile.

use std::collections::BTreeSet;

use ebb_api::labels;
use ebb_api::serving::{Configuration, Revision, Route, Service};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service as CoreService};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};

use crate::cache::{Aged, By, Stored};
use crate::owner;
use crate::queues::Trigger;
use crate::route::{claims, models, routing};
use crate::stores::Stores;

/// A Service concerns itself only.
pub(crate) fn of_service(service: &Service) -> Vec<Trigger> {
    vec![Trigger::Service(ObjectRef::from_obj(service))]
}

/// A Configuration concerns itself, its Service, and the Routes that follow it.
pub(crate) fn of_configuration(stores: &Stores, configuration: &Configuration) -> Vec<Trigger> {
    let mut triggers = vec![Trigger::Configuration(ObjectRef::from_obj(configuration))];
    triggers.extend(owner_of(configuration).map(Trigger::Service));
    triggers.extend(routes(stores, configuration, By::Follows));
    triggers
}

/// A Revision concerns itself, its Configuration, and the Routes that name it.
pub(crate) fn of_revision(stores: &Stores, revision: &Revision) -> Vec<Trigger> {
    let mut triggers = vec![Trigger::Revision(ObjectRef::from_obj(revision))];
    triggers.extend(owner_of(revision).map(Trigger::Configuration));
    triggers.extend(routes(stores, revision, By::Names));
    triggers
}

/// A Route concerns itself, its Service, the Routes that want or have one of its hosts, and the
/// younger ones that declare one of its models;
/// when it is gone, also the Revisions that carry its mark.
pub(crate) fn of_route(stores: &Stores, route: &Route, gone: bool) -> Vec<Trigger> {
    let namespace = route.namespace().unwrap_or_default();
    let mut triggers = vec![Trigger::Route(ObjectRef::from_obj(route))];
    triggers.extend(owner_of(route).map(Trigger::Service));
    triggers.extend(routes(stores, route, By::Host));
    for host in claims::tag_hosts(route, &route.spec.traffic) {
        let named = stores.routes.get(&namespace, &host).into_iter();
        let tagged = stores.routes.marked(&namespace, By::Host, &host);
        let others = named.chain(tagged).filter(|other| other.name_any() != route.name_any());
        triggers.extend(others.map(|other| Trigger::Route(ObjectRef::from_obj(&*other))));
    }
    // An older Route has its names whatever a younger one does.
    let own = Aged::of(route.meta());
    let declared = models::names(route).into_iter();
    let declared = declared.flat_map(|model| stores.routes.marked_anywhere(By::Model, &model));
    let younger: BTreeSet<_> = declared.filter(|other| *other > own).collect();
    triggers.extend(younger.into_iter().map(|Aged { namespace, name, .. }| {
        Trigger::Route(ObjectRef::new(&name).within(&namespace))
    }));
    if gone {
        let marked = routing::marked(route, stores);
        triggers.extend(marked.iter().map(|it| Trigger::Revision(ObjectRef::from_obj(&**it))));
    }
    triggers
}

/// A Deployment concerns its Revision.
pub(crate) fn of_deployment(deployment: &Deployment) -> Vec<Trigger> {
    owner_of(deployment).map(Trigger::Revision).into_iter().collect()
}

/// A pod concerns the Revision in its label: its owner is a ReplicaSet.
pub(crate) fn of_pod(pod: &Pod) -> Vec<Trigger> {
    let revision = pod.labels().get(labels::REVISION);
    let namespace = pod.namespace().unwrap_or_default();
    let revision = revision.map(|name| Trigger::Revision(ObjectRef::new(name).within(&namespace)));
    revision.into_iter().collect()
}

/// A placeholder concerns its Route.
pub(crate) fn of_placeholder(service: &CoreService) -> Vec<Trigger> {
    owner_of(service).map(Trigger::Route).into_iter().collect()
}

fn owner_of<K: Stored>(object: &impl Resource) -> Option<ObjectRef<K>> {
    let namespace = object.meta().namespace.as_deref();
    ObjectRef::from_owner_ref(namespace, owner::controller(object)?, ())
}

/// The Routes in the namespace of `object` that bear its name as this kind of mark.
fn routes(stores: &Stores, object: &impl Resource, by: By) -> Vec<Trigger> {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let name = object.meta().name.as_deref().unwrap_or_default();
    let routes = stores.routes.marked(namespace, by, name);
    routes.iter().map(|route| Trigger::Route(ObjectRef::from_obj(&**route))).collect()
}
