//! The objects of a world, without what differs from one run to the next that does the same.

use std::collections::BTreeMap;
use std::time::Duration;

use ebb_api::serving::{Configuration, Revision, Route, Service};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::World;
use crate::parts::Part;
use crate::script::Point;

/// Fields that every run fills in anew, wherever they stand.
const OF_A_RUN: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "lastTransitionTime",
    "lastUpdateTime",
    "time",
    "managedFields",
    "ownerReferences",
    "serving.knative.dev/serviceUID",
    "serving.knative.dev/configurationUID",
    "serving.knative.dev/revisionUID",
    "serving.knative.dev/routingStateModified",
    "serving.ebb.dev/starts",
];
/// How long an ended process is down.
const DOWN: Duration = Duration::from_millis(700);
/// How long it may take until the write comes at which a process is to end.
const WRITE_WITHIN: Duration = Duration::from_mins(1);

impl World {
    /// Lets simulated time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        sleep(time).await;
    }

    /// All objects that Ebb makes and changes, by kind and name.
    pub(crate) async fn objects(&self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        self.add::<Service>(&mut all).await;
        self.add::<Configuration>(&mut all).await;
        self.add::<Revision>(&mut all).await;
        self.add::<Route>(&mut all).await;
        self.add::<Deployment>(&mut all).await;
        all
    }

    async fn add<K>(&self, all: &mut BTreeMap<String, Value>)
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let objects = Api::<K>::all(self.api.client()).list(&ListParams::default()).await;
        for object in objects.expect("the client has no faults").items {
            let key = format!("{} {}", K::kind(&()), object.name_any());
            let mut value = serde_json::to_value(object).expect("it was JSON");
            strip(&mut value);
            if key.starts_with("Deployment ") {
                count_nothing(&mut value);
            }
            all.insert(key, value);
        }
    }

    /// Counts the writes of the leading autoscaler and controller from now on.
    pub(crate) fn count_writes(&self) -> impl FnOnce() -> BTreeMap<&'static str, u32> + use<> {
        let parts = [("autoscaler", Part::Autoscaler), ("controller", Part::Controller)];
        let leaders = parts.map(|(word, part)| (word, self.leader(part)));
        let counted = leaders.each_ref().map(|(word, name)| (*word, self.fleet.writes(name)));
        let fleet = self.fleet.clone();
        move || {
            let after = leaders.iter().map(|(_, name)| fleet.writes(name));
            counted
                .iter()
                .zip(after)
                .map(|((word, before), after)| {
                    // A process that was started again counts anew.
                    (*word, after.saturating_sub(*before))
                })
                .collect()
        }
    }

    /// Ends the leader of a part at one of its next writes, and starts it again; says which write
    /// that was.
    pub(crate) fn end_at(&self, point: Point) -> JoinHandle<Option<String>> {
        let (fleet, name) = (self.fleet.clone(), self.leader(point.part));
        tokio::spawn(async move {
            let Point { number, is_after, .. } = point;
            let write = fleet.kill_at_write(&name, number, is_after, WRITE_WITHIN).await?;
            sleep(DOWN).await;
            fleet.start(&name).await;
            Some(write)
        })
    }
}

/// Takes out what counts the changes of a Deployment: on the way to the same end there may be more
/// scales or fewer. What it has seen of them has to be the last.
fn count_nothing(deployment: &mut Value) {
    let generation = deployment["metadata"]["generation"].take();
    let observed = deployment["status"]["observedGeneration"].take();
    deployment["status"]["isObserved"] = (generation == observed).into();
}

/// Takes out what every run fills in anew.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !OF_A_RUN.contains(&name.as_str()));
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
