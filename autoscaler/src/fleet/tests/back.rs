//! Steps down that are taken back, and pods that serve again.

use std::sync::Arc;

use ebb_api::config::Config;
use ebb_daemon::desired::Seen;

use super::cluster::{Cluster, STEP};
use super::{asleep, seconds};
use crate::event::FleetEvent;

/// Runs until that is so, at most two minutes.
fn run_until(cluster: &mut Cluster, is_so: impl Fn(&Cluster) -> bool) {
    let end = cluster.now + seconds(120);
    while !is_so(cluster) {
        assert!(cluster.now < end, "{} replicas, {:?}", cluster.desired(), cluster.order());
        cluster.run(STEP);
    }
}

/// The writer leaves the scale as it was where a step down is partly taken back.
#[test]
fn a_scale_that_was_left_alone_is_known_with_the_answer() {
    let mut cluster = asleep(1);
    cluster.target.desired = Some(2);
    let seen = Seen { version: cluster.target.version + 1, replicas: Some(2) };
    cluster.step(FleetEvent::Written { key: (*cluster.target.key).clone(), seen });
    let writes = cluster.writes.len();
    cluster.request(0, 0);
    assert_eq!((cluster.desired(), cluster.writes.len()), (2, writes), "one would be refused");
}

/// Pods that were condemned for a step to zero bear no mark. A scale that is lower again, and not
/// zero, has to choose them.
#[test]
fn condemned_pods_without_a_mark_get_one_before_a_scale_that_chooses() {
    let annotations = [("initial-scale", "5"), ("target", "1"), ("window", "6s")];
    let mut cluster = Cluster::new(1, &annotations);
    let mut config = Config::default();
    config.autoscaler.max_scale_down_rate = 10.0;
    cluster.step(FleetEvent::Config(Arc::new(config)));
    cluster.run_until_ready(5);
    cluster.run(seconds(1));
    cluster.is_controlled = false;
    run_until(&mut cluster, |cluster| cluster.desired() == 0);
    assert!(cluster.writes.last().unwrap().marks.is_empty());
    // Somebody wakes it, and somebody else asks for all five.
    cluster.request(0, 0);
    cluster.request(0, 0);
    run_until(&mut cluster, |cluster| cluster.order().len() == 2);
    cluster.dispatch();
    cluster.target.desired = Some(5);
    cluster.target.version += 1;
    cluster.step(FleetEvent::TargetApplied(Box::new(cluster.target.clone())));
    run_until(&mut cluster, |cluster| cluster.desired() == 3);
    // Kubernetes deletes two of them; the cluster sees to it that none is in use.
    cluster.is_controlled = true;
    cluster.run(seconds(5));
    assert_eq!(cluster.ready(), 3);
}
