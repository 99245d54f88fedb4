//! Ownership of hosts: tag `x` of Route `a` and a Route `x-a` beside it want the same host.
//!
//! As in Knative, where each host is a core/v1 Service of that name, the Route that has the host
//! keeps it and the other Route is told NotOwned. If both have it, or neither, which watches that
//! lag can bring about, a Route's own name goes before a tag, and an older Route before a younger
//! one. The activator goes by the resulting statuses.

use ebb_api::names;
use ebb_api::serving::{Route, TrafficTarget};
use kube::ResourceExt as _;

use crate::cache::By;
use crate::stores::Stores;

/// Names of the hosts of these targets' tags: the marks by which Routes that want the same host
/// find each other.
pub(crate) fn tag_hosts<'a>(
    route: &'a Route,
    targets: impl IntoIterator<Item = &'a TrafficTarget>,
) -> impl Iterator<Item = String> {
    let own = route.name_any();
    let tags = targets.into_iter().filter_map(|target| target.tag.as_deref());
    tags.filter(|tag| !tag.is_empty()).map(move |tag| names::tag(tag, &own))
}

/// The hosts that the Route wants and other Routes have, its own name first.
pub(super) fn taken(route: &Route, stores: &Stores) -> Vec<String> {
    let namespace = route.namespace().unwrap_or_default();
    let own = route.name_any();
    let others = |host: &str| {
        let mut others = stores.routes.marked(&namespace, By::Host, host);
        others.retain(|other| other.name_any() != own);
        others
    };
    let mut taken = Vec::new();
    if in_force(route).is_empty() && others(&own).iter().any(|other| has_tag(other, &own)) {
        taken.push(own.clone());
    }
    for host in tag_hosts(route, &route.spec.traffic) {
        let has = has_tag(route, &host);
        let named = stores.routes.get(&namespace, &host);
        // The Route itself cannot have that name: its own is shorter.
        let is_named = named.is_some_and(|named| !in_force(&named).is_empty() || !has);
        let is_tagged = others(&host).iter().any(|other| {
            let theirs = has_tag(other, &host);
            if has == theirs { age(other) < age(route) } else { theirs }
        });
        if (is_named || is_tagged) && !taken.contains(&host) {
            taken.push(host);
        }
    }
    taken
}

/// The split in force, without the tags whose hosts other Routes have.
pub(super) fn without(route: &Route, taken: &[String]) -> Vec<TrafficTarget> {
    let mut kept = in_force(route).to_vec();
    for target in &mut kept {
        if tag_hosts(route, [&*target]).any(|host| taken.contains(&host)) {
            (target.tag, target.url) = (None, None);
        }
    }
    kept.retain(|target| target.tag.is_some() || target.percent.is_some_and(|share| share > 0));
    kept
}

fn in_force(route: &Route) -> &[TrafficTarget] {
    route.status.as_ref().map_or(&[], |status| &status.traffic)
}

fn has_tag(route: &Route, host: &str) -> bool {
    tag_hosts(route, in_force(route)).any(|own| own == host)
}

fn age(route: &Route) -> (Option<k8s_openapi::jiff::Timestamp>, String) {
    (route.creation_timestamp().map(|time| time.0), route.name_any())
}

#[cfg(test)]
mod tests {
    use ebb_api::serving::RouteStatus;

    use super::*;
    use crate::stores::tests::World;

    fn split(tag: Option<&str>) -> Vec<TrafficTarget> {
        vec![TrafficTarget {
            revision_name: Some("r".to_owned()),
            percent: Some(100),
            tag: tag.map(str::to_owned),
            ..TrafficTarget::default()
        }]
    }

    fn route(name: &str, tag: Option<&str>, is_in_force: bool) -> Route {
        let mut route = Route::default();
        route.metadata.name = Some(name.to_owned());
        route.metadata.namespace = Some("default".to_owned());
        route.spec.traffic = split(tag);
        if is_in_force {
            route.status = Some(RouteStatus { traffic: split(tag), ..RouteStatus::default() });
        }
        route
    }

    /// The hosts that each of two Routes cannot have.
    fn told(one: &Route, two: &Route) -> (Vec<String>, Vec<String>) {
        let mut world = World::new();
        world.watches.routes.feed(one.clone());
        world.watches.routes.feed(two.clone());
        (taken(one, &world.stores), taken(two, &world.stores))
    }

    /// The tag once took the other Route's host silently.
    #[tokio::test]
    async fn the_route_that_has_a_host_keeps_it_and_the_other_is_refused() {
        let host = || vec!["x-a".to_owned()];
        // (tag in force, Route of that name in force, tag refused, Route of that name refused)
        for (tag, name, is_tag, is_name) in [
            (true, false, false, true),
            (false, true, true, false),
            (true, true, true, false),
            (false, false, true, false),
        ] {
            let said = told(&route("a", Some("x"), tag), &route("x-a", None, name));
            let expected = (is_tag.then(host).unwrap_or_default(), is_name.then(host));
            assert_eq!(said, (expected.0, expected.1.unwrap_or_default()), "{tag} {name}");
        }
        assert_eq!(told(&route("a", Some("y"), true), &route("x-a", None, true)), (vec![], vec![]));
    }

    /// Two tags can make the same host as well.
    #[tokio::test]
    async fn of_two_tags_the_one_in_force_or_the_older_has_the_host() {
        let host = || vec!["x-y-a".to_owned()];
        let (one, two) = (|on| route("a", Some("x-y"), on), |on| route("y-a", Some("x"), on));
        assert_eq!(told(&one(false), &two(true)), (host(), vec![]));
        assert_eq!(told(&one(true), &two(false)), (vec![], host()));
        assert_eq!(told(&one(true), &two(true)), (vec![], host()));
    }

    #[test]
    fn what_was_in_force_stays_so_without_the_tag() {
        let taken = ["x-a".to_owned()];
        assert_eq!(without(&route("a", Some("x"), true), &taken), split(None));
        assert_eq!(without(&route("a", Some("y"), true), &taken), split(Some("y")));
        let mut shadow = route("a", Some("x"), true);
        shadow.status.as_mut().unwrap().traffic[0].percent = None;
        assert!(without(&shadow, &taken).is_empty());
    }
}
