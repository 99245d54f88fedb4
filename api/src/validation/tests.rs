//! Golden tests: manifests as people write them, and the exact text of the verdict.

mod annotations;
mod hostile;
mod objects;
mod pods;
mod traffic;

use serde::de::DeserializeOwned;

use super::*;
use crate::config::{Feature, Flag};
use crate::defaults::Occasion;

/// Reads a manifest.
fn read<K: DeserializeOwned>(yaml: &str) -> K {
    let value: serde_json::Value = serde_saphyr::from_str(yaml).expect(yaml);
    serde_json::from_value(value).expect(yaml)
}

/// A Service whose revision has this spec, in YAML of one line.
fn with_spec(spec: &str) -> Service {
    read(&format!(
        "{{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {{name: digits}}, \
         spec: {{template: {{spec: {spec}}}}}}}"
    ))
}

/// A Service whose template has these annotations, in YAML of one line.
fn with_annotations(annotations: &str) -> Service {
    read(&format!(
        "{{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {{name: digits}}, \
         spec: {{template: {{metadata: {{annotations: {annotations}}}, \
         spec: {{containers: [{{image: busybox}}]}}}}}}}}"
    ))
}

/// The verdict on a Service that is created, after defaulting.
fn created(service: &Service, config: &Config) -> FieldErrors {
    let mut service = service.clone();
    let by = Some("alice");
    defaults::service(&mut service, Occasion::Create { by }, config);
    super::service(&service, None, config)
}

/// The verdict on a Service that replaces another, both after defaulting.
fn updated(old: &Service, new: &Service, config: &Config) -> FieldErrors {
    let mut old = old.clone();
    defaults::service(&mut old, Occasion::Create { by: Some("alice") }, config);
    let mut new = new.clone();
    new.metadata.annotations = Some({
        let mut annotations = new.metadata.annotations.unwrap_or_default();
        for (key, value) in old.metadata.annotations.iter().flatten() {
            annotations.entry(key.clone()).or_insert_with(|| value.clone());
        }
        annotations
    });
    let by = Some("bob");
    defaults::service(&mut new, Occasion::Update { old: &old, by }, config);
    super::service(&new, Some(&old), config)
}

/// Checks a table of specs in YAML against the texts of their verdicts.
fn check_specs(config: &Config, table: &[(&str, &str)]) {
    for (spec, want) in table {
        assert_eq!(created(&with_spec(spec), config).to_string(), *want, "{spec}");
    }
}

/// Checks a table of template annotations in YAML against the texts of their verdicts.
fn check_annotations(config: &Config, table: &[(&str, &str)]) {
    for (annotations, want) in table {
        let verdict = created(&with_annotations(annotations), config).to_string();
        assert_eq!(verdict, *want, "{annotations}");
    }
}

fn allowing(features: &[Feature]) -> Config {
    let mut config = Config::default();
    for feature in features {
        config.features = config.features.with(*feature, Flag::Enabled);
    }
    config
}
