use ebb_api::labels;
use ebb_api::models::MODELS;
use ebb_api::serving::{Route, RouteSpec, RouteStatus, TrafficTarget};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::*;
use crate::route::RouteClaims;

/// A Route `namespace/name` that was made at `created_s` and declares `models`; its requests go to
/// the revision `name`, those of its tag `canary` to `name-canary`.
fn route(namespace: &str, name: &str, created_s: i64, models: &str) -> Route {
    let mut route = Route::new(name, RouteSpec::default());
    let metadata = &mut route.metadata;
    metadata.namespace = Some(namespace.to_owned());
    metadata.annotations = Some([(MODELS.name().to_owned(), models.to_owned())].into());
    metadata.creation_timestamp = Timestamp::from_second(created_s).ok().map(Time);
    let url = |name: &str| Some(format!("http://{name}.{namespace}.example.com"));
    let target = |revision: &str, percent, tag: Option<&str>| TrafficTarget {
        revision_name: Some(revision.to_owned()),
        percent: Some(percent),
        tag: tag.map(str::to_owned),
        url: tag.and_then(|tag| url(&format!("{tag}-{name}"))),
        ..TrafficTarget::default()
    };
    route.status = Some(RouteStatus {
        url: url(name),
        traffic: vec![
            target(name, 100, None),
            target(&format!("{name}-canary"), 0, Some("canary")),
        ],
        ..RouteStatus::default()
    });
    route
}

fn hidden(mut route: Route) -> Route {
    let value = labels::VISIBILITY_CLUSTER_LOCAL.to_owned();
    route.metadata.labels = Some([(labels::VISIBILITY.to_owned(), value)].into());
    route
}

fn claims(routes: &[Route]) -> RouteClaims<String> {
    let mut claims = RouteClaims::new("cluster.local".to_owned());
    for route in routes {
        claims.set(RouteFacts::of(route).unwrap(), &mut |key| key.to_string());
    }
    claims
}

