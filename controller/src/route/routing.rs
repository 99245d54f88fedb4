//! The marks of a Route on the Revisions that it refers to; `active` Revisions keep their
//! min-scale.
//! Source: knative/serving pkg/reconciler/labeler.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebb_api::serving::{ROUTING_ACTIVE, ROUTING_RESERVE, Revision, Route, TrafficTarget};
use ebb_api::{annotations, labels};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::traffic::Referenced;
use crate::cache::By;
use crate::owner;
use crate::stores::Stores;

/// The patches that correct the marks, none for a Revision whose marks are right. `marked` are the
/// Revisions that carry the Route's mark now.
pub(super) fn changes(
    route: &Route,
    in_force: &[TrafficTarget],
    referenced: &Referenced,
    marked: &[Arc<Revision>],
    now: Timestamp,
) -> Vec<(Arc<Revision>, Value)> {
    let name = route.name_any();
    let wanted = wanted(route, in_force, referenced);
    let mut all: BTreeMap<String, &Arc<Revision>> =
        marked.iter().map(|revision| (revision.name_any(), revision)).collect();
    for revision in &wanted {
        if let Some(found) = referenced.revisions.get(revision) {
            all.insert(revision.clone(), found);
        }
    }
    all.into_iter()
        .filter(|(_, revision)| revision.metadata.deletion_timestamp.is_none())
        .filter_map(|(revision_name, revision)| {
            let mut routes = routes_of(revision);
            if wanted.contains(&revision_name) || is_ahead(revision, route, referenced) {
                routes.insert(name.clone());
            } else {
                routes.remove(&name);
            }
            Some((revision.clone(), patch(revision, &routes, now)?))
        })
        .collect()
}

/// The patch that removes the marks of deleted Routes from a Revision, which would otherwise keep
/// its min-scale for ever. A finalizer on Routes would do too, at two writes more for each Route.
pub(crate) fn unmark(revision: &Revision, stores: &Stores, now: Timestamp) -> Option<Value> {
    let namespace = revision.namespace().unwrap_or_default();
    let mut routes = routes_of(revision);
    let marked = routes.len();
    routes.retain(|route| stores.routes.get(&namespace, route).is_some());
    if routes.len() == marked {
        return None;
    }
    match promised(revision, &namespace, stores) {
        // The Revision is about to be deleted as well.
        Promise::Ending => return None,
        // Revisions are created with the mark, before the Route exists.
        Promise::Of(route) if routes_of(revision).contains(&route) => drop(routes.insert(route)),
        Promise::Of(_) | Promise::None => {}
    }
    if routes.len() == marked { None } else { patch(revision, &routes, now) }
}

/// The Route that a Revision is sure to get.
enum Promise {
    None,
    /// The Route of its Service.
    Of(String),
    /// One of its owners is gone.
    Ending,
}

fn promised(revision: &Revision, namespace: &str, stores: &Stores) -> Promise {
    let Some(owner) = owner::controller(revision) else { return Promise::None };
    let configuration = stores.configurations.get(namespace, &owner.name);
    let Some(configuration) = configuration.filter(|it| it.uid().as_ref() == Some(&owner.uid))
    else {
        return Promise::Ending;
    };
    let Some(owner) = owner::controller(&*configuration) else { return Promise::None };
    let service = stores.services.get(namespace, &owner.name);
    match service.filter(|it| it.uid().as_ref() == Some(&owner.uid)) {
        Some(service) => Promise::Of(service.name_any()),
        None => Promise::Ending,
    }
}

/// Names of the Revisions that the Route refers to: in the split in force, in the split asked for,
/// and the newest of each Configuration that the Route follows, so that it starts with its
/// min-scale.
fn wanted(route: &Route, in_force: &[TrafficTarget], referenced: &Referenced) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    for target in route.spec.traffic.iter().chain(in_force) {
        wanted.extend(target.revision_name.clone());
        let configuration =
            target.configuration_name.as_ref().and_then(|name| referenced.configurations.get(name));
        if let Some(status) = configuration.and_then(|found| found.status.as_ref()) {
            wanted.extend(status.latest_ready_revision_name.clone());
            wanted.extend(status.latest_created_revision_name.clone());
        }
    }
    wanted
}

