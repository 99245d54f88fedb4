use std::sync::atomic::Ordering;

use ebb_api::annotations;
use ebb_api::serving::RevisionStatus;
use futures::channel::mpsc;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;

use super::*;
use crate::triggers;

/// A client that must not be used. It wants a runtime all the same.
fn nobody() -> Client {
    let refuse = |_| async { Err::<http::Response<kube::client::Body>, _>("no request is due") };
    Client::new(tower::service_fn(refuse), "default")
}

/// Stores that a test fills by hand.
pub(crate) struct World {
    pub(crate) stores: Stores,
    pub(crate) watches: Watches,
}

impl World {
    pub(crate) fn new() -> Self {
        let (stores, watches) = Stores::new(&nobody());
        Self { stores, watches }
    }

    /// A Service of one Revision that has become ready and sleeps: its objects in all stores.
    pub(crate) fn add_service(&mut self, name: &str) {
        let revision_name = format!("{name}-00001");
        let uid = format!("uid-{revision_name}");
        let metadata = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}")});
        let owned = |kind: &str, own: &str, owner: &str| {
            json!({
                "name": own, "namespace": "default", "uid": format!("uid-{own}"),
                "labels": {
                    labels::CONFIGURATION: name,
                    labels::REVISION: revision_name,
                    labels::REVISION_UID: uid,
                },
                "annotations": {annotations::ROUTES: name},
                "ownerReferences": [{
                    "apiVersion": "serving.knative.dev/v1", "kind": kind, "name": owner,
                    "uid": format!("uid-{owner}"), "controller": true,
                }],
            })
        };
        let read = "a sample of the kind";
        let template = json!({"spec": {"containers": [{"image": "i"}]}});
        self.watches.services.feed(
            serde_json::from_value(json!({"metadata": metadata, "spec": {"template": template}}))
                .expect(read),
        );
        let configuration = json!({
            "metadata": owned("Service", name, name), "spec": {"template": template},
            "status": {"latestReadyRevisionName": revision_name},
        });
        self.watches.configurations.feed(serde_json::from_value(configuration).expect(read));
        let revision = json!({
            "metadata": owned("Configuration", &revision_name, name), "spec": template["spec"],
        });
        self.watches.revisions.feed(serde_json::from_value(revision).expect(read));
        let route = json!({
            "metadata": owned("Service", name, name),
            "spec": {"traffic": [{"configurationName": name, "percent": 100}]},
            "status": {"traffic": [{"revisionName": revision_name, "percent": 100}]},
        });
        self.watches.routes.feed(serde_json::from_value(route).expect(read));
        let pod = json!({"metadata": owned("Revision", &format!("{name}-pod"), &revision_name)});
        self.watches.pods.feed(serde_json::from_value(pod).expect(read));
    }

    /// Number of objects of all kinds that were looked at since the last call.
    fn looked(&self) -> usize {
        let Stores { services, configurations, revisions, routes, deployments, pods, placeholders } =
            &self.stores;
        [
            &services.looked,
            &configurations.looked,
            &revisions.looked,
            &routes.looked,
            &deployments.looked,
            &pods.looked,
            &placeholders.looked,
        ]
        .map(|count| count.swap(0, Ordering::Relaxed))
        .iter()
        .sum()
    }
}

impl<K: Stored> Watch<K> {
    pub(crate) fn feed(&mut self, object: K) {
        self.cache.absorb(&mut self.writer, watcher::Event::Apply(object));
    }

    pub(crate) fn lose(&mut self, object: K) {
        self.cache.absorb(&mut self.writer, watcher::Event::Delete(object));
    }
}

/// Number of objects that are looked at when objects of one service change: for the triggers, and
/// for what its reconcilers read of other objects.
fn looks(world: &World, name: &str) -> usize {
    let stores = &world.stores;
    let revision_name = format!("{name}-00001");
    let configuration = stores.configurations.get("default", name).unwrap();
    let revision = stores.revisions.get("default", &revision_name).unwrap();
    let route = stores.routes.get("default", name).unwrap();
    world.looked();
    let told = triggers::of_configuration(stores, &configuration);
    assert!(told.contains(&Trigger::Route(ObjectRef::from_obj(&*route))));
    let told = triggers::of_revision(stores, &revision);
    assert!(told.contains(&Trigger::Route(ObjectRef::from_obj(&*route))));
    assert_eq!(crate::configuration::dereference(&configuration, stores).len(), 1);
    assert_eq!(crate::revision::pods(&revision, "default", stores).len(), 1);
    assert_eq!(crate::route::routing::marked(&route, stores).len(), 1);
    crate::route::dereference(&route, stores);
    world.looked()
}

