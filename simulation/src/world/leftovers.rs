//! What is held in the end although nothing needs it: objects, and what processes remember.

use std::collections::BTreeSet;

use ebb_api::labels;
use ebb_api::serving::{Configuration, Revision, Route, Service};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};

use super::World;
use crate::parts::Part;

/// Labels of metrics that name a Revision.
const REVISION_LABELS: [&str; 2] = ["kn_revision_name=\"", "revision=\""];
/// Metrics that are 0 when no request and no fault is left.
const NOTHING: [&str; 6] = [
    "ebb_activator_queued",
    "ebb_activator_in_flight",
    "ebb_activator_tunnels",
    "ebb_activator_held_bytes",
    "ebb_autoscaler_unheard_activators",
    "ebb_autoscaler_held_revisions",
];

impl World {
    /// What is still held although nothing needs it.
    pub(super) async fn is_left(&self) -> Result<(), String> {
        let revisions = self.objects_are_owned().await?;
        for (name, activator) in self.fleet.activators() {
            let known = activator.snapshot();
            let is_gone = |name: &str| !revisions.contains(name);
            if let Some(own) = known.iter().find(|own| is_gone(&own.revision.name)) {
                return Err(format!("{name} knows {} still", own.revision));
            }
            if let Some(busy) = known.iter().find(|own| own.queued > 0 || own.in_flight > 0) {
                return Err(format!("{name} holds requests that nobody makes: {busy:?}"));
            }
        }
        for (name, sizes) in self.fleet.autoscalers() {
            let Some(kept) = sizes.read().await else { continue };
            // A standby forgets those that are gone when it loses the next.
            let gone = if self.judge.holds_lease(&name) { kept.gone } else { 0 };
            let held = kept.leaving + gone + kept.writing;
            if held > 0 || kept.revisions > revisions.len() {
                let there = revisions.len();
                return Err(format!("{name} keeps more than {there} Revisions need: {kept:?}"));
            }
        }
        let metrics = self.fleet.metrics();
        let amiss = metrics.iter().find_map(|(name, text)| self.shown(name, text, &revisions));
        amiss.map_or(Ok(()), Err)
    }

    /// Whether every object belongs to something that was asked for, by name and UID. Returns the
    /// names of the Revisions. A Service keeps its earlier Revisions, and a Route that is deleted
    /// leaves the Configuration that it led to.
    async fn objects_are_owned(&self) -> Result<BTreeSet<String>, String> {
        let wanted: BTreeSet<_> = self.wanted().into_iter().map(|one| one.name).collect();
        let services = self.list::<Service>().await?;
        let configurations = self.list::<Configuration>().await?;
        let routes = self.list::<Route>().await?;
        let revisions = self.list::<Revision>().await?;
        let deployments = self.list::<Deployment>().await?;
        let pods = self.list::<Pod>().await?;
        let own: Vec<_> =
            pods.into_iter().filter(|pod| labels_of(pod, labels::REVISION).is_some()).collect();
        let kept = self.kept.lock().clone();
        unasked(&configurations, |name| wanted.contains(name) || kept.contains(name))?;
        unasked(&routes, |name| wanted.contains(name))?;
        let has_no_owner = |one: &&Configuration| !kept.contains(&one.name_any());
        unowned(configurations.iter().filter(has_no_owner), &services)?;
        unowned(&revisions, &configurations)?;
        unowned(&deployments, &revisions)?;
        unowned(&own, &deployments)?;
        if deployments.len() != revisions.len() {
            let (made, all) = (deployments.len(), revisions.len());
            return Err(format!("there are {made} Deployments for {all} Revisions"));
        }
        let mut generations = BTreeSet::new();
        for revision in &revisions {
            let of = labels_of(revision, labels::CONFIGURATION);
            if !generations.insert((of, labels_of(revision, labels::CONFIGURATION_GENERATION))) {
                return Err(format!(
                    "{} is of a generation that has a Revision",
                    revision.name_any()
                ));
            }
        }
        Ok(revisions.iter().map(Revision::name_any).collect())
    }

    /// What the metrics of a process say of a Revision that is gone, or of a request that is over.
    fn shown(&self, name: &str, text: &str, revisions: &BTreeSet<String>) -> Option<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let (series, value) = line.rsplit_once(' ')?;
            let named = REVISION_LABELS.iter().find_map(|label| series.split_once(label));
            let revision = named.and_then(|(_, rest)| rest.split_once('"')).map(|(named, _)| named);
            if revision.is_some_and(|revision| !revisions.contains(revision)) {
                return Some(format!("{name} counts for a Revision that is gone: {line}"));
            }
            let metric = series.split('{').next().unwrap_or_default();
            if NOTHING.contains(&metric) && value != "0" {
                return Some(format!("{name} holds something still: {line}"));
            }
            let members = self.fleet.names(Part::Activator).len().to_string();
            if metric == "ebb_activator_ring_members" && value != members {
                return Some(format!("{name} knows other activators than {members}: {line}"));
            }
        }
        None
    }
}

fn labels_of<'a>(object: &'a impl Resource<DynamicType = ()>, label: &str) -> Option<&'a String> {
    object.meta().labels.as_ref()?.get(label)
}

/// The first of the objects that nobody has asked for.
fn unasked<K: Resource<DynamicType = ()>>(
    objects: &[K],
    is_asked: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let foreign = objects.iter().find(|object| !is_asked(&object.name_any()));
    foreign.map_or(Ok(()), |object| Err(format!("{} {} is left", K::kind(&()), object.name_any())))
}

/// The first of the objects whose owner is none of those.
fn unowned<'a, K, O>(objects: impl IntoIterator<Item = &'a K>, owners: &[O]) -> Result<(), String>
where
    K: Resource<DynamicType = ()> + 'a,
    O: Resource<DynamicType = ()>,
{
    let uids: BTreeSet<_> = owners.iter().filter_map(ResourceExt::uid).collect();
    let is_owned =
        |object: &&K| object.owner_references().iter().any(|owner| uids.contains(&owner.uid));
    let foreign = objects.into_iter().find(|object| !is_owned(object));
    foreign.map_or(Ok(()), |object| {
        Err(format!("{} {} has lost its owner", K::kind(&()), object.name_any()))
    })
}
