//! Which Route claims which host, so that a change of one Route costs no more than its own hosts, and
//! the claims to the names of its models, however many other Routes there are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ebb_api::report::RevisionKey;

use super::facts::{Address, Key, RouteFacts};
use super::models::Offer;
use super::split::Split;
use super::table::{Entry, RouteTable, Tags};

/// All Routes, every claim of theirs, and the table that follows from them.
///
/// When a host has several claims, the first by namespace, name and order in the Route gets it, so
/// that all activators agree; when that claim goes, the next one gets the host.
#[derive(Debug)]
pub struct RouteClaims<T> {
    routes: HashMap<Arc<Key>, RouteFacts>,
    claims: HashMap<Arc<str>, Vec<Claim<T>>>,
    table: RouteTable<T>,
    cluster_domain: String,
}

/// One claim; the claims of a host are sorted by Route and order.
#[derive(Debug)]
struct Claim<T> {
    route: Arc<Key>,
    order: usize,
    entry: Entry<T>,
}

// === impl RouteClaims ===

impl<T> RouteClaims<T> {
    /// No Routes, in a cluster of that domain.
    pub fn new(cluster_domain: String) -> Self {
        Self {
            routes: HashMap::new(),
            claims: HashMap::new(),
            table: RouteTable::default(),
            cluster_domain,
        }
    }

    /// The table of this moment; later changes leave it as it is.
    pub fn table(&self) -> RouteTable<T> {
        self.table.clone()
    }

    /// Takes a new or changed Route; false when that changes nothing.
    pub fn set(&mut self, facts: RouteFacts, resolve: &mut impl FnMut(&RevisionKey) -> T) -> bool {
        let (namespace, name) = facts.key();
        let key = (namespace.to_owned(), name.to_owned());
        if self.routes.get(&key) == Some(&facts) {
            return false;
        }
        let key = Arc::new(key);
        let mut touched = self.retract(&key);
        let (created_s, trouble) = facts.standing();
        let mut offer = Offer {
            route: Arc::clone(&key),
            created_s,
            main: None,
            tags: Vec::new(),
            is_public: facts.is_public(&self.cluster_domain),
            trouble,
        };
        let mut ways = Vec::new();
        let mut tags = Tags::new();
        for Address { tag, hosts, shares } in facts.addresses(&self.cluster_domain) {
            let targets = shares.iter().map(|(percent, key)| (*percent, resolve(key)));
            let Some(split) = Split::of(targets).map(Arc::new) else {
                continue;
            };
            let is_public = hosts.iter().any(|(_, is_public)| *is_public);
            if let Some(tag) = &tag {
                tags.insert(tag.clone(), (Arc::clone(&split), is_public));
            }
            offer.add(tag.clone(), &split, is_public);
            ways.push((tag, hosts, split));
        }
        let tags = (!tags.is_empty()).then(|| Arc::new(tags));
        for (order, (tag, hosts, split)) in ways.into_iter().enumerate() {
            let tags = tags.as_ref().filter(|_| tag.is_none());
            for (host, is_public) in hosts {
                let host: Arc<str> = host.into();
                let (split, tags) = (Arc::clone(&split), tags.cloned());
                let entry = Entry { split, is_public, tags };
                let claim = Claim { route: Arc::clone(&key), order, entry };
                let claims = self.claims.entry(Arc::clone(&host)).or_default();
                let place = claims.partition_point(|other| {
                    (&other.route, other.order) <= (&claim.route, claim.order)
                });
                claims.insert(place, claim);
                touched.insert(host);
            }
        }
        self.table.models.insert(&facts, offer);
        self.routes.insert(key, facts);
        self.refresh(touched);
        true
    }

