//! The whole machine against a small cluster.

mod back;
mod cluster;
mod gone;
mod partition;
mod room;
mod standby;
mod starts;

use ebb_api::report::{RevisionReport, Scope};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::cluster::{Cluster, PATIENCE, STEP};
use super::*;
use crate::activators::GONE_AFTER;
use crate::drain;
use crate::event::Urgency;

const IDLE: Duration = Duration::from_secs(70);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A cluster whose one replica has come and gone.
fn asleep(activators: usize) -> Cluster {
    let mut cluster = Cluster::new(activators, &[]);
    cluster.run_until_ready(1);
    cluster.run(IDLE);
    assert_eq!(cluster.desired(), 0);
    cluster
}

#[test]
fn a_new_revision_reaches_its_initial_scale_without_any_report() {
    let mut cluster = Cluster::new(1, &[("initial-scale", "2")]);
    cluster.run_until_ready(2);
    // The Deployment was made with that many replicas.
    assert_eq!(cluster.writes.len(), 0);
}

#[test]
fn the_first_request_from_zero_wakes_at_once_with_one_write() {
    let mut cluster = asleep(2);
    let before = (cluster.writes.len(), cluster.now);
    cluster.request(1, 0);
    assert_eq!(cluster.desired(), 1);
    assert_eq!((cluster.writes.len(), cluster.now), (before.0 + 1, before.1));
    cluster.control();
    cluster.run_until_ready(1);
    cluster.run(TICK);
    assert_eq!(cluster.writes.len(), before.0 + 1);
}

#[test]
fn a_revision_that_sleeps_is_never_looked_at() {
    let mut cluster = asleep(1);
    cluster.run(seconds(5));
    assert_eq!(cluster.fleet.deadline(), None);
}

#[test]
fn twenty_times_it_falls_asleep_and_wakes() {
    let mut cluster = asleep(2);
    for round in 0..20 {
        cluster.run(seconds(round % 7));
        cluster.request(usize::from(round % 2 == 0), 0);
        assert_eq!(cluster.desired(), 1, "round {round}");
        cluster.run_until_ready(1);
        cluster.dispatch();
        cluster.run(seconds(3));
        cluster.finish();
        cluster.run(seconds(59));
        assert_eq!(cluster.desired(), 1, "round {round}");
        cluster.run(seconds(15));
        assert_eq!(cluster.desired(), 0, "round {round}");
        assert!(cluster.pods.is_empty(), "round {round}");
    }
}

#[test]
fn max_scale_holds_against_any_load() {
    let mut cluster = Cluster::new(1, &[("max-scale", "3"), ("target", "1")]);
    cluster.run_until_ready(1);
    for request in 0..500 {
        cluster.request(0, request);
    }
    cluster.run(seconds(20));
    assert_eq!((cluster.desired(), cluster.ready()), (3, 3));
}

#[test]
fn min_scale_holds_while_reachable_only() {
    let mut cluster = Cluster::new(1, &[("min-scale", "2")]);
    cluster.run_until_ready(2);
    cluster.run(IDLE);
    assert_eq!(cluster.desired(), 2);
    cluster.target.is_reachable = false;
    cluster.step(FleetEvent::TargetApplied(Box::new(cluster.target.clone())));
    cluster.run(IDLE);
    assert_eq!((cluster.desired(), cluster.pods.len()), (0, 0));
}

#[test]
fn a_burst_during_the_drain_to_zero_takes_the_pod_back_and_writes_nothing() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.run_until_ready(1);
    let end = cluster.now + IDLE * 2;
    while cluster.order().is_empty() {
        assert!(cluster.now < end, "no drain began");
        cluster.run(STEP);
    }
    assert_eq!(cluster.desired(), 1);
    let writes = cluster.writes.len();
    cluster.request(0, 0);
    assert!(cluster.order().is_empty());
    cluster.dispatch();
    assert_eq!(cluster.activators[0].in_flight.values().sum::<u32>(), 1);
    cluster.run(seconds(10));
    assert_eq!((cluster.desired(), cluster.writes.len()), (1, writes));
}

#[test]
fn a_busy_victim_holds_the_scale_up_until_it_is_idle() {
    let mut cluster = Cluster::new(1, &[("initial-scale", "2"), ("window", "6s")]);
    cluster.run_until_ready(2);
    let busy = cluster.pods.keys().next().unwrap().clone();
    cluster.activators[0].in_flight.insert(busy.clone(), 1);
    cluster.run(seconds(30));
    // 1 request asks for one replica: the idle pod goes, the busy one stays.
    assert_eq!(cluster.desired(), 1);
    assert!(cluster.pods.contains_key(&busy));
    assert_eq!(cluster.pods.len(), 1);
}

