use ebb_api::labels;
use ebb_api::serving::{Route, RouteStatus, TrafficTarget};
use proptest::prelude::*;

use super::*;

const DOMAIN: &str = "cluster.local";
const BOTH: [Door; 2] = [Door::Outer, Door::Inner];

/// What `digits` and its tag `blue` are called inside the cluster.
const INNER: [&str; 6] = [
    "digits.default",
    "digits.default.svc",
    "digits.default.svc.cluster.local",
    "blue-digits.default",
    "blue-digits.default.svc",
    "blue-digits.default.svc.cluster.local",
];

fn target(revision: &str, percent: i64, tag: Option<&str>, domain: &str) -> TrafficTarget {
    TrafficTarget {
        revision_name: Some(revision.to_owned()),
        percent: Some(percent),
        tag: tag.map(str::to_owned),
        url: tag.map(|tag| format!("http://{tag}-digits.default.{domain}")),
        ..TrafficTarget::default()
    }
}

/// `digits`, with addresses in `domain`.
fn route(domain: &str, traffic: &[(&str, i64, Option<&str>)]) -> Route {
    let mut route = Route::new("digits", ebb_api::serving::RouteSpec::default());
    route.metadata.namespace = Some("default".to_owned());
    let target = |(revision, percent, tag): &(&str, i64, Option<&str>)| {
        target(revision, *percent, *tag, domain)
    };
    route.status = Some(RouteStatus {
        url: Some(format!("http://digits.default.{domain}")),
        traffic: traffic.iter().map(target).collect(),
        ..RouteStatus::default()
    });
    route
}

fn table_of(route: &Route) -> RouteTable<String> {
    let facts = RouteFacts::of(route).unwrap();
    let mut claims = RouteClaims::new(DOMAIN.to_owned());
    claims.set(facts, &mut |key| key.name.clone());
    claims.table()
}

fn table(traffic: &[(&str, i64, Option<&str>)]) -> RouteTable<String> {
    table_of(&route("example.com:8080", traffic))
}

fn hide(route: &mut Route) {
    let own = route.metadata.labels.get_or_insert_default();
    own.insert(labels::VISIBILITY.to_owned(), labels::VISIBILITY_CLUSTER_LOCAL.to_owned());
}

#[test]
fn a_route_has_its_external_and_its_cluster_hosts_without_ports() {
    let table = table(&[("digits-00001", 100, None)]);
    for host in ["digits.default.example.com"].iter().chain(&INNER[..3]) {
        let picked = table.pick(host, Door::Inner, None, 7).map(String::as_str);
        assert_eq!(picked, Some("digits-00001"), "{host}");
    }
    assert_eq!(table.pick("other.default.example.com", Door::Inner, None, 7), None);
}

#[test]
fn a_tag_has_hosts_of_its_own_even_with_no_share() {
    let table = table(&[("one", 100, None), ("two", 0, Some("blue"))]);
    for host in ["blue-digits.default.example.com", "blue-digits.default.svc"] {
        assert_eq!(
            table.pick(host, Door::Inner, None, 0).map(String::as_str),
            Some("two"),
            "{host}"
        );
    }
    for random in 0..100 {
        let picked = table.pick("digits.default", Door::Inner, None, random);
        assert_eq!(picked.map(String::as_str), Some("one"));
    }
}

#[test]
fn a_route_without_a_share_has_no_main_host() {
    let table = table(&[("two", 0, Some("blue"))]);
    assert_eq!(table.pick("digits.default", Door::Inner, None, 0), None);
}

/// Cluster-local names of any Route, public or not, are unknown at the outer door.
#[test]
fn inner_hosts_of_a_public_route_are_known_at_the_inner_door_only() {
    let table = table(&[("one", 100, None), ("two", 0, Some("blue"))]);
    for host in INNER {
        assert_eq!(table.pick(host, Door::Outer, None, 0), None, "{host}");
        assert!(table.pick(host, Door::Inner, None, 0).is_some(), "{host}");
    }
    for host in ["digits.default.example.com", "blue-digits.default.example.com"] {
        for door in BOTH {
            assert!(table.pick(host, door, None, 0).is_some(), "{host} {door:?}");
        }
    }
}

