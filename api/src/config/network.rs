//! `config-domain` and `config-network`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{ConfigError, Reader};
use crate::host_template::{HostFields, HostTemplate};
use crate::names;

pub(super) const DOMAIN_MAP: &str = "config-domain";
pub(super) const MAP: &str = "config-network";

/// Most domains: each Route is compared with all of them.
const DOMAINS_MAX: usize = 64;
/// The only hosts of tags that there are.
const TAG_TEMPLATE: &str = "{{.Tag}}-{{.Name}}";

/// Hosts and URLs of routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Domain of external hosts, `name.namespace.DOMAIN`, of Routes that no selector fits. The domain may
    /// carry a port, which then stands in URLs only: a gateway that does not listen on 80 still gets
    /// addresses that work.
    pub domain: String,
    /// Further domains, for Routes with all these labels.
    pub selected_domains: BTreeMap<String, BTreeMap<String, String>>,
    /// How external hosts are made.
    pub host_template: HostTemplate,
    /// Domain of the cluster's own names.
    pub cluster_domain: String,
    /// `http` or `https`, for URLs.
    pub scheme: String,
    /// How long requests take to move to a new Revision; zero if they move at once.
    pub rollout_duration: Duration,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            // Knative's own default, under which nothing is reachable from outside.
            domain: "svc.cluster.local".to_owned(),
            selected_domains: BTreeMap::new(),
            host_template: HostTemplate::default(),
            cluster_domain: "cluster.local".to_owned(),
            scheme: "http".to_owned(),
            rollout_duration: Duration::ZERO,
        }
    }
}

impl NetworkConfig {
    /// The domain of a Route with these labels: that whose selector has the most labels, all of them on
    /// the Route, and of several the first by name.
    fn domain_of(&self, labels: &BTreeMap<String, String>) -> &str {
        let fits = |selector: &BTreeMap<String, String>| {
            selector.iter().all(|(label, value)| labels.get(label) == Some(value))
        };
        let fitting = self.selected_domains.iter().filter(|(_, selector)| fits(selector));
        let most = fitting.min_by_key(|(_, selector)| Reverse(selector.len()));
        most.map_or(&self.domain, |(domain, _)| domain)
    }

    /// The external URL of a Route or tag of that `name`.
    ///
    /// # Errors
    ///
    /// Why its host cannot be, as one sentence in Knative's words.
    pub fn url(&self, name: &str, route: &ObjectMeta) -> Result<String, String> {
        let none = BTreeMap::new();
        let labels = route.labels.as_ref().unwrap_or(&none);
        let domain = self.domain_of(labels);
        // The port belongs to the setting alone: what fills the template may have none.
        let (domain, port) = domain.split_at(domain.find(':').unwrap_or(domain.len()));
        // Inside the cluster there are no other names.
        let usual = HostTemplate::default();
        let is_inside = domain.ends_with(&self.cluster_domain);
        let template = if is_inside { &usual } else { &self.host_template };
        let host = template.fill(HostFields {
            name,
            namespace: route.namespace.as_deref().unwrap_or_default(),
            domain,
            annotations: route.annotations.as_ref().unwrap_or(&none),
            labels,
        });
        let is_label =
            |label: &str| names::is_label(label) && label.len() <= names::LABEL_CHARS_MAX;
        if names::is_subdomain(&host) && host.split('.').all(is_label) {
            return Ok(format!("{}://{host}{port}", self.scheme));
        }
        Err(format!(
            "domain name error: invalid domain name {host:?}: each part between dots must have 1 to {} \
             characters, small letters, digits and '-', none of these at its ends",
            names::LABEL_CHARS_MAX
        ))
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
        self.selected_domains.clear();
        let domains = data.iter().filter(|(key, _)| !key.starts_with('_'));
        let mut default: Option<&String> = None;
        for (domain, text) in domains {
            let selector = selector(text).map_err(|problem| read.error(domain, problem))?;
            if selector.is_empty() {
                // The first by name, as in Knative.
                default = default.or(Some(domain));
            } else {
                self.selected_domains.insert(domain.to_ascii_lowercase(), selector);
            }
            let is_bounded = self.selected_domains.len() <= DOMAINS_MAX;
            read.require(
                is_bounded,
                domain,
                "is one too many: at most 64 domains have a selector",
            )?;
        }
        if let Some(domain) = default {
            self.domain = domain.to_ascii_lowercase();
        }
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
        self.host_template = HostTemplate::default();
        if let Some(text) = read.text("domain-template") {
            let template = HostTemplate::parse(text);
            self.host_template = template.map_err(|why| read.error("domain-template", why))?;
        }
        read.require(
            read.text("tag-template").is_none_or(|text| text == TAG_TEMPLATE),
            "tag-template",
            "must be {{.Tag}}-{{.Name}}: hosts of tags have that form always",
        )?;
        self.rollout_duration = Duration::ZERO;
        if let Some(text) = read.text("rollout-duration") {
            let seconds = text.parse::<u32>().map_err(|_| {
                read.error("rollout-duration", "must be a whole number of seconds, such as 600")
            })?;
            self.rollout_duration = Duration::from_secs(seconds.into());
        }
        Ok(())
    }
}

/// Which Routes get a domain.
#[derive(Default, Deserialize)]
struct Choice {
    #[serde(default)]
    selector: BTreeMap<String, String>,
}

fn selector(text: &str) -> Result<BTreeMap<String, String>, String> {
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let choice: Result<Choice, _> = serde_saphyr::from_str(text);
    let wanted =
        "must be empty, or YAML: `selector:` and the labels of the Routes that get the domain";
    choice.map(|choice| choice.selector).map_err(|_| wanted.to_owned())
}

#[cfg(test)]
mod tests;
