//! `config-defaults`. Source: knative/serving pkg/apis/config/defaults.go.

use std::collections::BTreeMap;

use super::{ConfigError, Reader};
use crate::{names, start_timeout};

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
        if let Some(name) = read.text("container-name-template") {
            read.require(
                !name.contains("{{"),
                "container-name-template",
                "templates are not supported; give a plain name",
            )?;
            name.clone_into(&mut config.container_name);
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
}
