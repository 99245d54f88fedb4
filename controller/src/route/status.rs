//! The status of a Route. Reasons and texts: knative/serving
//! pkg/apis/serving/v1/route_lifecycle.go.

use std::collections::BTreeSet;

use ebb_api::config::NetworkConfig;
use ebb_api::serving::{Addressable, Route, RouteStatus, TrafficTarget};
use ebb_api::{labels, names};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::claims;
use super::rollout::{ROLLOUT, Rolled};
use super::traffic::Problem;
use crate::settling::{self, News};

const ASSIGNED: &str = RouteStatus::ALL_TRAFFIC_ASSIGNED;
const INGRESS: &str = RouteStatus::INGRESS_READY;
const CERTIFICATE: &str = RouteStatus::CERTIFICATE_PROVISIONED;

/// Whether the gateway can serve the Route inside the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gateway {
    /// The gateway can serve the Route.
    Serving,
    /// Another core/v1 Service has this name.
    NameTaken(String),
    /// A core/v1 Service is refused, for this reason.
    Refused(String),
    /// Another Route has these hosts, so the split cannot be put in force.
    HostsTaken(Vec<String>),
}

/// What is known of a Route's hosts.
#[derive(Debug)]
pub(super) struct Hosts {
    /// What the gateway can do.
    pub(super) gateway: Gateway,
    /// Names of hosts that the outer door does not know though it knows the Route.
    pub(super) hidden: BTreeSet<String>,
}

/// The status that follows from the split that is to be in force.
pub(super) fn of(
    route: &Route,
    split: Result<Rolled, Problem>,
    hosts: Hosts,
    network: &NetworkConfig,
    now: Timestamp,
) -> RouteStatus {
    let Hosts { gateway, hidden } = hosts;
    let mut status = route.status.clone().unwrap_or_default();
    let mut list = std::mem::take(&mut status.conditions);
    let mut conditions = RouteStatus::CONDITIONS.manage(&mut list, now);
    conditions.initialize();
    let namespace = route.namespace().unwrap_or_default();
    status.observed_generation = route.metadata.generation;
    status.address =
        Some(Addressable { url: Some(network.cluster_local_url(&route.name_any(), &namespace)) });
    // The gateway handles certificates; Knative reports the same while its own are switched off.
    let why = if labels::is_cluster_local(route.labels()) {
        "TLS is not enabled for cluster-local"
    } else {
        "external-domain-tls is not enabled"
    };
    conditions.mark_true_because(CERTIFICATE, "TLSNotEnabled", why);
    let own = url(route, &route.name_any(), &hidden, network);
    if let Ok(own) = &own {
        status.url = Some(own.clone());
    }
    let split = split.and_then(|rolled| own.and(Ok(rolled)));
    // What stays in force may have been hidden meanwhile, or have another domain.
    let kept = |traffic: Vec<TrafficTarget>| {
        let rolled = Rolled { traffic: traffic.clone(), note: None, next: None };
        let addressed = with_urls(route, rolled, &hidden, network);
        addressed.map_or(traffic, |rolled| rolled.traffic)
    };
    match split.and_then(|rolled| with_urls(route, rolled, &hidden, network)) {
        Ok(Rolled { traffic, note, .. }) => {
            conditions.mark_true(ASSIGNED);
            if note.is_some() {
                let why = "A gradual rollout of the latest revision(s) is in progress.";
                conditions.mark_unknown(INGRESS, "RolloutInProgress", why);
            } else {
                conditions.mark_true(INGRESS);
            }
            if let Gateway::HostsTaken(taken) = &gateway {
                status.traffic = kept(claims::without(route, taken));
            } else {
                status.traffic = traffic;
                status.annotations.remove(ROLLOUT);
                status.annotations.extend(note.map(|note| (ROLLOUT.to_owned(), note)));
            }
        }
        Err(problem) => {
            status.traffic = kept(std::mem::take(&mut status.traffic));
            let Problem { failed, reason, message } = problem;
            if failed {
                conditions.mark_false(ASSIGNED, reason, &message);
            } else {
                conditions.mark_unknown(ASSIGNED, reason, &message);
            }
        }
    }
    let taken = match gateway {
        Gateway::Serving => None,
        Gateway::Refused(why) => {
            conditions.mark_false(INGRESS, "PlaceholderRefused", &why);
            None
        }
        Gateway::NameTaken(name) => Some(name),
        Gateway::HostsTaken(names) => names.into_iter().next(),
    };
    if let Some(name) = taken {
        let text = format!("There is an existing placeholder Service {name:?} that we do not own.");
        conditions.mark_false(INGRESS, "NotOwned", &text);
    }
    status.conditions = list;
    status
}

/// How urgent the change from `old` to `new` is.
pub(super) fn news(old: &RouteStatus, new: &RouteStatus) -> News {
    if old == new {
        return News::None;
    }
    // The activator routes by these two fields.
    let moved = old.traffic != new.traffic || (old.url.is_some() && old.url != new.url);
    if moved {
        return News::Urgent;
    }
    let generations = (old.observed_generation, new.observed_generation);
    settling::weigh(&old.conditions, &new.conditions, generations)
}

