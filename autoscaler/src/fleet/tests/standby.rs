//! The last replica sleeps instead of going.

use std::time::Duration;

use super::cluster::{Cluster, Marks, STEP};
use crate::event::FleetEvent;
use crate::scale_target::ScaleTarget;
use crate::standby::StandbyOrder;

/// A revision whose last replica has fallen asleep.
fn asleep(annotations: &[(&str, &str)]) -> Cluster {
    let annotations: Vec<_> = [("standby", "process")].iter().chain(annotations).copied().collect();
    let mut cluster = Cluster::new(2, &annotations);
    cluster.run_until_ready(1);
    cluster.request(0, 0);
    cluster.run(Duration::from_secs(5));
    cluster.finish();
    cluster.run(Duration::from_secs(80));
    assert_eq!((cluster.desired(), cluster.pods.len(), cluster.order().len()), (1, 1, 1));
    assert_eq!(orders(&cluster), [StandbyOrder::Sleep]);
    assert_eq!(&*cluster.calls[0].path, "/sleep?level=1");
    cluster
}

fn orders(cluster: &Cluster) -> Vec<StandbyOrder> {
    cluster.calls.iter().map(|call| call.order).collect()
}

#[test]
fn it_sleeps_at_silence_and_serves_again_once_it_was_woken() {
    let mut cluster = asleep(&[]);
    let uid = cluster.pods.keys().next().unwrap().clone();
    cluster.run(Duration::from_mins(30));
    assert_eq!(orders(&cluster), [StandbyOrder::Sleep], "told once");
    cluster.request(1, 0);
    assert_eq!(
        orders(&cluster),
        [StandbyOrder::Sleep, StandbyOrder::Wake, StandbyOrder::Unmark],
        "at once, with no tick"
    );
    assert!(cluster.order().is_empty(), "its drain is taken back");
    cluster.dispatch();
    assert_eq!(cluster.activators[1].in_flight.get(&uid), Some(&1), "the same pod");
    cluster.finish();
    cluster.run(Duration::from_secs(90));
    assert_eq!(orders(&cluster).last(), Some(&StandbyOrder::Sleep), "and sleeps again");
    assert!(cluster.pods.contains_key(&uid));
}

#[test]
fn after_its_time_it_goes_to_zero() {
    let mut cluster = asleep(&[("standby-for", "2m")]);
    cluster.run(Duration::from_secs(90));
    assert_eq!(cluster.desired(), 1);
    cluster.run(Duration::from_mins(1));
    assert_eq!((cluster.desired(), cluster.pods.len()), (0, 0));
    cluster.request(0, 0);
    cluster.run_until_ready(1);
    assert_eq!(orders(&cluster), [StandbyOrder::Sleep], "a new one starts awake");
}

#[test]
fn one_that_does_not_sleep_is_stopped_and_people_are_told() {
    let mut cluster = Cluster::new(1, &[("standby", "process")]);
    cluster.do_calls_succeed = false;
    cluster.run_until_ready(1);
    cluster.run(Duration::from_mins(2));
    assert_eq!((cluster.desired(), orders(&cluster)), (0, vec![StandbyOrder::Sleep]));
    let note = &cluster.notices[0];
    assert_eq!(note.reason, "StandbyFailed");
    assert_eq!(
        note.note,
        "Pod name-of-pod-0001 did not sleep when told to by POST /sleep?level=1 (status 404), and is \
         stopped instead: see that the model's server has this path"
    );
}

#[test]
fn one_that_does_not_wake_is_replaced() {
    let mut cluster = asleep(&[]);
    let uid = cluster.pods.keys().next().unwrap().clone();
    cluster.do_calls_succeed = false;
    cluster.request(0, 0);
    assert_eq!(orders(&cluster), [StandbyOrder::Sleep, StandbyOrder::Wake]);
    assert!(cluster.order().contains(&uid), "no request is sent there");
    cluster.run(Duration::from_secs(8));
    cluster.dispatch();
    let activator = &cluster.activators[0];
    let inside: Vec<_> = activator.in_flight.keys().collect();
    assert!(activator.queued == 0 && inside.len() == 1 && *inside[0] != uid, "{activator:?}");
}

#[test]
fn the_next_leader_knows_by_the_mark_that_it_sleeps() {
    let mut cluster = asleep(&[]);
    cluster.restart();
    cluster.run(Duration::from_mins(3));
    assert_eq!((cluster.desired(), cluster.order().len()), (1, 1), "no activator sends there");
    let again = [StandbyOrder::Sleep, StandbyOrder::SleepAgain];
    assert_eq!(orders(&cluster), again, "and it is not woken by the change");
    cluster.request(0, 0);
    cluster.run(STEP);
    assert_eq!(orders(&cluster)[2], StandbyOrder::Wake);
    assert!(cluster.order().is_empty());
}