/// Where a request for `model` goes, and what the server is told instead.
fn picked(claims: &RouteClaims<String>, model: &str, door: Door) -> Option<(String, String)> {
    let table = claims.table();
    let choice = table.models().pick(model, door, 7)?;
    let known_as = choice.known_as.map_or("", |name| name);
    Some((choice.target.unwrap().clone(), known_as.to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "it stands beside None")]
fn to(revision: &str, known_as: &str) -> Option<(String, String)> {
    Some((revision.to_owned(), known_as.to_owned()))
}

fn listed(claims: &RouteClaims<String>, door: Door) -> Vec<String> {
    let table = claims.table();
    table.models().list(door, 100, |_| true).0.into_iter().map(|model| model.id).collect()
}

#[test]
fn a_name_is_looked_up_whole_then_with_a_tag_then_with_a_namespace() {
    let claims = claims(&[
        route("a", "one", 1, "smol, smol:135m, org/smol, gpt=smol"),
        route("a", "two", 2, "other:8b"),
    ]);
    for (model, found) in [
        ("smol", to("a/one", "")),
        ("smol:135m", to("a/one", "")),
        ("org/smol", to("a/one", "")),
        ("gpt", to("a/one", "smol")),
        ("smol:canary", to("a/one-canary", "smol")),
        ("gpt:canary", to("a/one-canary", "smol")),
        ("other:8b:canary", to("a/two-canary", "other:8b")),
        ("a/smol", to("a/one", "smol")),
        ("a/smol:canary", to("a/one-canary", "smol")),
        ("a/org/smol", to("a/one", "org/smol")),
        ("smol:blue", None),
        ("b/smol", None),
        ("other", None),
        ("", None),
        (":", None),
        ("/", None),
    ] {
        assert_eq!(picked(&claims, model, Door::Outer), found, "{model}");
    }
}

#[test]
fn the_older_of_two_routes_has_the_name_in_whatever_order_they_come() {
    let old = route("b", "old", 1, "smol");
    let new = route("a", "new", 2, "smol");
    for order in [[old.clone(), new.clone()], [new, old]] {
        let mut claims = claims(&order);
        assert_eq!(picked(&claims, "smol", Door::Outer), to("b/old", ""));
        assert_eq!(picked(&claims, "a/smol", Door::Outer), to("a/new", "smol"));
        assert_eq!(picked(&claims, "b/smol", Door::Outer), to("b/old", "smol"));
        assert_eq!(listed(&claims, Door::Outer), ["smol", "a/smol"]);
        claims.remove("b", "old");
        assert_eq!(picked(&claims, "smol", Door::Outer), to("a/new", ""));
        assert_eq!(listed(&claims, Door::Outer), ["smol"]);
        claims.remove("a", "new");
        assert!(claims.table().models().is_empty());
    }
}

#[test]
fn the_outer_door_neither_lists_nor_reaches_what_is_private() {
    let claims = claims(&[
        hidden(route("a", "old", 1, "smol")),
        route("b", "new", 2, "smol"),
        hidden(route("c", "secret", 3, "other")),
    ]);
    assert_eq!(listed(&claims, Door::Outer), ["smol"]);
    assert_eq!(listed(&claims, Door::Inner), ["other", "smol", "b/smol"]);
    assert_eq!(picked(&claims, "smol", Door::Outer), to("b/new", ""));
    assert_eq!(picked(&claims, "smol", Door::Inner), to("a/old", ""));
    for model in ["other", "a/smol", "c/other", "other:canary"] {
        assert_eq!(picked(&claims, model, Door::Outer), None, "{model}");
        assert!(picked(&claims, model, Door::Inner).is_some(), "{model}");
        assert_eq!(claims.table().models().find(model, Door::Outer), None, "{model}");
    }
}

/// Nobody's list has a name twice, and each name in it leads where it says.
#[test]
fn a_declared_name_goes_before_a_namespace_and_a_tag() {
    let claims = claims(&[
        route("b", "old", 1, "smol"),
        route("a", "new", 2, "smol"),
        route("c", "exact", 3, "a/smol, smol:canary"),
    ]);
    assert_eq!(listed(&claims, Door::Outer), ["a/smol", "smol", "smol:canary"]);
    assert_eq!(picked(&claims, "a/smol", Door::Outer), to("c/exact", ""));
    assert_eq!(picked(&claims, "smol:canary", Door::Outer), to("c/exact", ""));
    let table = claims.table();
    for id in ["smol", "a/smol", "b/smol", "b/smol:canary"] {
        let found = table.models().find(id, Door::Outer).unwrap();
        let (revision, _) = picked(&claims, id, Door::Outer).unwrap();
        assert_eq!((found.id.as_str(), found.target), (id, Ok(&revision)));
    }
}

#[test]
fn a_changed_declaration_and_a_changed_split_are_followed() {
    let mut claims = claims(&[route("a", "one", 1, "smol, tiny")]);
    let mut changed = route("a", "one", 1, "smol=s");
    changed.status.as_mut().unwrap().traffic[0].revision_name = Some("later".to_owned());
    claims.set(RouteFacts::of(&changed).unwrap(), &mut |key| key.to_string());
    assert_eq!(picked(&claims, "smol", Door::Outer), to("a/later", "s"));
    assert_eq!(picked(&claims, "tiny", Door::Outer), None);
}

#[test]
fn a_model_that_no_revision_serves_is_known_and_says_why() {
    let mut broken = route("a", "one", 1, "smol");
    let status = broken.status.as_mut().unwrap();
    status.traffic.clear();
    status.conditions = vec![ebb_api::condition::Condition {
        type_: RouteStatus::ALL_TRAFFIC_ASSIGNED.to_owned(),
        status: ebb_api::condition::Status::False,
        message: Some("no image".to_owned()),
        ..Default::default()
    }];
    let claims = claims(&[broken]);
    let table = claims.table();
    let why: Arc<str> = "no image".into();
    let choice = table.models().pick("smol", Door::Outer, 0).unwrap();
    assert_eq!(choice.target, Err(Some(&why)));
    assert_eq!(table.models().find("smol", Door::Outer).unwrap().target, Err(Some(&why)));
}

#[test]
fn the_list_is_bounded_and_shows_the_revision_with_the_largest_share() {
    let mut split = route("a", "one", 1, "b, a, c");
    let traffic = &mut split.status.as_mut().unwrap().traffic;
    (traffic[0].percent, traffic[1].percent) = (Some(40), Some(60));
    let claims = claims(&[split]);
    let table = claims.table();
    let (models, is_more) = table.models().list(Door::Outer, 2, |_| true);
    let ids: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!((ids, is_more), (vec!["a", "b"], true));
    assert_eq!(models[0].target, Ok(&"a/one-canary".to_owned()));
    assert!(!table.models().list(Door::Outer, 3, |_| true).1);
}