/// Whether the Revision is of a newer template than its Configuration's status tells of, where the
/// Route follows that Configuration. Watches are not in step, and a Revision is created with the
/// mark before the Configuration's status names it. Without the mark for a moment it would lose its
/// first replica.
fn is_ahead(revision: &Revision, route: &Route, referenced: &Referenced) -> bool {
    let Some(configuration) = revision.labels().get(labels::CONFIGURATION) else {
        return false;
    };
    let mut targets = route.spec.traffic.iter();
    if !targets.any(|target| target.configuration_name.as_ref() == Some(configuration)) {
        return false;
    }
    let born_of = revision.labels().get(labels::CONFIGURATION_GENERATION);
    let born_of = born_of.and_then(|generation| generation.parse::<i64>().ok());
    let status = referenced.configurations.get(configuration).and_then(|c| c.status.as_ref());
    let known = status.and_then(|status| status.observed_generation);
    born_of.is_some_and(|born_of| known.is_none_or(|known| born_of > known))
}

/// The Revisions that carry the Route's mark.
pub(crate) fn marked(route: &Route, stores: &Stores) -> Vec<Arc<Revision>> {
    let namespace = route.namespace().unwrap_or_default();
    stores.revisions.marked(&namespace, By::Route, &route.name_any())
}

/// Names of the Routes that are marked as referring to the Revision.
pub(crate) fn routes_of(revision: &Revision) -> BTreeSet<String> {
    let marks = revision.annotations().get(annotations::ROUTES);
    marks
        .into_iter()
        .flat_map(|marks| marks.split(','))
        .filter(|route| !route.is_empty())
        .map(str::to_owned)
        .collect()
}

fn patch(revision: &Revision, routes: &BTreeSet<String>, now: Timestamp) -> Option<Value> {
    let state = if routes.is_empty() { ROUTING_RESERVE } else { ROUTING_ACTIVE };
    let old = revision.labels().get(labels::ROUTING_STATE).map(String::as_str);
    if old == Some(state) && routes_of(revision) == *routes {
        return None;
    }
    let list = routes.iter().map(String::as_str).collect::<Vec<_>>();
    let mut notes = json!({
        // Null removes the annotation.
        annotations::ROUTES: (!list.is_empty()).then(|| list.join(",")),
    });
    if old != Some(state) {
        let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        notes[annotations::ROUTING_STATE_MODIFIED] = json!(time);
    }
    Some(json!({"metadata": {
        "labels": {labels::ROUTING_STATE: state},
        "annotations": notes,
    }}))
}

#[cfg(test)]
mod tests {
    use ebb_api::condition::Status;
    use ebb_api::serving::Configuration;
    use kube::runtime::reflector::ObjectRef;

    use super::*;
    use crate::queues::Trigger;
    use crate::route::traffic::tests::{configuration, latest, pinned, referenced, route};
    use crate::stores::tests::World;
    use crate::triggers::of_route;

    fn revision(name: &str, state: &str, routes: &str) -> Arc<Revision> {
        let plain = crate::route::traffic::tests::revision(name, Status::True);
        let mut revision = Revision::clone(&plain);
        let own = revision.metadata.labels.get_or_insert_default();
        own.insert(labels::ROUTING_STATE.to_owned(), state.to_owned());
        let notes = revision.metadata.annotations.get_or_insert_default();
        notes.insert(annotations::ROUTES.to_owned(), routes.to_owned());
        Arc::new(revision)
    }

    /// Name, routing state and routes of each change.
    fn told(
        asked: Vec<TrafficTarget>,
        in_force: &[TrafficTarget],
        revisions: &[Arc<Revision>],
    ) -> Vec<(String, String, Value)> {
        let all = referenced(
            configuration(Status::True, Some("digits-00002"), "digits-00002"),
            revisions,
        );
        let marked: Vec<_> = revisions
            .iter()
            .filter(|revision| routes_of(revision).contains("digits"))
            .cloned()
            .collect();
        let route = route(asked);
        changes(&route, in_force, &all, &marked, Timestamp::UNIX_EPOCH)
            .into_iter()
            .map(|(revision, patch)| {
                let metadata = &patch["metadata"];
                let state = metadata["labels"][labels::ROUTING_STATE].as_str().unwrap();
                let routes = metadata["annotations"][annotations::ROUTES].clone();
                (revision.name_any(), state.to_owned(), routes)
            })
            .collect()
    }