/// The work for one service does not grow with the number of others.
#[tokio::test]
async fn a_reconcile_looks_at_as_many_objects_beside_a_thousand_services_as_alone() {
    let mut world = World::new();
    world.add_service("one");
    let alone = looks(&world, "one");
    for number in 0..1000 {
        world.add_service(&format!("other-{number}"));
    }
    assert_eq!(looks(&world, "one"), alone);
    assert!(alone < 20, "{alone}");
}

/// The scale is on the path of a cold start; the reconcilers concerned are looked up behind it.
#[tokio::test]
async fn the_scale_loop_is_told_before_anything_is_looked_up() {
    let (services, _services) = mpsc::channel(1);
    let (configurations, _configurations) = mpsc::channel(1);
    let (revisions, _revisions) = mpsc::channel(1);
    let (routes, _routes) = mpsc::channel(1);
    let (facts, mut told) = mpsc::channel(8);
    let mut queues = ReconcileQueues { services, configurations, revisions, routes, facts };
    let wake = |name: &str| {
        let mut revision = Revision::default();
        revision.metadata.name = Some(name.to_owned());
        revision.metadata.namespace = Some("default".to_owned());
        let desired_replicas = Some(1);
        revision.status = Some(RevisionStatus { desired_replicas, ..RevisionStatus::default() });
        revision
    };
    let looked_up = parking_lot::Mutex::new(0);
    let react = |_: &Revision, _| {
        // Both facts are with the scale loop by the first look.
        *looked_up.lock() += 1;
        if *looked_up.lock() == 1 {
            assert!(told.try_recv().is_ok() && told.try_recv().is_ok());
        }
        Vec::new()
    };
    let react = parking_lot::Mutex::new(react);
    let react = |object: &Revision, gone| (*react.lock())(object, gone);
    let Watches { revisions: mut watch, .. } = World::new().watches;
    let mut changes = watch.cache.absorb(&mut watch.writer, watcher::Event::Apply(wake("a")));
    changes.extend(watch.cache.absorb(&mut watch.writer, watcher::Event::Apply(wake("b"))));
    tell(&changes, Fact::of_revision, react, &mut queues).await;
    assert_eq!(*looked_up.lock(), 2);
}

fn managed(manager: &str, operation: &str) -> serde_json::Value {
    json!({
        "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}},
    })
}

/// An object of a kind.
fn sample<K: Stored>(metadata: &serde_json::Value, mut all: serde_json::Value) -> K {
    all["metadata"] = metadata.clone();
    serde_json::from_value(all).unwrap()
}

/// Checks how many entries of `managedFields` are kept, and that kubectl's annotations are not.
fn check<K: Stored>(cache: &Cache<K>, entries: usize) {
    let kept = cache.get("default", "a").unwrap();
    let fields = kept.meta().managed_fields.as_ref().map_or(0, Vec::len);
    assert_eq!(fields, entries, "{}", K::kind(&()));
    let notes = kept.annotations().keys().collect::<Vec<_>>();
    assert_eq!(notes, ["team"], "{}", K::kind(&()));
}

/// Fields that nothing reads are not kept, neither from a watch nor from the answer to a write.
#[tokio::test]
async fn fields_that_nothing_reads_are_not_kept() {
    let mut world = World::new();
    let metadata = json!({
        "name": "a", "namespace": "default", "resourceVersion": "4",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "x"},
        "managedFields": [
            managed("kubectl", "Apply"),
            managed(crate::scribe::MANAGER, "Update"),
            managed(crate::scribe::MANAGER, "Apply"),
        ],
    });
    let template = json!({"template": {"spec": {"containers": [{"image": "i"}]}}});
    world.watches.services.feed(sample(&metadata, json!({"spec": template})));
    world.watches.configurations.feed(sample(&metadata, json!({"spec": template})));
    world.watches.routes.feed(sample(&metadata, json!({"spec": {}})));
    world.watches.placeholders.feed(sample(&metadata, json!({})));
    let revisions = &world.stores.revisions;
    let revision: Revision = sample(&metadata, json!({"spec": template["template"]["spec"]}));
    revisions.begin(&revision).answered(revision);
    check(&world.stores.services, 0);
    check(&world.stores.configurations, 1);
    check(&world.stores.routes, 1);
    check(&world.stores.placeholders, 1);
    check(revisions, 0);
}
