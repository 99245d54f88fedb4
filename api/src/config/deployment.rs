//! `config-deployment`. Source: knative/serving pkg/deployment/config.go.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Reader};
use crate::names::is_subdomain;

pub(super) const MAP: &str = "config-deployment";

/// Most runtime classes that are chosen among: each Revision is compared with all of them.
const RUNTIME_CLASSES_MAX: usize = 64;

/// Settings of the Deployments that Ebb makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentConfig {
    /// How long a revision may take to reach its initial scale.
    pub progress_deadline: Duration,
    /// Whether pods that say nothing of affinity prefer nodes without a pod of their revision.
    pub spreads: bool,
    /// For each runtime class the labels of the Revisions whose pods get it.
    runtime_classes: BTreeMap<String, RuntimeClass>,
}

/// Which Revisions get a runtime class: those with all these labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct RuntimeClass {
    #[serde(default)]
    selector: BTreeMap<String, String>,
}

// === impl DeploymentConfig ===

impl Default for DeploymentConfig {
    fn default() -> Self {
        Self {
            progress_deadline: Duration::from_mins(10),
            spreads: true,
            runtime_classes: BTreeMap::new(),
        }
    }
}

impl DeploymentConfig {
    /// The runtime class of pods of a Revision with these labels that names none: the one with the most
    /// labels that fit, and of several the first by name.
    pub fn runtime_class(&self, labels: &BTreeMap<String, String>) -> Option<&str> {
        let fits = |class: &RuntimeClass| {
            class.selector.iter().all(|(label, value)| labels.get(label) == Some(value))
        };
        let fitting = self.runtime_classes.iter().filter(|(_, class)| fits(class));
        let (name, _) = fitting.min_by_key(|(_, class)| Reverse(class.selector.len()))?;
        Some(name)
    }

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
        if let Some(kind) = read.text("default-affinity-type") {
            config.spreads = kind == "prefer-spread-revision-over-nodes";
            read.require(
                config.spreads || kind == "none",
                "default-affinity-type",
                "must be prefer-spread-revision-over-nodes or none",
            )?;
        }
        if let Some(text) = read.text("runtime-class-name") {
            config.runtime_classes = runtime_classes(text)
                .map_err(|problem| read.error("runtime-class-name", problem))?;
        }
        Ok(config)
    }
}

fn runtime_classes(text: &str) -> Result<BTreeMap<String, RuntimeClass>, String> {
    // A class without a selector may stand there as a key without a value.
    let classes: BTreeMap<String, Option<RuntimeClass>> = serde_saphyr::from_str(text).map_err(|_| {
        "must be YAML: names of runtime classes, each with `selector:` and labels, or with nothing"
            .to_owned()
    })?;
    if classes.len() > RUNTIME_CLASSES_MAX {
        return Err(format!("must be {RUNTIME_CLASSES_MAX} runtime classes or fewer"));
    }
    if let Some(name) = classes.keys().find(|name| !is_subdomain(name)) {
        return Err(format!("{name:?} is not the name of a runtime class: it must be a DNS name"));
    }
    Ok(classes.into_iter().map(|(name, class)| (name, class.unwrap_or_default())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &str, value: &str) -> Result<DeploymentConfig, ConfigError> {
        DeploymentConfig::parse(&[(key.to_owned(), value.to_owned())].into())
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_runtime_class_that_says_most_of_a_revision_is_taken() {
        let text = "kata: {}\ngvisor:\n  selector: {team: a}\nrunc:\nnvidia:\n  selector:\n    team: \
                    a\n    gpu: \"yes\"\n";
        let config = parse("runtime-class-name", text).unwrap();
        let class = |pairs: &[(&str, &str)]| config.runtime_class(&labels(pairs));
        assert_eq!(class(&[]), Some("kata"));
        assert_eq!(class(&[("team", "a")]), Some("gvisor"));
        assert_eq!(class(&[("team", "a"), ("gpu", "yes")]), Some("nvidia"));
        assert_eq!(class(&[("team", "b"), ("gpu", "yes")]), Some("kata"));
        assert_eq!(DeploymentConfig::default().runtime_class(&labels(&[])), None);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_what_would_be_right() {
        let told = |key, value| parse(key, value).unwrap_err().problem;
        let affinity = told("default-affinity-type", "spread");
        assert_eq!(affinity, "must be prefer-spread-revision-over-nodes or none");
        assert!(!parse("default-affinity-type", "none").unwrap().spreads);
        for text in ["kata", "- kata", "kata: {selector: [a]}"] {
            assert!(told("runtime-class-name", text).starts_with("must be YAML"), "{text}");
        }
        let name = told("runtime-class-name", "Kata Containers: {}");
        assert!(name.starts_with("\"Kata Containers\" is not the name"), "{name}");
    }
}
