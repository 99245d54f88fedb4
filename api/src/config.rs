//! Settings of the platform: Knative's ConfigMaps with Knative's keys and defaults, and Ebb's
//! `config-models`.
//!
//! Each section is one ConfigMap in the system namespace. A key that is absent has its default. An
//! unknown key is ignored, as in Knative: its ConfigMaps carry keys for features that Ebb does not
//! have.

use std::collections::BTreeMap;
use std::time::Duration;

mod autoscaler;
mod defaults;
mod deployment;
mod features;
mod gc;
mod models;
mod network;

pub use autoscaler::AutoscalerConfig;
pub use defaults::DefaultsConfig;
pub use deployment::DeploymentConfig;
pub use features::{Feature, FeaturesConfig, Flag};
pub use gc::GcConfig;
pub use models::ModelsConfig;
pub use network::NetworkConfig;

/// Namespace that the ConfigMaps live in.
pub const SYSTEM_NAMESPACE: &str = "knative-serving";

/// All settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `config-autoscaler`.
    pub autoscaler: AutoscalerConfig,
    /// `config-defaults`.
    pub defaults: DefaultsConfig,
    /// `config-deployment`.
    pub deployment: DeploymentConfig,
    /// `config-features`.
    pub features: FeaturesConfig,
    /// `config-gc`.
    pub gc: GcConfig,
    /// `config-models`.
    pub models: ModelsConfig,
    /// `config-domain` and `config-network`.
    pub network: NetworkConfig,
}

/// A ConfigMap that cannot be used; the last good settings stay in force.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("ConfigMap {map}: {key}: {problem}")]
pub struct ConfigError {
    /// Name of the ConfigMap.
    pub map: &'static str,
    /// The offending key.
    pub key: String,
    /// What is wrong with the value, and what would be right.
    pub problem: String,
}

impl Config {
    /// These settings with the ConfigMap `name` applied; a map of another name changes nothing.
    pub fn with_map(
        &self,
        name: &str,
        data: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut config = self.clone();
        match name {
            autoscaler::MAP => config.autoscaler = AutoscalerConfig::parse(&self.autoscaler, data)?,
            defaults::MAP => config.defaults = DefaultsConfig::parse(data)?,
            deployment::MAP => config.deployment = DeploymentConfig::parse(data)?,
            features::MAP => config.features = FeaturesConfig::parse(data)?,
            gc::MAP => config.gc = GcConfig::parse(data)?,
            models::MAP => config.models = ModelsConfig::parse(data)?,
            network::DOMAIN_MAP => config.network.parse_domain(data)?,
            network::MAP => config.network.parse_network(data)?,
            _ => {}
        }
        Ok(config)
    }

    /// These settings where the map called `name` is there and could never be read.
    #[must_use]
    pub fn without_map(mut self, name: &str) -> Self {
        match name {
            models::MAP => self.models.is_unreadable = true,
            // What was to be kept is not known, and what is deleted does not come back.
            gc::MAP => self.gc = GcConfig::keep_all(),
            _ => {}
        }
        self
    }
}

/// Reads the keys of one ConfigMap, naming map and key in every error.
struct Reader<'a> {
    map: &'static str,
    data: &'a BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        self.data.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError { map: self.map, key: key.to_owned(), problem: problem.into() }
    }

    fn set<T: std::str::FromStr>(&self, key: &str, into: &mut T) -> Result<(), ConfigError> {
        if let Some(text) = self.text(key) {
            *into = text
                .parse()
                .map_err(|_| self.error(key, format!("{text:?} is not a valid value")))?;
        }
        Ok(())
    }

    fn set_duration(&self, key: &str, into: &mut Duration) -> Result<(), ConfigError> {
        if let Some(text) = self.text(key) {
            *into = crate::duration::parse(text).ok_or_else(|| {
                self.error(key, format!("{text:?} is not a duration such as 30s or 1m"))
            })?;
        }
        Ok(())
    }

    /// Fails with `problem` unless the condition holds.
    fn require(&self, holds: bool, key: &str, problem: &str) -> Result<(), ConfigError> {
        if holds { Ok(()) } else { Err(self.error(key, problem)) }
    }
}
