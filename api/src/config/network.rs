//! `config-domain` and `config-network`.

use std::collections::BTreeMap;

use super::{ConfigError, Reader};
use crate::names;

pub(super) const DOMAIN_MAP: &str = "config-domain";
pub(super) const MAP: &str = "config-network";

/// Hosts and URLs of routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Domain of external hosts, `name.namespace.DOMAIN`. The domain may carry a port, which then
    /// stands in URLs only: a gateway that does not listen on 80 still gets addresses that work.
    pub domain: String,
    /// Domain of the cluster's own names.
    pub cluster_domain: String,
    /// `http` or `https`, for URLs.
    pub scheme: String,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            // Knative's own default, under which nothing is reachable from outside.
            domain: "svc.cluster.local".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            scheme: "http".to_owned(),
        }
    }
}

impl NetworkConfig {
    /// The external host of a route or tag, with the port if the domain has one.
    pub fn host(&self, name: &str, namespace: &str) -> String {
        format!("{name}.{namespace}.{}", self.domain)
    }

    /// The external URL of a route or tag.
    pub fn url(&self, name: &str, namespace: &str) -> String {
        format!("{}://{}", self.scheme, self.host(name, namespace))
    }

    /// The URL inside the cluster.
    pub fn cluster_local_url(&self, name: &str, namespace: &str) -> String {
        let [_, _, host] = names::cluster_local_hosts(name, namespace, &self.cluster_domain);
        format!("http://{host}")
    }

    pub(super) fn parse_domain(
        &mut self,
        data: &BTreeMap<String, String>,
    ) -> Result<(), ConfigError> {
        let read = Reader { map: DOMAIN_MAP, data };
        let mut domains = data.iter().filter(|(key, _)| !key.starts_with('_'));
        let Some((domain, selector)) = domains.next() else {
            return Ok(());
        };
        read.require(
            selector.trim().is_empty(),
            domain,
            "selectors are not supported; leave the value empty",
        )?;
        if let Some((second, _)) = domains.next() {
            return Err(read.error(second, "only one domain is supported"));
        }
        domain.clone_into(&mut self.domain);
        Ok(())
    }

    pub(super) fn parse_network(
        &mut self,
        data: &BTreeMap<String, String>,
    ) -> Result<(), ConfigError> {
        let read = Reader { map: MAP, data };
        if let Some(scheme) = read.text("default-external-scheme") {
            read.require(
                matches!(scheme, "http" | "https"),
                "default-external-scheme",
                "must be http or https",
            )?;
            scheme.clone_into(&mut self.scheme);
        }
        Ok(())
    }
}
