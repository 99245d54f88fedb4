//! The queues from the watches to the reconcilers and to the scale loop.

use ebb_api::serving::{Configuration, Revision, Route, Service};
use futures::SinkExt as _;
use futures::channel::mpsc;
use kube::runtime::reflector::ObjectRef;

use crate::scale::Fact;

/// An object to reconcile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trigger {
    Service(ObjectRef<Service>),
    Configuration(ObjectRef<Configuration>),
    Revision(ObjectRef<Revision>),
    Route(ObjectRef<Route>),
}

/// The queues of the reconcilers and of the scale loop. All are bounded; a full one holds the
/// watch back, never the API server.
#[derive(Clone)]
pub(crate) struct ReconcileQueues {
    pub(crate) services: mpsc::Sender<ObjectRef<Service>>,
    pub(crate) configurations: mpsc::Sender<ObjectRef<Configuration>>,
    pub(crate) revisions: mpsc::Sender<ObjectRef<Revision>>,
    pub(crate) routes: mpsc::Sender<ObjectRef<Route>>,
    pub(crate) facts: mpsc::Sender<Fact>,
}

// === impl ReconcileQueues ===

impl ReconcileQueues {
    /// Sends a fact to the scale loop. A closed queue means shutdown: the fact is then not needed.
    pub(crate) async fn scale(&mut self, fact: Fact) {
        let _closed = self.facts.send(fact).await;
    }

    /// Has the objects reconciled. A closed queue means shutdown: a reconcile is then not needed.
    pub(crate) async fn reconcile(&mut self, triggers: Vec<Trigger>) {
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
