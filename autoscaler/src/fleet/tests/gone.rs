//! Pods that are gone, and activators whose watches are behind: such an activator must send no
//! request to an address that another model may have by now.

use std::time::Duration;

use ebb_api::report::{PodReport, Report, RevisionReport, Scope};

use super::cluster::{Cluster, STEP};
use crate::event::FleetEvent;

/// The first activator still knows the pod and has not heard of any order.
fn name(cluster: &mut Cluster, uid: &str) {
    let pods = vec![PodReport { uid: uid.into(), in_flight: 0, draining: false }];
    let revision = (*cluster.target.key).clone();
    let of = RevisionReport { revision, interval_s: 1.0, pods, ..RevisionReport::default() };
    let activator = "activator-0".to_owned();
    let report = Report { activator, scope: Scope::Full, revisions: vec![of] };
    cluster.step(FleetEvent::Report(report));
}

/// A pod that an activator knows is gone.
fn delete(cluster: &mut Cluster) -> String {
    let uid = cluster.pods.keys().next().unwrap().clone();
    name(cluster, &uid);
    cluster.pods.remove(&uid);
    let revision = (*cluster.target.key).clone();
    cluster.step(FleetEvent::PodDeleted { revision, uid: uid.clone() });
    uid
}

/// A cluster whose only pod begins to drain.
fn draining() -> Cluster {
    let mut cluster = Cluster::new(1, &[]);
    cluster.run_until_ready(1);
    while cluster.order().is_empty() {
        cluster.run(STEP);
        assert!(cluster.now - cluster.start < Duration::from_mins(3), "no drain began");
    }
    cluster
}

#[test]
fn a_standby_orders_what_was_gone_before_it_led() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.run_until_ready(1);
    cluster.step(FleetEvent::Leads(None));
    let uid = delete(&mut cluster);
    assert!(cluster.order().is_empty(), "a standby gives no orders");
    cluster.step(FleetEvent::Leads(Some(3)));
    assert!(cluster.order().contains(&uid));
    // The activator has seen that the pod is gone.
    cluster.run(Duration::from_secs(5));
    assert!(cluster.order().is_empty());
}

/// An annotation gave it to another autoscaler, which gives no orders.
#[test]
fn a_revision_that_leaves_has_its_pods_back() {
    let mut cluster = draining();
    let (key, uid) = ((*cluster.target.key).clone(), cluster.target.uid.clone());
    let gone = "gone".to_owned();
    name(&mut cluster, &gone);
    cluster.step(FleetEvent::PodDeleted { revision: key.clone(), uid: gone.clone() });
    let other = "uid-2".to_owned();
    cluster.step(FleetEvent::TargetLeft { key: key.clone(), uid: other });
    assert_eq!(cluster.order().len(), 2, "another Revision of that name");
    cluster.step(FleetEvent::TargetLeft { key, uid });
    assert_eq!(cluster.order().iter().collect::<Vec<_>>(), [&gone]);
    assert_eq!(cluster.fleet.sizes().revisions, 0);
}

#[test]
fn a_standby_takes_no_pod_back() {
    let mut cluster = draining();
    cluster.step(FleetEvent::Leads(None));
    let (key, uid) = ((*cluster.target.key).clone(), cluster.target.uid.clone());
    cluster.step(FleetEvent::TargetLeft { key, uid });
    assert_eq!(cluster.order().len(), 1);
}

#[test]
fn what_is_kept_of_a_pod_that_is_gone_ends_with_the_reports_of_it() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.run_until_ready(1);
    delete(&mut cluster);
    let sizes = cluster.fleet.sizes();
    assert_eq!((sizes.revisions, sizes.reporters, sizes.gone, sizes.named), (1, 1, 1, 1));
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.fleet.sizes().gone, 0);
}

#[test]
fn a_standby_keeps_no_pod_that_no_activator_names() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.run_until_ready(1);
    cluster.step(FleetEvent::Leads(None));
    let first = delete(&mut cluster);
    cluster.run(Duration::from_secs(5));
    let second = delete(&mut cluster);
    cluster.step(FleetEvent::Leads(Some(3)));
    assert!(cluster.order().contains(&second) && !cluster.order().contains(&first));
}

#[test]
fn the_last_order_of_a_deleted_revision_stays_in_force() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.run_until_ready(1);
    let uid = delete(&mut cluster);
    assert!(cluster.order().contains(&uid));
    let (key, uid_of_revision) = ((*cluster.target.key).clone(), cluster.target.uid.clone());
    cluster.step(FleetEvent::TargetDeleted { key, uid: uid_of_revision });
    assert!(cluster.order().contains(&uid));
}
