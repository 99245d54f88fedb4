//! `config-deployment`. Source: knative/serving pkg/deployment/config.go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ConfigError, Reader};

pub(super) const MAP: &str = "config-deployment";

/// Settings of the Deployments that Ebb makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentConfig {
    /// How long a revision may take to reach its initial scale.
    pub progress_deadline: Duration,
}

impl Default for DeploymentConfig {
    fn default() -> Self {
        Self { progress_deadline: Duration::from_mins(10) }
    }
}

impl DeploymentConfig {
    pub(super) fn parse(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let read = Reader { map: MAP, data };
        let mut config = Self::default();
        read.set_duration("progress-deadline", &mut config.progress_deadline)?;
        read.require(
            config.progress_deadline >= Duration::from_secs(1)
                && config.progress_deadline.subsec_nanos() == 0,
            "progress-deadline",
            "must be whole seconds, 1s or more",
        )?;
        Ok(config)
    }
}
