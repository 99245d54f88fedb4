use ebb_api::report::RevisionKey;
use serde_json::{Value, json};

use super::*;
use crate::connect::TcpConnect;

fn pod(name: &str, changes: Value) -> Pod {
    let mut whole = json!({"ip": "10.0.0.1", "ready": "True", "uid": format!("uid-{name}")});
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    whole.as_object_mut().unwrap().extend(changes);
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "ebb", "uid": whole["uid"],
            "deletionTimestamp": whole["deleted"],
        },
        "status": {
            "podIP": whole["ip"],
            "conditions": [{"type": "Ready", "status": whole["ready"]}],
        },
    }))
    .unwrap()
}

fn peers() -> Peers {
    let options = PeerOptions {
        namespace: "ebb".into(),
        selector: "a=b".into(),
        port: 8082,
        shown: Shown::nothing(),
        doorkeeper: Doorkeeper::open(),
    };
    Peers::new(options, "me".into(), Arc::new(TcpConnect), Gauge::default())
}

fn point(number: u32) -> Point {
    Point::of(&RevisionKey::new("default", format!("digits-{number:05}")))
}

/// How many of a hundred revisions go to others.
fn elsewhere(peers: &Peers) -> usize {
    let now = Instant::now();
    (0..100).filter(|number| !peers.before_us(point(*number), now).is_empty()).count()
}

#[test]
fn ready_pods_that_stay_are_members_and_this_one_is_no_exception() {
    let peers = peers();
    assert_eq!(elsewhere(&peers), 0, "nobody is known");
    peers.change(WatchChange::Replaced(vec![pod("me", json!({})), pod("other", json!({}))]));
    assert!((20..80).contains(&elsewhere(&peers)));
    for changes in
        [json!({"ready": "False"}), json!({"deleted": "2026-01-01T00:00:00Z"}), json!({"ip": null})]
    {
        peers.change(WatchChange::Applied(pod("other", changes.clone())));
        assert_eq!(elsewhere(&peers), 0, "{changes}");
        peers.change(WatchChange::Applied(pod("other", json!({}))));
        assert!(elsewhere(&peers) > 0);
        peers.change(WatchChange::Applied(pod("me", changes)));
        assert_eq!(elsewhere(&peers), 100);
        peers.change(WatchChange::Applied(pod("me", json!({}))));
    }
    peers.change(WatchChange::Deleted(pod("other", json!({}))));
    assert_eq!(elsewhere(&peers), 0);
}

#[test]
fn the_port_is_the_pods_own_if_it_names_one() {
    let mut other = pod("other", json!({}));
    let port = |pod: &Pod| PeerFacts::of(pod, 8082).unwrap().address.unwrap().port();
    assert_eq!(port(&other), 8082);
    let spec = json!({"containers": [{"name": "activator", "ports": [
        {"name": "http", "containerPort": 8080}, {"name": "peers", "containerPort": 7000},
    ]}]});
    other.spec = Some(serde_json::from_value(spec).unwrap());
    assert_eq!(port(&other), 7000);
}

#[test]
fn a_leaving_activator_owns_nothing_and_serves_only_what_nobody_else_can() {
    let peers = peers();
    peers.change(WatchChange::Replaced(vec![pod("me", json!({})), pod("other", json!({}))]));
    peers.leave();
    assert_eq!(elsewhere(&peers), 100);
    peers.change(WatchChange::Replaced(vec![pod("me", json!({}))]));
    assert_eq!(elsewhere(&peers), 0);
}

#[test]
fn connections_are_kept_for_the_same_pod_only() {
    let peers = peers();
    let first = |peers: &Peers| peers.before_us(point(1), Instant::now())[0].clone();
    peers.change(WatchChange::Applied(pod("other", json!({}))));
    let before = first(&peers);
    peers.change(WatchChange::Applied(pod("other", json!({"ready": "False"}))));
    peers.change(WatchChange::Applied(pod("other", json!({}))));
    assert!(Arc::ptr_eq(&before, &first(&peers)));
    peers.change(WatchChange::Applied(pod("other", json!({"uid": "new"}))));
    assert!(!Arc::ptr_eq(&before, &first(&peers)));
}

#[test]
fn one_request_in_a_while_finds_out_whether_a_lost_peer_is_back() {
    let peers = peers();
    peers.change(WatchChange::Applied(pod("other", json!({}))));
    let tried = |now| peers.before_us(point(1), now).first().cloned();
    let now = Instant::now();
    tried(now).unwrap().unreachable(now);
    assert!(tried(now + SHUN / 2).is_none());
    let later = now + SHUN;
    let peer = tried(later).unwrap();
    assert!(tried(later).is_none(), "the one is under way");
    peer.reached();
    assert!(tried(later).is_some());
}

/// Of requests that come at once after a pause, none is served beside the owner because the owner
/// was once away.
#[test]
fn every_request_tries_a_peer_that_was_away_long_ago() {
    let peers = peers();
    peers.change(WatchChange::Applied(pod("other", json!({}))));
    let tried = |now| peers.before_us(point(1), now).first().cloned();
    let now = Instant::now();
    tried(now).unwrap().unreachable(now);
    let later = now + 2 * SHUN;
    assert!((0..3).all(|_| tried(later).is_some()));
}

/// Found by the simulation: requests to another owner used the tries up, and the peer that was back
/// stayed passed over beside those that had found it.
#[test]
fn a_request_to_another_peer_does_not_find_out_about_the_next_in_order() {
    let peers = peers();
    peers.change(WatchChange::Replaced(vec![pod("a", json!({})), pod("b", json!({}))]));
    let now = Instant::now();
    // Two revisions, each owned by one of the two, with the other next.
    let order = |number| peers.before_us(point(number), now);
    let lost = order(0)[0].clone();
    let other = (1..1000).find(|number| !Arc::ptr_eq(&order(*number)[0], &lost)).unwrap();
    assert_eq!(order(other).len(), 2);
    lost.unreachable(now);
    let later = now + SHUN;
    let elsewhere = peers.before_us(point(other), later);
    assert_eq!(elsewhere.len(), 1, "nobody waits for a lost peer behind another");
    assert!(Arc::ptr_eq(&peers.before_us(point(0), later)[0], &lost), "the try is still there");
}
