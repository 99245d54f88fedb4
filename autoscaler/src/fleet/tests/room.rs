//! A replica that is let go for a pod of another revision.

use std::time::Duration;

use ebb_api::pod::{Amounts, Shortage};
use ebb_api::report::RevisionKey;

use super::cluster::{Cluster, STEP};
use crate::event::FleetEvent;
use crate::pods::RevisionPod;
use crate::scale_target::ScaleTarget;

const GPU: &str = "nvidia.com/gpu";

fn other() -> RevisionKey {
    RevisionKey::new("models", "other-00001")
}

fn gpu() -> Amounts {
    Amounts([(GPU.to_owned(), 1)].into())
}

/// The pod of the other revision, as the scheduler sees it.
fn apply(cluster: &mut Cluster, is_lacking: bool) {
    let lacks = Shortage { resource: GPU.to_owned(), lack: None };
    let pod = RevisionPod {
        uid: "other-pod".into(),
        name: "other-pod".into(),
        is_pending: true,
        node: (!is_lacking).then(|| "one".into()),
        holds: gpu(),
        lacks: if is_lacking { vec![lacks] } else { Vec::new() },
        ..RevisionPod::default()
    };
    cluster.step(FleetEvent::PodApplied { revision: other(), pod });
}

/// A revision whose idle replica has the only GPU, and another one that is new.
fn scarce(annotations: &[(&str, &str)], is_used: bool) -> Cluster {
    let mut cluster = Cluster::new(2, annotations);
    cluster.run_until_ready(1);
    // It has been used a moment ago, so that its load says that it is to stay.
    cluster.request(0, 0);
    cluster.run(Duration::from_secs(10));
    if !is_used {
        cluster.activators[0].in_flight.clear();
    }
    cluster.run(Duration::from_secs(15));
    let pod = cluster.pods.values().next().unwrap().clone();
    cluster.set_pod(RevisionPod { node: Some("one".into()), holds: gpu(), ..pod });
    assert_eq!(cluster.desired(), 1);
    let target =
        ScaleTarget { key: other().into(), uid: "uid-2".to_owned(), ..ScaleTarget::default() };
    let target = ScaleTarget { is_reachable: true, ..target };
    cluster.step(FleetEvent::TargetApplied(Box::new(target)));
    apply(&mut cluster, true);
    cluster
}

/// Its load is remembered by the windows, and wakes it no more than it kept it.
#[test]
fn an_idle_replica_goes_for_another_model_and_comes_back_only_for_a_request() {
    let mut cluster = scarce(&[], false);
    cluster.run(Duration::from_secs(4));
    assert_eq!((cluster.desired(), cluster.pods.len()), (0, 0));
    // A request meanwhile has to wait for the room that was made for the other.
    cluster.request(0, 0);
    cluster.run(Duration::from_secs(2));
    assert_eq!(cluster.desired(), 0);
    cluster.activators[0].queued = 0;
    cluster.run(Duration::from_secs(2));
    apply(&mut cluster, false);
    cluster.run(Duration::from_secs(30));
    assert_eq!(cluster.desired(), 0, "nobody calls it");
    cluster.request(0, 0);
    cluster.run(STEP);
    assert_eq!(cluster.desired(), 1);
}

#[test]
fn a_replica_in_use_or_asked_for_by_min_scale_stays() {
    let mut cluster = scarce(&[("min-scale", "1")], false);
    cluster.run(Duration::from_secs(20));
    assert_eq!((cluster.desired(), cluster.order().len()), (1, 0), "its min-scale");
    let mut cluster = scarce(&[], true);
    cluster.run(Duration::from_secs(20));
    assert_eq!((cluster.desired(), cluster.order().len()), (1, 0), "it is in use");
    cluster.activators[0].in_flight.clear();
    cluster.run(Duration::from_secs(4));
    assert_eq!(cluster.desired(), 0, "it is idle");
}

/// Who leads next begins anew with what is there.
#[test]
fn without_the_lead_nothing_is_let_go() {
    let mut cluster = scarce(&[], false);
    cluster.step(FleetEvent::Leads(None));
    let writes = cluster.writes.len();
    cluster.run(Duration::from_secs(4));
    assert_eq!((cluster.desired(), cluster.writes.len()), (1, writes));
    cluster.step(FleetEvent::Leads(Some(2)));
    cluster.run(Duration::from_secs(15));
    assert_eq!(cluster.desired(), 0);
}
