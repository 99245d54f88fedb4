//! Who must look again when an object changed.
//!
//! Pure functions over the stores: an event becomes the names of the objects to reconcile, and
//! for Revisions and Deployments a fact for the scale loop.

use ebb_api::labels;
use ebb_api::serving::{Configuration, Revision, Route, Service, TrafficTarget};
use futures::SinkExt as _;
use futures::channel::mpsc;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service as CoreService};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};

use crate::cache::Stored;
use crate::owner;
use crate::scale::Fact;
use crate::stores::Stores;

/// An object to reconcile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trigger {
    Service(ObjectRef<Service>),
    Configuration(ObjectRef<Configuration>),
    Revision(ObjectRef<Revision>),
    Route(ObjectRef<Route>),
}

/// What follows from an event.
#[derive(Debug, Default)]
pub(crate) struct Reaction {
    /// For the scale loop; it goes first, for a request may be waiting.
    pub(crate) fact: Option<Fact>,
    /// For the reconcilers.
    pub(crate) triggers: Vec<Trigger>,
}

/// The queues of the reconcilers and of the scale loop. All are bounded; a full one holds the
/// watch back, never the API server.
#[derive(Clone)]
pub(crate) struct Outlets {
    pub(crate) services: mpsc::Sender<ObjectRef<Service>>,
    pub(crate) configurations: mpsc::Sender<ObjectRef<Configuration>>,
    pub(crate) revisions: mpsc::Sender<ObjectRef<Revision>>,
    pub(crate) routes: mpsc::Sender<ObjectRef<Route>>,
    pub(crate) facts: mpsc::Sender<Fact>,
}

// === impl Outlets ===

impl Outlets {
    /// Sends everything on its way. A closed queue means shutdown: nothing is owed then.
    pub(crate) async fn send(&mut self, reaction: Reaction) {
        let Reaction { fact, triggers } = reaction;
        if let Some(fact) = fact {
            let _closed = self.facts.send(fact).await;
        }
        for trigger in triggers {
            let _closed = match trigger {
                Trigger::Service(object) => self.services.send(object).await,
                Trigger::Configuration(object) => self.configurations.send(object).await,
                Trigger::Revision(object) => self.revisions.send(object).await,
                Trigger::Route(object) => self.routes.send(object).await,
            };
        }
    }
}

// === impl Reaction ===

impl Reaction {
    fn to(triggers: Vec<Trigger>) -> Self {
        Self { fact: None, triggers }
    }
}

/// A Service concerns itself only.
pub(crate) fn of_service(service: &Service) -> Reaction {
    Reaction::to(vec![Trigger::Service(ObjectRef::from_obj(service))])
}

/// A Configuration concerns itself, its Service, and the Routes that follow it.
pub(crate) fn of_configuration(stores: &Stores, configuration: &Configuration) -> Reaction {
    let name = configuration.name_any();
    let mut triggers = vec![Trigger::Configuration(ObjectRef::from_obj(configuration))];
    triggers.extend(owner_of(configuration).map(Trigger::Service));
    triggers.extend(routes(stores, configuration, |target| {
        target.configuration_name.as_deref() == Some(&name)
    }));
    Reaction::to(triggers)
}

/// A Revision holds the scale to set, and concerns itself, its Configuration, and the Routes that
/// name it.
pub(crate) fn of_revision(stores: &Stores, revision: &Revision, gone: bool) -> Reaction {
    let name = revision.name_any();
    let mut triggers = vec![Trigger::Revision(ObjectRef::from_obj(revision))];
    triggers.extend(owner_of(revision).map(Trigger::Configuration));
    triggers
        .extend(routes(stores, revision, |target| target.revision_name.as_deref() == Some(&name)));
    Reaction { fact: Fact::of_revision(revision, gone), triggers }
}

/// A Route concerns itself and its Service.
pub(crate) fn of_route(route: &Route) -> Reaction {
    let mut triggers = vec![Trigger::Route(ObjectRef::from_obj(route))];
    triggers.extend(owner_of(route).map(Trigger::Service));
    Reaction::to(triggers)
}

/// A Deployment has a scale, and belongs to a Revision.
pub(crate) fn of_deployment(deployment: &Deployment, gone: bool) -> Reaction {
    Reaction {
        fact: Fact::of_deployment(deployment, gone),
        triggers: owner_of(deployment).map(Trigger::Revision).into_iter().collect(),
    }
}

/// A pod concerns the Revision in its label: its owner is a ReplicaSet.
pub(crate) fn of_pod(pod: &Pod) -> Reaction {
    let revision = pod.labels().get(labels::REVISION);
    let namespace = pod.namespace().unwrap_or_default();
    Reaction::to(
        revision
            .map(|name| Trigger::Revision(ObjectRef::new(name).within(&namespace)))
            .into_iter()
            .collect(),
    )
}

/// A placeholder concerns its Route.
pub(crate) fn of_placeholder(service: &CoreService) -> Reaction {
    Reaction::to(owner_of(service).map(Trigger::Route).into_iter().collect())
}

fn owner_of<K: Stored>(object: &impl Resource) -> Option<ObjectRef<K>> {
    let namespace = object.meta().namespace.as_deref();
    ObjectRef::from_owner_ref(namespace, owner::controller(object)?, ())
}

/// Routes beside `object` with a target, wanted or in force, for which `follows` holds.
fn routes(
    stores: &Stores,
    object: &impl Resource,
    follows: impl Fn(&TrafficTarget) -> bool,
) -> Vec<Trigger> {
    let namespace = object.meta().namespace.clone().unwrap_or_default();
    stores
        .routes
        .select(&namespace, |route| {
            let in_force = route.status.as_ref().map_or(&[][..], |status| &status.traffic);
            route.spec.traffic.iter().chain(in_force).any(&follows)
        })
        .iter()
        .map(|route| Trigger::Route(ObjectRef::from_obj(&**route)))
        .collect()
}