fn with_urls(
    route: &Route,
    mut rolled: Rolled,
    hidden: &BTreeSet<String>,
    network: &NetworkConfig,
) -> Result<Rolled, Problem> {
    for target in &mut rolled.traffic {
        let host = target.tag.as_ref().map(|tag| names::tag(tag, &route.name_any()));
        target.url = host.map(|host| url(route, &host, hidden, network)).transpose()?;
    }
    Ok(rolled)
}

fn url(
    route: &Route,
    name: &str,
    hidden: &BTreeSet<String>,
    network: &NetworkConfig,
) -> Result<String, Problem> {
    if labels::is_cluster_local(route.labels()) || hidden.contains(name) {
        return Ok(network.cluster_local_url(name, &route.namespace().unwrap_or_default()));
    }
    let no_host = |message| Problem { failed: true, reason: "ErrorConfig", message };
    network.url(name, &route.metadata).map_err(no_host)
}

#[cfg(test)]
mod tests {
    use ebb_api::condition::{self, Condition, READY, Status};

    use super::*;
    use crate::route::traffic::tests::{pinned, route};

    fn network() -> NetworkConfig {
        NetworkConfig { domain: "example.com".to_owned(), ..NetworkConfig::default() }
    }

    fn shown(gateway: Gateway) -> Hosts {
        Hosts { gateway, hidden: BTreeSet::new() }
    }

    fn at_once(traffic: Vec<TrafficTarget>) -> Rolled {
        Rolled { traffic, note: None, next: None }
    }

    fn of_traffic(route: &Route, resolved: Result<Vec<TrafficTarget>, Problem>) -> RouteStatus {
        let now = Timestamp::UNIX_EPOCH;
        of(route, resolved.map(at_once), shown(Gateway::Serving), &network(), now)
    }

    fn told(status: &RouteStatus, type_: &str) -> (Status, String) {
        let condition = condition::find(&status.conditions, type_).unwrap();
        (condition.status, condition.reason.clone().unwrap_or_default())
    }

    #[test]
    fn a_resolved_split_makes_it_ready_with_all_its_addresses() {
        let split = vec![pinned("digits-00001", Some(100), Some("blue"))];
        let status = of_traffic(&route(Vec::new()), Ok(split));
        assert!(status.conditions.iter().all(Condition::is_true));
        assert_eq!(told(&status, CERTIFICATE).1, "TLSNotEnabled");
        assert_eq!(status.url.as_deref(), Some("http://digits.default.example.com"));
        assert_eq!(
            status.address.and_then(|address| address.url).as_deref(),
            Some("http://digits.default.svc.cluster.local")
        );
        assert_eq!(
            status.traffic[0].url.as_deref(),
            Some("http://blue-digits.default.example.com")
        );
    }

    #[test]
    fn a_cluster_local_route_has_inner_addresses_only() {
        let mut route = route(Vec::new());
        let own = route.metadata.labels.get_or_insert_default();
        own.insert(labels::VISIBILITY.to_owned(), labels::VISIBILITY_CLUSTER_LOCAL.to_owned());
        let split = vec![pinned("digits-00001", Some(100), Some("blue"))];
        let status = of_traffic(&route, Ok(split));
        assert_eq!(status.url.as_deref(), Some("http://digits.default.svc.cluster.local"));
        assert_eq!(
            status.traffic[0].url.as_deref(),
            Some("http://blue-digits.default.svc.cluster.local")
        );
    }

    #[test]
    fn the_last_good_split_stays_in_force() {
        let mut route = route(Vec::new());
        let split = vec![pinned("digits-00001", Some(100), None)];
        let good = of_traffic(&route, Ok(split.clone()));
        route.status = Some(good.clone());
        for (failed, expected) in [(true, Status::False), (false, Status::Unknown)] {
            let problem = Problem {
                failed,
                reason: "RevisionMissing",
                message: "Revision \"digits-00002\" is not yet ready.".to_owned(),
            };
            let bad = of_traffic(&route, Err(problem));
            assert_eq!(bad.traffic, split);
            assert_eq!(told(&bad, ASSIGNED), (expected, "RevisionMissing".to_owned()));
            assert_eq!(told(&bad, READY).0, expected);
            assert_eq!(told(&bad, INGRESS).0, Status::True);
        }
        assert_eq!(news(&good, &good.clone()), News::None);
    }

    #[test]
    fn a_foreign_service_of_its_name_is_told() {
        let taken = Gateway::NameTaken("digits".to_owned());
        let now = Timestamp::UNIX_EPOCH;
        let none = || Ok(at_once(Vec::new()));
        let status = of(&route(Vec::new()), none(), shown(taken), &network(), now);
        assert_eq!(told(&status, READY), (Status::False, "NotOwned".to_owned()));
        let refused = Gateway::Refused("name is too long".to_owned());
        let status = of(&route(Vec::new()), none(), shown(refused), &network(), now);
        assert_eq!(told(&status, READY), (Status::False, "PlaceholderRefused".to_owned()));
    }