/// While a part of the load is unknown no scale is lowered, and what sleeps goes on sleeping.
#[test]
fn a_silent_activator_neither_wakes_it_nor_lets_it_go() {
    let mut cluster = asleep(&[("standby-for", "5m")]);
    cluster.activators[1].is_mute = true;
    cluster.run(Duration::from_mins(10));
    assert_eq!((cluster.desired(), orders(&cluster)), (1, vec![StandbyOrder::Sleep]));
    cluster.activators[1].is_mute = false;
    cluster.run(Duration::from_mins(3));
    assert_eq!(cluster.desired(), 0);
}

#[test]
fn what_no_request_can_reach_or_must_stay_does_not_sleep() {
    let mut cluster = Cluster::new(1, &[("standby", "process"), ("min-scale", "1")]);
    cluster.run_until_ready(1);
    cluster.run(Duration::from_mins(5));
    assert_eq!((cluster.desired(), cluster.order().len(), cluster.calls.len()), (1, 0, 0));
    let mut cluster = Cluster::new(1, &[("standby", "process")]);
    cluster.run_until_ready(1);
    cluster.target = ScaleTarget {
        is_reachable: false,
        version: cluster.target.version + 1,
        ..cluster.target.clone()
    };
    cluster.step(FleetEvent::TargetApplied(Box::new(cluster.target.clone())));
    cluster.run(Duration::from_mins(3));
    assert_eq!((cluster.desired(), cluster.calls.len()), (0, 0), "a revision without traffic");
}

#[test]
fn several_replicas_go_down_to_the_one_that_sleeps() {
    let mut cluster = Cluster::new(2, &[("standby", "process"), ("initial-scale", "3")]);
    cluster.run_until_ready(3);
    cluster.run(Duration::from_mins(5));
    assert_eq!((cluster.desired(), cluster.pods.len()), (1, 1));
    assert_eq!(orders(&cluster), [StandbyOrder::Sleep]);
}

/// While the API server writes no marks, no request waits beside a pod that could serve it.
#[test]
fn a_pod_whose_mark_is_not_written_serves_on() {
    let mut cluster = Cluster::new(1, &[("standby", "process")]);
    cluster.marks = Marks::Refused;
    cluster.run_until_ready(1);
    cluster.run(Duration::from_mins(5));
    let uid = cluster.pods.keys().next().unwrap().clone();
    assert_eq!((cluster.desired(), cluster.order().len(), cluster.notices.len()), (1, 0, 0));
    assert!(orders(&cluster).contains(&StandbyOrder::Sleep));
    cluster.request(0, 0);
    assert_eq!(cluster.activators[0].in_flight.get(&uid), Some(&1));
    cluster.finish();
    cluster.marks = Marks::Seen;
    cluster.run(Duration::from_mins(3));
    assert_eq!((cluster.order().len(), &cluster.pods[&uid].is_asleep), (1, &true));
}

/// Activators may see the mark long before this autoscaler does.
#[test]
fn an_order_calls_the_pod_that_was_woken_whatever_the_watch_shows() {
    let mut cluster = Cluster::new(1, &[("standby", "process")]);
    cluster.marks = Marks::Unseen;
    cluster.run_until_ready(1);
    cluster.run(Duration::from_mins(3));
    assert_eq!(orders(&cluster), [StandbyOrder::Sleep]);
    cluster.request(0, 0);
    let told = [StandbyOrder::Sleep, StandbyOrder::Wake, StandbyOrder::Unmark];
    assert_eq!(orders(&cluster), told, "the mark is removed unseen");
    let uid = cluster.pods.keys().next().unwrap().clone();
    assert_eq!((cluster.order().len(), cluster.activators[0].called.as_ref()), (0, Some(&uid)));
}

/// Nothing is lowered while an activator is not heard, and no request waits for it to be.
#[test]
fn one_that_does_not_wake_goes_alone_once_others_serve() {
    let mut cluster = asleep(&[]);
    let uid = cluster.pods.keys().next().unwrap().clone();
    cluster.activators[1].is_mute = true;
    cluster.run(Duration::from_mins(1));
    cluster.do_calls_succeed = false;
    cluster.request(0, 0);
    cluster.run(Duration::from_secs(5));
    assert!(cluster.pods.len() == 2 && cluster.order().contains(&uid), "another one starts");
    cluster.dispatch();
    let serving = cluster.activators[0].in_flight.keys().next().unwrap().clone();
    assert_ne!(serving, uid);
    cluster.run(Duration::from_mins(2));
    assert_eq!((cluster.desired(), cluster.pods.len()), (2, 2));
    cluster.activators[1].is_mute = false;
    cluster.run(Duration::from_mins(3));
    assert_eq!(cluster.pods.keys().collect::<Vec<_>>(), [&serving]);
    assert_eq!((cluster.desired(), cluster.order().len()), (1, 0));
}
