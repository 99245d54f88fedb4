//! The end of a world: no fault any more, and everything has to come to rest as it should.

use std::collections::BTreeSet;
use std::time::Duration;

use ebb_api::condition::Condition;
use ebb_api::serving::{Configuration, Revision, Route, Service};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use tokio::time::sleep;

use super::{NAMESPACE, World};
use crate::identity::Habit;
use crate::invariants::{BOUNDED, CONVERGES, TO_ZERO};
use crate::plan::{Call, Wanted};

/// How long it may take until every Service is as asked: a watch that stalled is connected again
/// within 55 s, with a back-off of up to 30 s, and a failed reconcile is tried again after up to a
/// minute.
const CONVERGED_WITHIN: Duration = Duration::from_secs(150);
/// How long it may take from the last request until nothing runs: windows and delays of up to 15 s
/// twice over, and a pod that Ebb gives up.
const ASLEEP_WITHIN: Duration = Duration::from_secs(150);
/// How long what is gone may still be known.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(75);
/// How often the world is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl World {
    pub(super) async fn end(&self) {
        let mut left = self.wait(CONVERGED_WITHIN, |world| Box::pin(world.differs())).await;
        if let Some(what) = left.take() {
            self.story.blame(CONVERGES, what);
        }
        self.call_all().await;
        if let Some(what) = self.wait(ASLEEP_WITHIN, |world| Box::pin(world.is_awake())).await {
            self.story.blame(TO_ZERO, what);
        }
        if let Some(what) = self.wait(FORGOTTEN_WITHIN, |world| Box::pin(world.is_left())).await {
            self.story.blame(BOUNDED, what);
        }
    }

    /// Waits until nothing is left of what `look` finds; returns what is left in the end.
    async fn wait(
        &self,
        longest: Duration,
        look: impl Fn(&Self) -> futures::future::BoxFuture<'_, Option<String>>,
    ) -> Option<String> {
        let begin = ebb_clockwork::elapsed();
        loop {
            let left = look(self).await;
            if left.is_none() || ebb_clockwork::since(begin) > longest {
                return left;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn wanted(&self) -> Vec<Wanted> {
        self.wanted.lock().values().cloned().collect()
    }

    /// What is not yet as it was asked for.
    async fn differs(&self) -> Option<String> {
        let services: Api<Service> = Api::namespaced(self.api.client(), NAMESPACE);
        let found = services.list(&ListParams::default()).await.ok()?;
        let wanted = self.wanted();
        for one in &wanted {
            if one.is_pair {
                if let Some(left) = self.pair_differs(one).await {
                    return Some(left);
                }
                continue;
            }
            let Some(service) = found.items.iter().find(|service| service.name_any() == one.name)
            else {
                return Some(format!("Service {} is missing", one.name));
            };
            let status = service.status.clone().unwrap_or_default();
            if status.observed_generation != service.metadata.generation {
                return Some(format!("Service {} was not looked at", one.name));
            }
            let ready = ebb_api::condition::find(&status.conditions, "Ready");
            // Pods that cannot start make no Revision ready; a Service whose first one is broken,
            // or that splits its traffic with one, need not be.
            let may_fail = one.habit == Habit::Broken || one.is_split;
            if !may_fail && !ready.is_some_and(Condition::is_true) {
                return Some(format!("Service {} is not Ready: {ready:?}", one.name));
            }
            if ready.is_none_or(|ready| !ready.is_true() && !ready.is_false()) {
                return Some(format!("Service {} is undecided: {ready:?}", one.name));
            }
        }
        let unasked = found
            .items
            .iter()
            .find(|service| !wanted.iter().any(|one| one.name == service.name_any()));
        unasked.map(|service| format!("Service {} is still there", service.name_any()))
    }

    /// The same of a Configuration and a Route.
    async fn pair_differs(&self, wanted: &Wanted) -> Option<String> {
        let name = &wanted.name;
        let configurations: Api<Configuration> = Api::namespaced(self.api.client(), NAMESPACE);
        let routes: Api<Route> = Api::namespaced(self.api.client(), NAMESPACE);
        let (Ok(configuration), Ok(route)) =
            (configurations.get(name).await, routes.get(name).await)
        else {
            return Some(format!("the Configuration or the Route {name} is missing"));
        };
        let status = configuration.status.unwrap_or_default();
        if status.observed_generation != configuration.metadata.generation {
            return Some(format!("Configuration {name} was not looked at"));
        }
        let status = route.status.unwrap_or_default();
        if status.observed_generation != route.metadata.generation {
            return Some(format!("Route {name} was not looked at"));
        }
        let may_fail = wanted.habit == Habit::Broken || wanted.is_split;
        let ready = ebb_api::condition::find(&status.conditions, "Ready");
        (!may_fail && !ready.is_some_and(Condition::is_true))
            .then(|| format!("Route {name} is not Ready: {ready:?}"))
    }

    /// One request to each Service that can answer: the judge looks at the outcomes.
    async fn call_all(&self) {
        for wanted in self.wanted() {
            let call = Call {
                count: 3,
                work: Duration::from_millis(5),
                parts: 1,
                upload: 0,
                leaves_after: None,
                is_outside: false,
            };
            let is_served = self.call(&wanted.name, call).await;
            let may_fail = wanted.habit == Habit::Broken || wanted.is_split;
            if !is_served && !may_fail {
                let name = &wanted.name;
                self.story.blame(CONVERGES, format!("{name} does not answer after all faults"));
            }
        }
    }

    /// What still runs although nothing calls it.
    async fn is_awake(&self) -> Option<String> {
        let revisions: Api<Revision> = Api::all(self.api.client());
        let revisions = revisions.list(&ListParams::default()).await.ok()?;
        let routes =
            Api::<Route>::all(self.api.client()).list(&ListParams::default()).await.ok()?;
        let in_use: BTreeSet<String> = routes.items.into_iter().flat_map(names_of).collect();
        let pods: Api<Pod> = Api::namespaced(self.api.client(), NAMESPACE);
        let pods = pods.list(&ListParams::default()).await.ok()?;
        for revision in &revisions.items {
            let name = revision.name_any();
            let least = if in_use.contains(&name) { least_scale(revision) } else { 0 };
            let desired = revision.status.as_ref().and_then(|status| status.desired_replicas);
            let running = pods
                .items
                .iter()
                .filter(|pod| pod.labels().get("serving.knative.dev/revision") == Some(&name));
            let running = running.count();
            let may = usize::try_from(least).unwrap_or(0);
            if desired.unwrap_or(0) > least || running > may {
                return Some(format!(
                    "{name} wants {desired:?} replicas and has {running} pods, and {least} are asked for"
                ));
            }
        }
        None
    }

    /// What is still held although nothing needs it.
    async fn is_left(&self) -> Option<String> {
        let all = ListParams::default();
        let deployments = Api::<Deployment>::all(self.api.client()).list(&all).await.ok()?;
        let revisions = Api::<Revision>::all(self.api.client()).list(&all).await.ok()?;
        let (made, wanted) = (deployments.items.len(), revisions.items.len());
        if made != wanted {
            return Some(format!("there are {made} Deployments for {wanted} Revisions"));
        }
        self.fleet.activators().into_iter().find_map(|(name, activator)| {
            let known = activator.snapshot();
            if known.len() > wanted {
                return Some(format!("{name} knows {} of {wanted} Revisions", known.len()));
            }
            let busy = known.iter().find(|own| own.queued > 0 || own.in_flight > 0)?;
            Some(format!("{name} holds requests that nobody makes: {busy:?}"))
        })
    }
}

/// The replicas that a Revision keeps without traffic while it is routed to.
fn least_scale(revision: &Revision) -> i32 {
    let annotation = revision.annotations().get("autoscaling.knative.dev/min-scale");
    annotation.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The names of the Revisions that a Route leads to.
fn names_of(route: Route) -> Vec<String> {
    let traffic = route.status.map(|status| status.traffic).unwrap_or_default();
    traffic.into_iter().filter_map(|target| target.revision_name).collect()
}
