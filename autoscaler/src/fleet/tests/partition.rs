//! An autoscaler that hears only a part of the activators knows only a part of the load.

use std::collections::BTreeMap;
use std::time::Duration;

use ebb_api::report::{Report, Scope};

use super::cluster::{Cluster, PATIENCE};
use crate::activators::ReporterPod;
use crate::event::{Action, FleetEvent};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Two activators with four requests each, and eight replicas.
fn busy() -> Cluster {
    let mut cluster = Cluster::new(2, &[("target", "1"), ("window", "6s")]);
    cluster.run_until_ready(1);
    for request in 0..8 {
        cluster.request(request % 2, request);
    }
    cluster.run(seconds(20));
    assert!(cluster.desired() >= 8, "{}", cluster.desired());
    cluster
}

#[test]
fn cut_off_from_one_of_two_activators_it_never_lowers_the_scale_and_says_why() {
    let mut cluster = busy();
    let before = cluster.desired();
    // The mute activator keeps its requests in flight; as far as the other knows there are none.
    cluster.activators[1].is_mute = true;
    cluster.activators[1].is_deaf = true;
    cluster.activators[0].in_flight.clear();
    cluster.run(PATIENCE);
    assert_eq!((cluster.desired(), cluster.notices.len()), (before, 0));
    assert_eq!((cluster.fleet.unheard(cluster.now), cluster.fleet.held()), (1, 1));
    cluster.run(seconds(60));
    assert_eq!(cluster.desired(), before);
    let note = &cluster.notices[0].note;
    assert!(note.contains("activator-1 (for "), "{note}");
    // It is heard again: its load counts, and the replicas beyond that go.
    cluster.activators[1].is_mute = false;
    cluster.activators[1].is_deaf = false;
    cluster.run(seconds(60));
    assert!((4..before).contains(&cluster.desired()), "{}", cluster.desired());
    cluster.finish();
    cluster.run(seconds(120));
    assert_eq!((cluster.desired(), cluster.notices.len()), (0, 1));
    assert_eq!((cluster.fleet.unheard(cluster.now), cluster.fleet.held()), (0, 0));
}

#[test]
fn a_last_replica_that_stays_for_that_reason_is_told_of_as_well() {
    let mut cluster = Cluster::new(2, &[]);
    cluster.run_until_ready(1);
    cluster.activators[1].is_mute = true;
    cluster.run(PATIENCE + seconds(120));
    assert_eq!((cluster.desired(), cluster.fleet.held()), (1, 1));
    assert!(cluster.notices[0].note.contains("although 0 would do"), "{:?}", cluster.notices);
}

#[test]
fn after_a_total_silence_the_first_that_returns_does_not_decide_alone() {
    let mut cluster = busy();
    let before = cluster.desired();
    cluster.activators.iter_mut().for_each(|one| one.is_mute = true);
    cluster.run(seconds(120));
    cluster.activators[0].is_mute = false;
    cluster.activators[0].in_flight.clear();
    cluster.run(seconds(300));
    assert_eq!(cluster.desired(), before);
}

#[test]
fn unknown_load_does_not_count_as_zero_once_all_are_heard() {
    let mut cluster = busy();
    cluster.finish();
    cluster.activators[1].is_mute = true;
    cluster.run(seconds(60));
    // Meanwhile it got requests, of which its last report says nothing.
    for request in 0..8 {
        cluster.request(1, request);
    }
    cluster.run(seconds(60));
    let before = cluster.desired();
    cluster.activators[1].is_mute = false;
    for _ in 0..60 {
        cluster.run(seconds(1));
        assert!(cluster.desired() >= before, "{}", cluster.desired());
    }
}

#[test]
fn a_cold_start_waits_until_every_activator_was_heard() {
    let mut cluster = busy();
    let before = cluster.desired();
    cluster.activators[1].is_mute = true;
    cluster.activators[1].is_deaf = true;
    cluster.activators[0].in_flight.clear();
    cluster.restart();
    cluster.run(seconds(300));
    assert_eq!(cluster.desired(), before);
}

#[test]
fn a_pod_of_an_activator_that_never_spoke_holds_every_drain() {
    let mut cluster = busy();
    let before = cluster.desired();
    // A new activator: it takes requests before any report of it arrives.
    cluster.activators.push(super::cluster::Activator { is_mute: true, ..Default::default() });
    cluster.show_activators();
    cluster.finish();
    cluster.run(seconds(300));
    assert_eq!(cluster.desired(), before);
    assert!(cluster.order().is_empty(), "nothing is taken out of service meanwhile");
}

/// An activator that was forgotten is not heard until its next full report, which it would not send
/// before its stream ends.
#[test]
fn an_activator_that_says_what_changed_from_nothing_has_to_begin_anew() {
    let mut cluster = Cluster::new(1, &[]);
    let begins_anew = |cluster: &mut Cluster, scope| {
        let activator = "activator-9".to_owned();
        let report = Report { activator, scope, revisions: Vec::new() };
        let actions = cluster.fleet.step(FleetEvent::Report(report), cluster.now);
        actions.contains(&Action::BeginAnew("activator-9".to_owned()))
    };
    assert!(!begins_anew(&mut cluster, Scope::Moment), "it may come before the first interval");
    assert!(begins_anew(&mut cluster, Scope::Changes));
    assert!(!begins_anew(&mut cluster, Scope::Full));
    assert!(!begins_anew(&mut cluster, Scope::Changes));
    let pods = [("activator-9".to_owned(), ReporterPod::Running)].into();
    cluster.step(FleetEvent::Activators(pods));
    cluster.step(FleetEvent::Activators(BTreeMap::new()));
    assert!(begins_anew(&mut cluster, Scope::Changes), "its pod lost the label");
}