/// A private Route has no host at the outer door at all, whatever its status says so far.
#[test]
fn a_private_route_is_unknown_at_the_outer_door() {
    for domain in ["svc.cluster.local", "example.com"] {
        let mut route = route(domain, &[("one", 100, None), ("two", 0, Some("blue"))]);
        hide(&mut route);
        let table = table_of(&route);
        let external = ["digits.default.example.com", "blue-digits.default.example.com"];
        for host in INNER.iter().chain(&external) {
            assert_eq!(table.pick(host, Door::Outer, None, 0), None, "{host}");
        }
        for host in INNER {
            assert!(table.pick(host, Door::Inner, None, 0).is_some(), "{host}");
        }
    }
}

/// Without a domain of its own, a Route's URL is its name in the cluster; Knative takes such a
/// Route for private too.
#[test]
fn a_route_whose_url_lies_in_the_clusters_domain_is_private() {
    let table = table_of(&route("svc.cluster.local", &[("one", 100, Some("blue"))]));
    for host in INNER {
        assert_eq!(table.pick(host, Door::Outer, None, 0), None, "{host}");
        assert!(table.pick(host, Door::Inner, None, 0).is_some(), "{host}");
    }
    for (host, inside) in
        [("a.cluster.local", true), ("cluster.local", true), ("a.mycluster.local", false)]
    {
        assert_eq!(is_inside(host, DOMAIN), inside, "{host}");
    }
}

/// By a header a request to a Route's own host gets what the tag's host leads to, through the same door.
#[test]
fn a_tag_of_the_route_is_found_under_its_own_host_and_no_other() {
    let domain = "example.com";
    let mut route =
        route(domain, &[("one", 100, None), ("two", 0, Some("t")), ("in", 0, Some("p"))]);
    let private = "http://p-digits.default.svc.cluster.local".to_owned();
    route.status.as_mut().unwrap().traffic[2].url = Some(private);
    let table = table_of(&route);
    let (own, tagged) = ("digits.default.example.com", "t-digits.default.example.com");
    for (host, door, tag, picked) in [
        (own, Door::Outer, None, "one"),
        (own, Door::Outer, Some("t"), "two"),
        ("digits.default", Door::Inner, Some("t"), "two"),
        (own, Door::Outer, Some("other"), "one"),
        (own, Door::Outer, Some(""), "one"),
        // The tag's host is hidden from the outer door.
        (own, Door::Outer, Some("p"), "one"),
        (own, Door::Inner, Some("p"), "in"),
        (tagged, Door::Outer, Some("p"), "two"),
    ] {
        assert_eq!(table.pick(host, door, tag, 0).unwrap(), picked, "{host} {tag:?}");
    }
    hide(&mut route);
    assert_eq!(table_of(&route).pick(own, Door::Outer, Some("t"), 0), None);
}

/// During a gradual rollout the host of a tag leads to both Revisions, in their proportion.
#[test]
fn several_revisions_of_one_tag_share_its_host() {
    let table = table(&[("old", 15, Some("t")), ("new", 5, Some("t")), ("pinned", 80, None)]);
    let picked = |host: &str| -> Vec<&str> {
        (0..20).map(|point| table.pick(host, Door::Inner, None, point).unwrap().as_str()).collect()
    };
    let tagged = picked("t-digits.default");
    assert_eq!(tagged.iter().filter(|name| **name == "old").count(), 15);
    assert_eq!(tagged.iter().filter(|name| **name == "new").count(), 5);
    assert_eq!(table.pick("t-digits.default.example.com", Door::Outer, None, 19).unwrap(), "new");
}

proptest! {
    #[test]
    fn shares_are_exact_over_all_points(first in 0_i64..=100) {
        let table = table(&[("one", first, None), ("two", 100 - first, None)]);
        let ones = (0..100)
            .filter(|point| table.pick("digits.default", Door::Inner, None, *point).unwrap() == "one")
            .count();
        prop_assert_eq!(i64::try_from(ones).unwrap(), first);
    }
}