#[test]
fn condemned_pods_serve_again_seconds_after_a_write_that_nobody_followed() {
    let mut cluster = Cluster::new(1, &[]);
    cluster.run_until_ready(1);
    cluster.is_controlled = false;
    while cluster.desired() > 0 {
        cluster.run(STEP);
    }
    let written_at = cluster.now;
    assert_eq!(cluster.order().len(), 1, "a condemned pod gets no request");
    cluster.request(0, 0);
    assert_eq!((cluster.desired(), cluster.order().len()), (1, 1));
    while !cluster.order().is_empty() {
        cluster.run(STEP);
        assert!(cluster.now < written_at + seconds(10));
    }
    assert!(cluster.now >= written_at + drain::CONDEMNED_FOR);
    cluster.dispatch();
    assert_eq!(cluster.activators[0].queued, 0);
}

#[test]
fn a_restart_holds_the_scale_for_a_stable_window() {
    let mut cluster = Cluster::new(1, &[("initial-scale", "4")]);
    cluster.run_until_ready(4);
    let writes = cluster.writes.len();
    cluster.fleet = Fleet::new(Arc::new(Config::default()), PATIENCE, cluster.now);
    cluster.show_activators();
    cluster.step(FleetEvent::TargetsListed(vec![cluster.target.clone()]));
    cluster.run(seconds(5));
    cluster.list_pods();
    cluster.run(seconds(58));
    assert_eq!(cluster.desired(), 4);
    assert_eq!(cluster.writes.len(), writes, "a restart writes nothing");
    cluster.run(seconds(60));
    assert!(cluster.desired() < 4);
}

#[test]
fn a_standby_writes_nothing_and_takes_over_with_the_load_it_heard() {
    let mut cluster = asleep(1);
    let writes = cluster.writes.len();
    cluster.step(FleetEvent::Leads(None));
    cluster.activators[0].queued = 3;
    cluster.run(seconds(5));
    assert_eq!((cluster.desired(), cluster.writes.len()), (0, writes));
    cluster.step(FleetEvent::Leads(Some(2)));
    assert!(cluster.desired() > 0, "nobody has to ask again");
}

#[test]
fn an_activator_that_dies_in_the_middle_of_a_drain_is_waited_for_and_then_not() {
    let mut cluster = Cluster::new(2, &[]);
    cluster.run_until_ready(1);
    cluster.activators[1].is_deaf = true;
    while cluster.order().is_empty() {
        cluster.run(STEP);
    }
    cluster.run(seconds(10));
    assert_eq!(cluster.desired(), 1, "one of two has not let go");
    cluster.set_dead(1, true);
    cluster.run(GONE_AFTER.saturating_sub(seconds(3)));
    assert_eq!(cluster.desired(), 1, "it may only be slow");
    // After that its load is missing from the window for a while.
    cluster.run(IDLE);
    assert_eq!(cluster.desired(), 0);
}

#[test]
fn reports_that_stop_never_lower_a_scale() {
    let mut cluster = Cluster::new(2, &[("target", "1")]);
    cluster.run_until_ready(1);
    for request in 0..8 {
        cluster.request(request % 2, request);
    }
    cluster.run(seconds(20));
    let before = cluster.desired();
    assert!(before >= 8, "{before}");
    cluster.set_dead(0, true);
    cluster.set_dead(1, true);
    cluster.finish();
    cluster.run(seconds(600));
    assert_eq!(cluster.desired(), before);
}

#[test]
fn no_pod_is_taken_out_of_service_while_nobody_reports() {
    let mut cluster = Cluster::new(1, &[("min-scale", "4")]);
    cluster.run_until_ready(4);
    cluster.set_dead(0, true);
    cluster.run(seconds(10));
    cluster.target.annotations.clear();
    let key = "autoscaling.knative.dev/max-scale".to_owned();
    cluster.target.annotations.insert(key, "1".to_owned());
    cluster.step(FleetEvent::TargetApplied(Box::new(cluster.target.clone())));
    cluster.run(seconds(60));
    assert!(cluster.order().is_empty());
    assert_eq!(cluster.desired(), 4);
    cluster.set_dead(0, false);
    cluster.run(seconds(10));
    assert_eq!(cluster.desired(), 1);
}

