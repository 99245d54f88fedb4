//! `config-defaults`. Source: knative/serving pkg/apis/config/defaults.go.

use std::collections::BTreeMap;

use super::{ConfigError, Reader};
use crate::{names, quantity, start_timeout};

pub(super) const MAP: &str = "config-defaults";

/// Defaults of a Revision's fields, and their bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultsConfig {
    /// `timeoutSeconds`.
    pub revision_timeout_s: i64,
    /// Largest `timeoutSeconds` that is allowed.
    pub max_revision_timeout_s: i64,
    /// `responseStartTimeoutSeconds`; set only when below the timeout.
    pub response_start_timeout_s: i64,
    /// `idleTimeoutSeconds`; 0 leaves it unset.
    pub idle_timeout_s: i64,
    /// `containerConcurrency`.
    pub container_concurrency: i64,
    /// Largest `containerConcurrency` that is allowed.
    pub container_concurrency_max: i64,
    /// Whether `containerConcurrency: 0` (no limit) is allowed.
    pub allow_container_concurrency_zero: bool,
    /// Name of an unnamed container.
    pub container_name: String,
    /// Name of an unnamed init container.
    pub init_container_name: String,
    /// `enableServiceLinks` of a new object that leaves it out; `None` leaves it to Kubernetes.
    pub enable_service_links: Option<bool>,
    /// `resources.requests` of a container that leaves them out, by resource.
    pub requests: BTreeMap<&'static str, String>,
    /// `resources.limits`, likewise.
    pub limits: BTreeMap<&'static str, String>,
    /// The start timeout of Revisions to come that name none, as [`start_timeout`] has it; empty for
    /// none.
    pub start_timeout: String,
}

impl Default for DefaultsConfig {
    fn default() -> Self {
        Self {
            revision_timeout_s: 300,
            max_revision_timeout_s: 600,
            response_start_timeout_s: 300,
            idle_timeout_s: 0,
            container_concurrency: 0,
            container_concurrency_max: 1000,
            allow_container_concurrency_zero: true,
            container_name: names::DEFAULT_CONTAINER.to_owned(),
            init_container_name: names::DEFAULT_INIT_CONTAINER.to_owned(),
            enable_service_links: Some(false),
            requests: BTreeMap::new(),
            limits: BTreeMap::new(),
            start_timeout: String::new(),
        }
    }
}

impl DefaultsConfig {
    pub(super) fn parse(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let read = Reader { map: MAP, data };
        let mut config = Self::default();
        read.set("revision-timeout-seconds", &mut config.revision_timeout_s)?;
        config.response_start_timeout_s = config.revision_timeout_s;
        read.set("max-revision-timeout-seconds", &mut config.max_revision_timeout_s)?;
        read.set("revision-response-start-timeout-seconds", &mut config.response_start_timeout_s)?;
        read.set("revision-idle-timeout-seconds", &mut config.idle_timeout_s)?;
        read.set("container-concurrency", &mut config.container_concurrency)?;
        read.set("container-concurrency-max-limit", &mut config.container_concurrency_max)?;
        read.set("allow-container-concurrency-zero", &mut config.allow_container_concurrency_zero)?;
        let name = |key, text: Option<&str>, into: &mut String| {
            let Some(text) = text else { return Ok(()) };
            text.clone_into(into);
            read.require(
                !text.contains("{{"),
                key,
                "templates are not supported; give a plain name",
            )
        };
        name(
            "container-name-template",
            read.text("container-name-template"),
            &mut config.container_name,
        )?;
        name(
            "init-container-name-template",
            read.text("init-container-name-template"),
            &mut config.init_container_name,
        )?;
        config.resources(&read)?;
        if let Some(links) = read.text("enable-service-links") {
            let is = |word| links.eq_ignore_ascii_case(word);
            // What is left to Kubernetes has no value of its own.
            config.enable_service_links = (!is("default")).then(|| is("true"));
            read.require(
                is("true") || is("false") || is("default"),
                "enable-service-links",
                "must be true, false or default",
            )?;
        }
        read.set("start-timeout", &mut config.start_timeout)?;
        start_timeout::parse(&config.start_timeout)
            .map_err(|problem| read.error("start-timeout", problem.to_string()))?;
        read.require(
            config.revision_timeout_s <= config.max_revision_timeout_s,
            "revision-timeout-seconds",
            "must not exceed max-revision-timeout-seconds",
        )?;
        read.require(
            config.container_concurrency_max >= 1,
            "container-concurrency-max-limit",
            "must be 1 or more",
        )?;
        read.require(
            (0..=config.container_concurrency_max).contains(&config.container_concurrency),
            "container-concurrency",
            "must be 0 to container-concurrency-max-limit",
        )?;
        Ok(config)
    }

    fn resources(&mut self, read: &Reader<'_>) -> Result<(), ConfigError> {
        for (resource, request, limit) in [
            (
                "cpu",
                ("revision-cpu-request", read.text("revision-cpu-request")),
                ("revision-cpu-limit", read.text("revision-cpu-limit")),
            ),
            (
                "memory",
                ("revision-memory-request", read.text("revision-memory-request")),
                ("revision-memory-limit", read.text("revision-memory-limit")),
            ),
            (
                "ephemeral-storage",
                (
                    "revision-ephemeral-storage-request",
                    read.text("revision-ephemeral-storage-request"),
                ),
                ("revision-ephemeral-storage-limit", read.text("revision-ephemeral-storage-limit")),
            ),
        ] {
            for (into, (key, text)) in [(&mut self.requests, request), (&mut self.limits, limit)] {
                let Some(text) = text else { continue };
                let is_amount = quantity::number(text).is_some_and(|number| number >= 0.0);
                read.require(is_amount, key, "must be a quantity such as 100m or 1Gi")?;
                into.insert(resource, text.to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &str, value: &str) -> Result<DefaultsConfig, ConfigError> {
        DefaultsConfig::parse(&[(key.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn service_links_have_three_states() {
        let links = |text| parse("enable-service-links", text).unwrap().enable_service_links;
        assert_eq!(links("True"), Some(true));
        assert_eq!(links("false"), Some(false));
        assert_eq!(links("default"), None);
        assert!(parse("enable-service-links", "yes").is_err());
        assert_eq!(DefaultsConfig::default().enable_service_links, Some(false));
    }

    #[test]
    fn a_resource_is_an_amount_of_something() {
        assert!(parse("revision-cpu-limit", "1500m").is_ok());
        for wrong in ["much", "-1", "1 Gi"] {
            let error = parse("revision-memory-request", wrong).unwrap_err().to_string();
            assert_eq!(
                error,
                "ConfigMap config-defaults: revision-memory-request: must be a quantity such as 100m \
                 or 1Gi"
            );
        }
    }

    #[test]
    fn a_name_is_no_template() {
        for key in ["container-name-template", "init-container-name-template"] {
            assert!(parse(key, "{{.Name}}").is_err());
            assert!(parse(key, "model").is_ok());
        }
    }
}
