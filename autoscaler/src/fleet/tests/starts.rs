//! How a revision starts for the first time, or fails to, and how an autoscaler starts.

use std::time::Duration;

use super::cluster::{Cluster, STEP};
use crate::event::FleetEvent;

/// Progress deadline of the tests, and the time after which a start is given up.
const DEADLINE: &str = "10s";
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10 + 30);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A revision whose pods never become ready.
fn broken(annotations: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::new(2, annotations);
    let key = ebb_api::annotations::PROGRESS_DEADLINE.name().to_owned();
    cluster.target.annotations.insert(key, DEADLINE.to_owned());
    cluster.ready_after = Duration::from_secs(1_000_000);
    cluster.step(FleetEvent::TargetApplied(Box::new(cluster.target.clone())));
    cluster
}

/// A pod that never becomes ready keeps a GPU from others.
#[test]
fn a_revision_that_never_became_ready_gives_its_pods_up_after_its_deadline() {
    for annotations in [&[][..], &[("initial-scale", "3")], &[("min-scale", "2")]] {
        let mut cluster = broken(annotations);
        cluster.run(GIVEN_UP_AFTER.saturating_sub(seconds(3)));
        assert!(cluster.desired() > 0, "{annotations:?}");
        // The window of the load has to be whole before anything is lowered.
        cluster.run(seconds(30));
        assert_eq!((cluster.desired(), cluster.pods.len()), (0, 0), "{annotations:?}");
        let writes = cluster.writes.len();
        cluster.run(seconds(300));
        assert_eq!(cluster.writes.len(), writes, "{annotations:?}");
    }
}

/// The cause of the failure may be over.
#[test]
fn a_revision_that_was_given_up_gets_all_of_its_time_when_it_is_called() {
    let mut cluster = broken(&[("initial-scale", "2")]);
    cluster.run(GIVEN_UP_AFTER * 2);
    assert_eq!(cluster.desired(), 0);
    cluster.ready_after = seconds(5);
    cluster.request(0, 0);
    cluster.run(seconds(3));
    assert_eq!(cluster.desired(), 2);
    cluster.run_until_ready(2);
    cluster.dispatch();
    cluster.run(seconds(10));
    cluster.finish();
    cluster.run(seconds(70));
    assert_eq!(cluster.desired(), 0, "it sleeps like any other");
}

/// A later autoscaler knows it from the condition that the first one led to.
#[test]
fn a_revision_that_was_given_up_stays_so_over_a_restart() {
    let mut cluster = broken(&[("min-scale", "2")]);
    cluster.run(GIVEN_UP_AFTER * 2);
    assert_eq!(cluster.desired(), 0);
    let (reason, _) = ebb_api::serving::RevisionStatus::TIMED_OUT;
    cluster.target.active = Some(ebb_api::condition::Condition {
        status: ebb_api::condition::Status::False,
        reason: Some(reason.to_owned()),
        ..Default::default()
    });
    let writes = cluster.writes.len();
    cluster.restart();
    cluster.run(seconds(200));
    assert_eq!((cluster.desired(), cluster.writes.len()), (0, writes));
}

/// A restart in the middle of a burst finds few replicas ready of many that were asked for.
#[test]
fn a_restart_holds_what_was_asked_for_and_not_only_what_is_ready() {
    let mut cluster = Cluster::new(1, &[("target", "1")]);
    cluster.run_until_ready(1);
    for request in 0..20 {
        cluster.request(0, request);
    }
    cluster.run(seconds(20));
    let before = cluster.desired();
    assert!(before >= 20, "{before}");
    let starting: Vec<_> = cluster.pods.values().skip(1).cloned().collect();
    for pod in starting {
        cluster.set_pod(crate::pods::RevisionPod { is_ready: false, is_pending: true, ..pod });
    }
    cluster.ready_after = Duration::from_secs(1_000_000);
    cluster.activators[0].in_flight.clear();
    cluster.restart();
    cluster.run(seconds(55));
    assert_eq!(cluster.measures.map(|measures| measures.is_panicking), Some(true));
    assert_eq!(cluster.desired(), before);
}

/// Replicas that a Deployment was made with are no burst.
#[test]
fn a_fast_start_does_not_begin_in_panic() {
    let mut cluster = Cluster::new(1, &[("initial-scale", "4")]);
    cluster.ready_after = STEP;
    cluster.run(seconds(4));
    assert_eq!(cluster.ready(), 4);
    assert_eq!(cluster.measures.map(|measures| measures.is_panicking), Some(false));
}

/// An autoscaler that ended between marking and lowering leaves pods that would go first at a later
/// scale-down, busy or not.
#[test]
fn a_mark_that_an_earlier_autoscaler_left_is_taken_off() {
    let mut cluster = Cluster::new(1, &[("min-scale", "2"), ("initial-scale", "2")]);
    cluster.run_until_ready(2);
    let marked = cluster.pods.values().next().unwrap().clone();
    cluster.restart();
    cluster.set_pod(crate::pods::RevisionPod { is_marked: true, ..marked.clone() });
    cluster.run(seconds(3));
    let write = cluster.writes.last().unwrap();
    assert_eq!(write.marks, [(marked.name.into(), None)].into());
    assert_eq!(write.desired, None, "the scale is right as it is");
    cluster.run(seconds(60));
    assert_eq!(cluster.writes.len(), 1);
}

/// The answer to a write is newer than a watch that lags: by the watch, every later change would
/// start from an outdated number, and be refused.
#[test]
fn a_watch_that_lags_makes_nobody_write_by_an_old_number() {
    let mut cluster = Cluster::new(1, &[("target", "1"), ("window", "6s")]);
    cluster.run_until_ready(1);
    cluster.is_lagging = true;
    // The cluster checks that each write starts from the present number.
    for requests in [2, 6, 1, 4] {
        cluster.finish();
        for request in 0..requests {
            cluster.request(0, request);
        }
        cluster.run(Duration::from_secs(90));
    }
    let written: Vec<_> = cluster.writes.iter().filter_map(|write| write.desired).collect();
    let falls = written.windows(2).filter(|pair| pair[1] < pair[0]).count();
    let rises = written.windows(2).filter(|pair| pair[1] > pair[0]).count();
    assert!(falls >= 1 && rises >= 2, "{written:?}");
}

/// Found by the simulation: the watches of the controller were slow. It never saw the pod that was
/// ready, and the Revision slept without ever having been Ready.
#[test]
fn a_first_start_is_over_when_the_status_says_so() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.is_lagging = true;
    cluster.run_until_ready(1);
    cluster.run(seconds(300));
    assert_eq!(cluster.desired(), 1);
    cluster.is_lagging = false;
    cluster.run(seconds(100));
    assert_eq!(cluster.desired(), 0);
}

/// Found by the simulation: the wall clock was wrong when the start was given up, and the status said
/// `NoTraffic` in the place of `TimedOut`.
#[test]
fn a_start_that_failed_is_no_first_start_that_went_well_whatever_the_status_says() {
    let mut cluster = broken(&[("min-scale", "2")]);
    cluster.run(GIVEN_UP_AFTER * 2);
    assert_eq!(cluster.desired(), 0);
    cluster.target.is_initialized = true;
    cluster.step(FleetEvent::TargetApplied(Box::new(cluster.target.clone())));
    cluster.request(0, 0);
    cluster.run(seconds(3));
    assert_eq!(cluster.desired(), 2, "it is tried again");
    cluster.activators[0].queued = 0;
    cluster.run(GIVEN_UP_AFTER * 3);
    assert_eq!(cluster.desired(), 0);
}
