//! The end of a world: no fault any more, and everything has to come to rest as it should.

use std::collections::BTreeSet;
use std::time::Duration;

use ebb_api::condition::Condition;
use ebb_api::labels;
use ebb_api::serving::{Configuration, Revision, Route, Service};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::{NAMESPACE, World};
use crate::identity::{HABIT, Habit};
use crate::invariants::{BOUNDED, CONVERGES, TO_ZERO};
use crate::plan::{Call, Wanted};

/// How long it may take until every Service is as asked: a watch that stalled is connected again
/// within 55 s, with a back-off of up to 30 s, and a failed reconcile is tried again after up to a
/// minute.
const CONVERGED_WITHIN: Duration = Duration::from_secs(150);
/// How long it may take from the last request until nothing runs: windows and delays of up to 15 s
/// twice over, and a pod that Ebb gives up.
const ASLEEP_WITHIN: Duration = Duration::from_secs(150);
/// How long it may take until as many pods run as are to be kept without traffic, once all else sleeps.
const KEPT_WITHIN: Duration = Duration::from_secs(15);
/// How long after the last fault an activator may not know what all others do: its watches pause for
/// 5 s at the most (`daemon/src/pauses.rs`), and events come late.
const KNOWN_AFTER: Duration = Duration::from_secs(8);
/// What a condition says of a container that ended.
const CRASHED: &str = "Container failed with";
/// How long what is gone may still be known.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(75);
/// Label of a Revision that says whether a Route leads to it.
const ROUTING_STATE: &str = "serving.knative.dev/routingState";
/// How often the world is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl World {
    pub(super) async fn end(&self) {
        if let Err(what) = self.wait(CONVERGED_WITHIN, |world| Box::pin(world.differs(false))).await
        {
            self.story.blame(CONVERGES, what);
        }
        sleep(KNOWN_AFTER).await;
        self.call_all().await;
        if let Err(what) = self.wait(CONVERGED_WITHIN, |world| Box::pin(world.differs(true))).await
        {
            self.story.blame(CONVERGES, what);
        }
        if let Err(what) = self.wait(ASLEEP_WITHIN, |world| Box::pin(world.is_awake())).await {
            self.story.blame(TO_ZERO, what);
        }
        if let Err(what) = self.wait(KEPT_WITHIN, |world| Box::pin(world.lacks())).await {
            self.story.blame(CONVERGES, what);
        }
        if let Err(what) = self.wait(FORGOTTEN_WITHIN, |world| Box::pin(world.is_left())).await {
            self.story.blame(BOUNDED, what);
        }
    }

    /// Waits until `look` finds nothing amiss; returns what is amiss in the end, be it that nothing
    /// can be seen.
    async fn wait(
        &self,
        longest: Duration,
        look: impl Fn(&Self) -> futures::future::BoxFuture<'_, Result<(), String>>,
    ) -> Result<(), String> {
        let begin = ebb_clockwork::elapsed();
        loop {
            let seen = look(self).await;
            if seen.is_ok() || ebb_clockwork::since(begin) > longest {
                return seen;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// All objects of a kind, in all namespaces.
    pub(super) async fn list<K>(&self) -> Result<Vec<K>, String>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let found = Api::<K>::all(self.api.client()).list(&ListParams::default()).await;
        found.map(|list| list.items).map_err(|error| format!("{}: {error}", K::plural(&())))
    }

    pub(super) fn wanted(&self) -> Vec<Wanted> {
        self.wanted.lock().values().cloned().collect()
    }

    /// What is not yet as it was asked for. A Revision that went to sleep after its last pod crashed
    /// says so until a pod runs again: before all were called, that is as it should be.
    async fn differs(&self, were_called: bool) -> Result<(), String> {
        let found = self.list::<Service>().await?;
        let wanted = self.wanted();
        for one in &wanted {
            if one.is_pair {
                self.pair_differs(one).await?;
                continue;
            }
            let Some(service) = found.iter().find(|service| service.name_any() == one.name) else {
                return Err(format!("Service {} is missing", one.name));
            };
            let status = service.status.clone().unwrap_or_default();
            if status.observed_generation != service.metadata.generation {
                return Err(format!("Service {} was not looked at", one.name));
            }
            let ready = ebb_api::condition::find(&status.conditions, "Ready");
            // Pods that cannot start make no Revision ready; a Service whose first one is broken,
            // or that splits its traffic with one, need not be.
            let has_crashed = ready.and_then(|ready| ready.message.as_deref());
            let has_crashed = has_crashed.is_some_and(|message| message.contains(CRASHED));
            let may_fail = one.habit == Habit::Broken || one.is_split;
            let may_fail = may_fail || (has_crashed && !were_called);
            if !may_fail && !ready.is_some_and(Condition::is_true) {
                return Err(format!("Service {} is not Ready: {ready:?}", one.name));
            }
            if ready.is_none_or(|ready| !ready.is_true() && !ready.is_false()) {
                return Err(format!("Service {} is undecided: {ready:?}", one.name));
            }
        }
        let is_asked = |service: &&Service| wanted.iter().any(|one| one.name == service.name_any());
        match found.iter().find(|service| !is_asked(service)) {
            Some(service) => Err(format!("Service {} is still there", service.name_any())),
            None => self.lacks().await,
        }
    }

    /// Which Revision has fewer pods than it is to keep without traffic. One that is not ready need
    /// have none: it may have been given up.
    async fn lacks(&self) -> Result<(), String> {
        let routes = self.list::<Route>().await?;
        let targets =
            routes.iter().flat_map(|route| &route.status).flat_map(|status| &status.traffic);
        let in_force: BTreeSet<_> =
            targets.filter_map(|target| target.revision_name.clone()).collect();
        let pods = self.list::<Pod>().await?;
        for revision in self.list::<Revision>().await? {
            let (name, least) = (revision.name_any(), least_scale(&revision));
            let status = revision.status.unwrap_or_default();
            let ready = ebb_api::condition::find(&status.conditions, "Ready");
            if !in_force.contains(&name) || !ready.is_some_and(Condition::is_true) {
                continue;
            }
            let running = pods.iter().filter(|pod| is_of(pod, &name)).count();
            if running < usize::try_from(least).unwrap_or(0) {
                return Err(format!("{name} has {running} pods, and is to keep {least}"));
            }
        }
        Ok(())
    }

    /// The same of a Configuration and a Route.
    async fn pair_differs(&self, wanted: &Wanted) -> Result<(), String> {
        let name = &wanted.name;
        let configurations: Api<Configuration> = Api::namespaced(self.api.client(), NAMESPACE);
        let routes: Api<Route> = Api::namespaced(self.api.client(), NAMESPACE);
        let said = |error: kube::Error| format!("the Configuration or the Route {name}: {error}");
        let configuration = configurations.get(name).await.map_err(said)?;
        let route = routes.get(name).await.map_err(said)?;
        let status = configuration.status.unwrap_or_default();
        if status.observed_generation != configuration.metadata.generation {
            return Err(format!("Configuration {name} was not looked at"));
        }
        let status = route.status.unwrap_or_default();
        if status.observed_generation != route.metadata.generation {
            return Err(format!("Route {name} was not looked at"));
        }
        let may_fail = wanted.habit == Habit::Broken || wanted.is_split;
        let ready = ebb_api::condition::find(&status.conditions, "Ready");
        if may_fail || ready.is_some_and(Condition::is_true) {
            Ok(())
        } else {
            Err(format!("Route {name} is not Ready: {ready:?}"))
        }
    }

    /// One request to each Service that can answer: the judge looks at the outcomes.
    async fn call_all(&self) {
        for wanted in self.wanted() {
            let call = Call::plain(3, Duration::from_millis(5));
            let is_served = self.call(&wanted.name, call).await;
            let may_fail = wanted.habit == Habit::Broken || wanted.is_split;
            if !is_served && !may_fail {
                let name = &wanted.name;
                self.story.blame(CONVERGES, format!("{name} does not answer after all faults"));
            }
        }
    }

    /// What still runs although nothing calls it.
    async fn is_awake(&self) -> Result<(), String> {
        let revisions = self.list::<Revision>().await?;
        let configurations = self.list::<Configuration>().await?;
        let routes = self.list::<Route>().await?;
        let in_use = routes.iter().flat_map(|route| names_of(route, &configurations));
        let in_use: BTreeSet<String> = in_use.collect();
        let pods = self.list::<Pod>().await?;
        for revision in &revisions {
            let name = revision.name_any();
            // A Revision that no Route has led to yet is kept as if one were to.
            let is_pending =
                revision.labels().get(ROUTING_STATE).is_some_and(|own| own == "pending");
            let is_kept = is_pending || in_use.contains(&name);
            let least = if is_kept { least_scale(revision) } else { 0 };
            let desired = revision.status.as_ref().and_then(|status| status.desired_replicas);
            let running = pods.iter().filter(|pod| is_of(pod, &name)).count();
            let may = usize::try_from(least).unwrap_or(0);
            if desired.unwrap_or(0) > least || running > may {
                return Err(format!(
                    "{name} wants {desired:?} replicas and has {running} pods, and {least} are asked for"
                ));
            }
        }
        Ok(())
    }
}

/// Whether a pod is one of that Revision's.
fn is_of(pod: &Pod, revision: &str) -> bool {
    pod.labels().get(labels::REVISION).is_some_and(|own| own == revision)
}

/// The replicas that a Revision keeps without traffic while it is routed to. One whose pods never
/// start is given up and keeps none.
fn least_scale(revision: &Revision) -> i32 {
    if revision.annotations().get(HABIT).is_some_and(|habit| habit == "broken") {
        return 0;
    }
    let annotation = revision.annotations().get("autoscaling.knative.dev/min-scale");
    annotation.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The names of the Revisions that a Route leads to, or would: those asked for keep their min-scale,
/// too, while one of them is not ready and the split before stays in force.
fn names_of(route: &Route, configurations: &[Configuration]) -> BTreeSet<String> {
    let in_force = route.status.iter().flat_map(|status| &status.traffic);
    let mut names = BTreeSet::new();
    for target in route.spec.traffic.iter().chain(in_force) {
        names.extend(target.revision_name.clone());
        let followed = |one: &&Configuration| target.configuration_name == Some(one.name_any());
        let followed = configurations.iter().find(followed);
        if let Some(status) = followed.and_then(|one| one.status.as_ref()) {
            names.extend(status.latest_ready_revision_name.clone());
            names.extend(status.latest_created_revision_name.clone());
        }
    }
    names
}