    #[test]
    fn a_revision_born_active_needs_no_write() {
        let born = [revision("digits-00002", "active", "digits")];
        assert_eq!(told(vec![latest(Some(100), None)], &[], &born), []);
    }

    #[test]
    fn a_revision_that_its_configuration_does_not_name_yet_keeps_its_mark() {
        // (generation of the Revision, generation that the status tells of, is the mark kept)
        for (born_of, known, kept) in
            [("1", None, true), ("3", Some(2), true), ("2", Some(2), false), ("1", Some(2), false)]
        {
            let mut born = Revision::clone(&revision("digits-00003", "active", "digits"));
            born.metadata.labels.get_or_insert_default().extend([
                (labels::CONFIGURATION.to_owned(), "digits".to_owned()),
                (labels::CONFIGURATION_GENERATION.to_owned(), born_of.to_owned()),
            ]);
            let marked = [Arc::new(born)];
            let mut configuration =
                Configuration::clone(&configuration(Status::True, None, "digits-00002"));
            configuration.status.as_mut().unwrap().observed_generation = known;
            let all = referenced(Arc::new(configuration), &marked);
            let route = route(vec![latest(Some(100), None)]);
            let changes = changes(&route, &[], &all, &marked, Timestamp::UNIX_EPOCH);
            assert_eq!(changes.is_empty(), kept, "{born_of} {known:?}");
        }
    }

    #[test]
    fn a_revision_that_no_route_refers_to_goes_into_reserve() {
        let both = [
            revision("digits-00001", "active", "digits"),
            revision("digits-00002", "active", "digits"),
        ];
        let in_force = [pinned("digits-00002", Some(100), None)];
        assert_eq!(
            told(vec![latest(Some(100), None)], &in_force, &both),
            [("digits-00001".to_owned(), "reserve".to_owned(), Value::Null)]
        );
        // A Revision that still gets requests stays active.
        let in_force = [pinned("digits-00001", Some(100), None)];
        assert_eq!(told(vec![latest(Some(100), None)], &in_force, &both), []);
    }

    #[test]
    fn marks_of_other_routes_are_kept() {
        let shared = [
            revision("digits-00001", "active", "digits,other"),
            revision("digits-00002", "pending", ""),
        ];
        assert_eq!(
            told(vec![latest(Some(100), None)], &[], &shared),
            [
                ("digits-00001".to_owned(), "active".to_owned(), json!("other")),
                ("digits-00002".to_owned(), "active".to_owned(), json!("digits")),
            ]
        );
    }

    /// A deleted Route once left its Revisions active, and their min-scale in force.
    #[tokio::test]
    async fn a_revision_loses_the_marks_of_routes_that_are_gone() {
        let mut world = World::new();
        world.add_service("digits");
        let find = |world: &World| world.stores.revisions.get("default", "digits-00001").unwrap();
        let unmark = |world: &World, routes: &str| {
            let mut revision = Revision::clone(&find(world));
            revision.annotations_mut().insert(annotations::ROUTES.to_owned(), routes.to_owned());
            let patch = super::unmark(&revision, &world.stores, Timestamp::UNIX_EPOCH);
            patch.map(|patch| patch["metadata"]["annotations"][annotations::ROUTES].clone())
        };
        assert_eq!(unmark(&world, "digits"), None);
        // Route `own`, which belonged to no Service, was deleted.
        assert_eq!(unmark(&world, "digits,own"), Some(json!("digits")));
        let route = world.stores.routes.get("default", "digits").unwrap();
        let told = of_route(&world.stores, &route, true);
        assert!(told.contains(&Trigger::Revision(ObjectRef::from_obj(&*find(&world)))));
        world.watches.routes.lose(Route::clone(&route));
        // The Service will make its Route again.
        assert_eq!(unmark(&world, "digits,own"), Some(json!("digits")));
        let service = world.stores.services.get("default", "digits").unwrap();
        world.watches.services.lose(ebb_api::serving::Service::clone(&service));
        assert_eq!(unmark(&world, "digits,own"), None);
        // A Configuration without a Service promises nothing.
        let known = world.stores.configurations.get("default", "digits").unwrap();
        let mut configuration = Configuration::clone(&known);
        configuration.metadata.owner_references = None;
        world.watches.configurations.feed(configuration);
        assert_eq!(unmark(&world, "digits,own"), Some(Value::Null));
    }
}
