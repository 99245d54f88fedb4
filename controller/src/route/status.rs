//! The status of a Route. Reasons and texts: knative/serving
//! pkg/apis/serving/v1/route_lifecycle.go.

use ebb_api::config::NetworkConfig;
use ebb_api::serving::{Addressable, Route, RouteStatus, TrafficTarget};
use ebb_api::{labels, names};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::claims;
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
    /// Another core/v1 Service has the name.
    NameTaken,
    /// Another Route has these hosts, so the split cannot be put in force.
    HostsTaken(Vec<String>),
}

/// The status that follows from the resolved split.
pub(super) fn of(
    route: &Route,
    resolved: Result<Vec<TrafficTarget>, Problem>,
    gateway: Gateway,
    network: &NetworkConfig,
    now: Timestamp,
) -> RouteStatus {
    let mut status = route.status.clone().unwrap_or_default();
    let mut list = std::mem::take(&mut status.conditions);
    let mut conditions = RouteStatus::CONDITIONS.manage(&mut list, now);
    conditions.initialize();
    let namespace = route.namespace().unwrap_or_default();
    status.observed_generation = route.metadata.generation;
    status.url = Some(url(route, &route.name_any(), network));
    status.address =
        Some(Addressable { url: Some(network.cluster_local_url(&route.name_any(), &namespace)) });
    // The gateway handles certificates; Knative reports the same while its own are switched off.
    let why = if is_cluster_local(route) {
        "TLS is not enabled for cluster-local"
    } else {
        "external-domain-tls is not enabled"
    };
    conditions.mark_true_because(CERTIFICATE, "TLSNotEnabled", why);
    match resolved {
        Ok(traffic) => {
            status.traffic = match &gateway {
                Gateway::HostsTaken(taken) => claims::without(route, taken),
                Gateway::Serving | Gateway::NameTaken => with_urls(route, traffic, network),
            };
            conditions.mark_true(ASSIGNED);
            conditions.mark_true(INGRESS);
        }
        Err(Problem { failed, reason, message }) if failed => {
            conditions.mark_false(ASSIGNED, reason, &message);
        }
        Err(problem) => conditions.mark_unknown(ASSIGNED, problem.reason, &problem.message),
    }
    let taken = match gateway {
        Gateway::Serving => None,
        Gateway::NameTaken => Some(route.name_any()),
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
    mut traffic: Vec<TrafficTarget>,
    network: &NetworkConfig,
) -> Vec<TrafficTarget> {
    for target in &mut traffic {
        target.url =
            target.tag.as_ref().map(|tag| url(route, &names::tag(tag, &route.name_any()), network));
    }
    traffic
}

fn url(route: &Route, name: &str, network: &NetworkConfig) -> String {
    let namespace = route.namespace().unwrap_or_default();
    if is_cluster_local(route) {
        network.cluster_local_url(name, &namespace)
    } else {
        network.url(name, &namespace)
    }
}

fn is_cluster_local(route: &Route) -> bool {
    route.labels().get(labels::VISIBILITY).map(String::as_str)
        == Some(labels::VISIBILITY_CLUSTER_LOCAL)
}

#[cfg(test)]
mod tests {
    use ebb_api::condition::{self, Condition, READY, Status};

    use super::*;
    use crate::route::traffic::tests::{pinned, route};

    fn network() -> NetworkConfig {
        NetworkConfig { domain: "example.com".to_owned(), ..NetworkConfig::default() }
    }

    fn of_traffic(route: &Route, resolved: Result<Vec<TrafficTarget>, Problem>) -> RouteStatus {
        let now = Timestamp::UNIX_EPOCH;
        of(route, resolved, Gateway::Serving, &network(), now)
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
        let taken = Gateway::NameTaken;
        let now = Timestamp::UNIX_EPOCH;
        let status = of(&route(Vec::new()), Ok(Vec::new()), taken, &network(), now);
        assert_eq!(told(&status, READY), (Status::False, "NotOwned".to_owned()));
    }

    /// A split that needs another Route's host is not put in force, and the status says why.
    #[test]
    fn a_split_with_a_host_of_another_leaves_the_last_one_in_force() {
        let mut route = route(Vec::new());
        let split = |tag| vec![pinned("digits-00001", Some(100), tag)];
        route.status = Some(of_traffic(&route, Ok(split(None))));
        let taken = Gateway::HostsTaken(vec!["blue-digits".to_owned()]);
        let asked = Ok(split(Some("blue")));
        let status = of(&route, asked, taken, &network(), Timestamp::UNIX_EPOCH);
        assert_eq!(status.traffic, split(None));
        assert_eq!(told(&status, READY), (Status::False, "NotOwned".to_owned()));
        let said = condition::find(&status.conditions, INGRESS).unwrap();
        assert_eq!(
            said.message.as_deref(),
            Some("There is an existing placeholder Service \"blue-digits\" that we do not own.")
        );
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