    /// Takes a Route away; false when there was none.
    pub fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let touched = self.retract(&key);
        self.refresh(touched);
        self.routes.remove(&key).is_some()
    }

    /// Takes the list of all Routes there are; false when that changes nothing.
    pub fn replace(
        &mut self,
        all: Vec<RouteFacts>,
        resolve: &mut impl FnMut(&RevisionKey) -> T,
    ) -> bool {
        let listed: HashSet<_> = all.iter().map(RouteFacts::key).collect();
        let gone: Vec<Arc<Key>> = self
            .routes
            .keys()
            .filter(|key| !listed.contains(&(key.0.as_str(), key.1.as_str())))
            .cloned()
            .collect();
        let mut changed = false;
        for key in gone {
            changed |= self.remove(&key.0, &key.1);
        }
        for facts in all {
            changed |= self.set(facts, resolve);
        }
        changed
    }

    /// Takes another cluster domain; false when it is the same.
    pub fn set_cluster_domain(
        &mut self,
        domain: &str,
        resolve: &mut impl FnMut(&RevisionKey) -> T,
    ) -> bool {
        if self.cluster_domain == domain {
            return false;
        }
        let routes = std::mem::take(&mut self.routes);
        *self = Self::new(domain.to_owned());
        for facts in routes.into_values() {
            self.set(facts, resolve);
        }
        true
    }

    /// Takes back all claims of a Route, and returns their hosts.
    fn retract(&mut self, key: &Key) -> HashSet<Arc<str>> {
        let mut touched = HashSet::new();
        let Some(facts) = self.routes.get(key) else {
            return touched;
        };
        self.table.models.remove(facts, key);
        for (host, _) in facts.addresses(&self.cluster_domain).into_iter().flat_map(|a| a.hosts) {
            if let Some(claims) = self.claims.get_mut(host.as_str()) {
                claims.retain(|claim| *claim.route != *key);
                touched.insert(host.into());
            }
        }
        touched
    }

    /// Puts the first claim of each host into the table, and takes out hosts without a claim.
    fn refresh(&mut self, hosts: HashSet<Arc<str>>) {
        for host in hosts {
            match self.claims.get(&host).map(|claims| claims.first()) {
                Some(Some(claim)) => {
                    self.table.hosts.insert_mut(host, claim.entry.clone());
                }
                Some(None) => {
                    self.claims.remove(&host);
                    self.table.hosts.remove_mut(&host);
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use ebb_api::models::MODELS;
    use ebb_api::serving::{Route, RouteSpec, RouteStatus, TrafficTarget};
    use proptest::prelude::*;

    use super::*;
    use crate::route::Door;

    /// The Route `name`, whose traffic goes to `revision`, and whose tag gives it a host that may
    /// be another's.
    fn facts(name: &str, revision: &str, tag: Option<&str>) -> RouteFacts {
        let mut route = Route::new(name, RouteSpec::default());
        route.metadata.namespace = Some("default".to_owned());
        let models = format!("{revision}, shared, of-{name}=shared");
        route.metadata.annotations = Some([(MODELS.name().to_owned(), models)].into());
        route.status = Some(RouteStatus {
            url: Some(format!("http://{name}.default.example.com")),
            traffic: vec![TrafficTarget {
                revision_name: Some(revision.to_owned()),
                percent: Some(100),
                tag: tag.map(str::to_owned),
                url: tag.map(|tag| format!("http://{tag}-{name}.default.example.com")),
                ..TrafficTarget::default()
            }],
            ..RouteStatus::default()
        });
        RouteFacts::of(&route).unwrap()
    }

    fn claims() -> RouteClaims<String> {
        RouteClaims::new("cluster.local".to_owned())
    }

    fn named(key: &RevisionKey) -> String {
        key.name.clone()
    }

    /// Growth: ten thousand Routes made one by one are ten thousand times the work of one.
    #[test]
    fn a_route_costs_its_own_hosts_alone() {
        let (mut claims, resolved) = (claims(), Cell::new(0));
        let mut resolve = |key: &RevisionKey| {
            resolved.set(resolved.get() + 1);
            named(key)
        };
        for number in 0..1000 {
            let name = format!("r{number}");
            assert!(claims.set(facts(&name, "one", None), &mut resolve));
            assert!(!claims.set(facts(&name, "one", None), &mut resolve), "nothing new");
        }
        assert_eq!((resolved.get(), claims.table().len()), (1000, 4000));
    }

    #[test]
    fn a_table_that_was_taken_stays_as_it_is() {
        let mut claims = claims();
        claims.set(facts("a", "one", None), &mut named);
        let before = claims.table();
        claims.set(facts("a", "two", None), &mut named);
        let picked = |table: &RouteTable<String>| {
            table.pick("a.default", Door::Inner, None, 0).cloned().unwrap()
        };
        assert_eq!((picked(&before), picked(&claims.table())), ("one".into(), "two".into()));
        assert!(claims.remove("default", "a") && !claims.remove("default", "a"));
        assert!(claims.table().is_empty() && claims.claims.is_empty() && !before.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Set(usize, u8, Option<usize>),
        Remove(usize),
        Replace(Vec<(usize, u8, Option<usize>)>),
        Domain(bool),
    }

    /// `a` with the tag `b` claims the hosts of `b-a`, and so does `b-a` itself.
    const NAMES: [&str; 6] = ["a", "b", "a-a", "a-b", "b-a", "b-b"];

    fn step() -> impl Strategy<Value = Step> {
        let route = || (0..NAMES.len(), 0_u8..3, proptest::option::of(0_usize..2));
        prop_oneof![
            6 => route().prop_map(|(name, revision, tag)| Step::Set(name, revision, tag)),
            3 => (0..NAMES.len()).prop_map(Step::Remove),
            1 => proptest::collection::vec(route(), 0..6).prop_map(Step::Replace),
            1 => any::<bool>().prop_map(Step::Domain),
        ]
    }

    proptest! {
        #[test]
        fn changes_one_by_one_lead_where_a_new_start_leads(
            steps in proptest::collection::vec(step(), 0..40),
        ) {
            let mut claims = claims();
            let mut all = std::collections::BTreeMap::new();
            let of = |(name, revision, tag): (usize, u8, Option<usize>)| {
                facts(NAMES[name], &format!("r{revision}"), tag.map(|tag| NAMES[tag]))
            };
            let mut domain = "cluster.local";
            for step in steps {
                match step {
                    Step::Set(name, revision, tag) => {
                        claims.set(of((name, revision, tag)), &mut named);
                        all.insert(name, of((name, revision, tag)));
                    }
                    Step::Remove(name) => {
                        claims.remove("default", NAMES[name]);
                        all.remove(&name);
                    }
                    Step::Replace(routes) => {
                        all = routes.into_iter().map(|route| (route.0, of(route))).collect();
                        claims.replace(all.values().cloned().collect(), &mut named);
                    }
                    Step::Domain(other) => {
                        domain = if other { "other.local" } else { "cluster.local" };
                        claims.set_cluster_domain(domain, &mut named);
                    }
                }
            }
            let mut fresh = RouteClaims::new(domain.to_owned());
            // In any order: it must make no difference.
            for facts in all.into_values().rev() {
                fresh.set(facts, &mut named);
            }
            let (table, want) = (claims.table(), fresh.table());
            prop_assert_eq!(table.len(), want.len());
            for host in fresh.claims.keys() {
                for door in [Door::Outer, Door::Inner] {
                    for tag in [None, Some("a"), Some("b")] {
                        let pick = |table: &'_ RouteTable<String>| {
                            table.pick(host, door, tag, 0).cloned()
                        };
                        prop_assert_eq!(pick(&table), pick(&want));
                    }
                }
            }
            for door in [Door::Outer, Door::Inner] {
                let (listed, wanted) = (table.models().list(door, 100, |_| true), want.models().list(door, 100, |_| true));
                prop_assert_eq!(&listed, &wanted);
                for model in wanted.0 {
                    let pick = |table: &'_ RouteTable<String>| {
                        table.models().pick(&model.id, door, 0).unwrap().target.ok().cloned()
                    };
                    prop_assert_eq!(pick(&table), pick(&want));
                }
            }
        }
    }
}