#[test]
fn a_status_that_somebody_else_lowered_is_put_right_at_the_next_tick() {
    let mut cluster = Cluster::new(1, &[("min-scale", "1")]);
    cluster.run_until_ready(1);
    cluster.is_controlled = false;
    cluster.target.desired = Some(0);
    cluster.step(FleetEvent::TargetApplied(Box::new(cluster.target.clone())));
    cluster.run(seconds(3));
    let write = cluster.writes.last().unwrap();
    assert_eq!((write.known, write.desired, write.urgency), (Some(0), Some(1), Urgency::Wake));
}

/// A deposed leader, or an activator that heard no autoscaler, may have raised the scale late. The
/// pods of that raise were never drained: they go as any others do, which the cluster checks.
#[test]
fn a_status_that_somebody_else_raised_is_taken_over_and_lowered_by_draining() {
    let mut cluster = Cluster::new(2, &[("min-scale", "1")]);
    cluster.run_until_ready(1);
    cluster.target.desired = Some(8);
    cluster.step(FleetEvent::TargetApplied(Box::new(cluster.target.clone())));
    cluster.ready_after = STEP;
    cluster.run(3 * STEP);
    (0..8).for_each(|choice| cluster.request(0, choice));
    cluster.run(seconds(20));
    assert!(cluster.desired() > 1, "they are busy");
    cluster.finish();
    cluster.run(seconds(150));
    assert_eq!((cluster.desired(), cluster.ready()), (1, 1));
}

#[test]
fn a_revision_made_anew_under_its_name_starts_anew() {
    let mut cluster = asleep(1);
    cluster.target.uid = "uid-2".to_owned();
    cluster.target.desired = None;
    cluster.target.is_initialized = false;
    cluster.step(FleetEvent::TargetApplied(Box::new(cluster.target.clone())));
    let stale =
        FleetEvent::TargetDeleted { key: (*cluster.target.key).clone(), uid: "uid-1".to_owned() };
    cluster.step(stale);
    cluster.run_until_ready(1);
    assert_eq!(cluster.desired(), 1);
    cluster.run(IDLE);
    assert_eq!(cluster.writes.last().unwrap().uid, "uid-2");
}

#[test]
fn hostile_numbers_are_counted_and_change_nothing() {
    let mut cluster = asleep(1);
    let key = (*cluster.target.key).clone();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        let before = cluster.fleet.faults();
        cluster.step(FleetEvent::Report(Report {
            activator: "activator-0".to_owned(),
            scope: Scope::Full,
            revisions: vec![RevisionReport {
                revision: key.clone(),
                concurrency_mean: value,
                requests_per_second: value,
                interval_s: 1.0,
                ..RevisionReport::default()
            }],
        }));
        assert_eq!(cluster.fleet.faults(), before + 2, "{value}");
        assert_eq!(cluster.desired(), 0, "{value}");
    }
}

/// Requests come and go at random, activators become deaf and hear again, the controller stalls.
/// The cluster checks the rules at each write and each deletion; the bounds are checked here.
fn random_sequence(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let activators = random.random_range(1..4usize);
    let max: u32 = random.random_range(1..8);
    let mut cluster = Cluster::new(
        activators,
        &[("target", "2"), ("window", "6s"), ("max-scale", &max.to_string())],
    );
    for _ in 0..600 {
        match random.random_range(0..12u32) {
            0..=3 => {
                let index = random.random_range(0..activators);
                for _ in 0..random.random_range(1..10u32) {
                    cluster.request(index, random.random_range(0..100));
                }
            }
            4..=6 => cluster.finish(),
            7 => cluster.run(seconds(random.random_range(1..30))),
            8 => cluster.is_controlled = random.random_bool(0.9),
            9 => {
                let index = random.random_range(0..activators);
                cluster.activators[index].is_deaf = random.random_bool(0.5);
            }
            _ => cluster.run(STEP * random.random_range(1..30)),
        }
        cluster.dispatch();
        let desired = cluster.desired();
        assert!((0..=max).contains(&desired), "seed {seed}: {desired} of {max}");
    }
    // However it went: with everything healthy again, demand is met and idleness ends at zero.
    cluster.is_controlled = true;
    cluster.activators.iter_mut().for_each(|one| one.is_deaf = false);
    cluster.request(0, 0);
    cluster.run(seconds(20));
    cluster.dispatch();
    assert!(cluster.desired() >= 1, "seed {seed}");
    assert_eq!(cluster.activators[0].queued, 0, "seed {seed}");
    cluster.finish();
    cluster.run(seconds(90));
    assert_eq!((cluster.desired(), cluster.pods.len()), (0, 0), "seed {seed}");
}

#[test]
fn the_rules_hold_in_random_sequences() {
    for seed in 0..60 {
        random_sequence(seed);
    }
}