    #[test]
    fn a_hidden_tag_has_an_inner_address_and_the_others_do_not() {
        let route = route(Vec::new());
        let tagged = |tag| pinned("digits-00001", Some(50), Some(tag));
        let split = Ok(at_once(vec![tagged("blue"), tagged("green")]));
        let hidden = ["green-digits".to_owned()].into();
        let now = Timestamp::UNIX_EPOCH;
        let status =
            of(&route, split, Hosts { gateway: Gateway::Serving, hidden }, &network(), now);
        let urls: Vec<_> = status.traffic.iter().filter_map(|it| it.url.as_deref()).collect();
        let [blue, green] =
            ["blue-digits.default.example.com", "green-digits.default.svc.cluster.local"];
        assert_eq!(urls, [format!("http://{blue}"), format!("http://{green}")]);
        assert_eq!(status.url.as_deref(), Some("http://digits.default.example.com"));
    }

    /// A tag that was hidden stayed open for as long as the split could not be put in force.
    #[test]
    fn what_stays_in_force_is_hidden_all_the_same() {
        let mut route = route(Vec::new());
        let split = || vec![pinned("digits-00001", Some(100), Some("blue"))];
        route.status = Some(of_traffic(&route, Ok(split())));
        let waiting = Problem { failed: false, reason: "RevisionMissing", message: String::new() };
        let hosts = |gateway| Hosts { gateway, hidden: ["blue-digits".to_owned()].into() };
        let now = Timestamp::UNIX_EPOCH;
        let taken = Gateway::HostsTaken(vec!["other".to_owned()]);
        for status in [
            of(&route, Err(waiting), hosts(Gateway::Serving), &network(), now),
            of(&route, Ok(at_once(split())), hosts(taken), &network(), now),
        ] {
            let url = status.traffic[0].url.as_deref();
            assert_eq!(url, Some("http://blue-digits.default.svc.cluster.local"));
        }
    }

    /// A tag and a name can be too long together, each of them short enough alone.
    #[test]
    fn a_host_that_cannot_be_is_told_and_the_last_split_stays() {
        let mut route = route(Vec::new());
        let split = |tag| vec![pinned("digits-00001", Some(100), tag)];
        route.status = Some(of_traffic(&route, Ok(split(None))));
        let long = "x".repeat(60);
        let status = of_traffic(&route, Ok(split(Some(&long))));
        assert_eq!(told(&status, READY), (Status::False, "ErrorConfig".to_owned()));
        assert_eq!(status.traffic, split(None));
        let said = condition::find(&status.conditions, ASSIGNED).unwrap().message.clone();
        assert!(said.unwrap().starts_with("domain name error: invalid domain name \"xxx"));
    }

    /// A split that needs another Route's host is not put in force, and the status says why.
    #[test]
    fn a_split_with_a_host_of_another_leaves_the_last_one_in_force() {
        let mut route = route(Vec::new());
        let split = |tag| vec![pinned("digits-00001", Some(100), tag)];
        route.status = Some(of_traffic(&route, Ok(split(None))));
        let taken = Gateway::HostsTaken(vec!["blue-digits".to_owned()]);
        let asked = Ok(at_once(split(Some("blue"))));
        let now = Timestamp::UNIX_EPOCH;
        let status = of(&route, asked, shown(taken), &network(), now);
        assert_eq!(status.traffic, split(None));
        assert_eq!(told(&status, READY), (Status::False, "NotOwned".to_owned()));
        let said = condition::find(&status.conditions, INGRESS).unwrap();
        assert_eq!(
            said.message.as_deref(),
            Some("There is an existing placeholder Service \"blue-digits\" that we do not own.")
        );
    }

    #[test]
    fn a_rollout_keeps_it_from_being_ready_until_it_is_done() {
        let rolled = Rolled { note: Some("{}".to_owned()), ..at_once(Vec::new()) };
        let mut route = route(Vec::new());
        let now = Timestamp::UNIX_EPOCH;
        let status = of(&route, Ok(rolled), shown(Gateway::Serving), &network(), now);
        assert_eq!(told(&status, READY), (Status::Unknown, "RolloutInProgress".to_owned()));
        assert_eq!(status.annotations[ROLLOUT], "{}");
        route.status = Some(status);
        let status = of_traffic(&route, Ok(Vec::new()));
        assert_eq!(told(&status, READY).0, Status::True);
        assert!(status.annotations.is_empty());
    }

    #[test]
    fn a_moved_split_is_urgent_and_a_first_address_is_not() {
        let waiting = Problem { failed: false, reason: "RevisionMissing", message: String::new() };
        let first = of_traffic(&route(Vec::new()), Err(waiting));
        assert_eq!(news(&RouteStatus::default(), &first), News::Progress);
        let split = vec![pinned("digits-00001", Some(100), None)];
        let moved = of_traffic(&route(Vec::new()), Ok(split));
        assert_eq!(news(&first, &moved), News::Urgent);
    }
}
