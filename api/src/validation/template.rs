//! The template of a Revision: its spec, its annotations, and the name that its author chose.
//!
//! Source: knative/serving pkg/apis/serving/v1/revision_validation.go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{autoscaling, change, metadata, name, pod};
use crate::config::Config;
use crate::defaults::{self, template_name};
use crate::field_error::FieldErrors;
use crate::model_files::{self, ModelFiles};
use crate::serving::{RevisionSpec, RevisionTemplateSpec};

/// What is wrong with a template of the object that `parent` describes.
pub(super) fn validate(
    template: &RevisionTemplateSpec,
    parent: &ObjectMeta,
    config: &Config,
) -> FieldErrors {
    let mut errors = spec(&template.spec, config).via_field("spec");
    let own = template.metadata.as_ref();
    if let Some(annotations) = own.and_then(|own| own.annotations.as_ref()) {
        errors.add(
            autoscaling::validate(annotations, &config.autoscaler)
                .also(metadata::template_annotations(annotations))
                .via_field("metadata.annotations"),
        );
    }
    let files = own.map(|own| ModelFiles::of(own.annotations.as_ref()));
    if matches!(files, Some(Ok(Some(_))))
        && let Some(conflict) = model_files::conflict(&template.spec.pod)
    {
        errors.add(FieldErrors::generic(conflict.to_string(), &["spec.containers"]));
    }
    let generate_name = own.and_then(|own| own.generate_name.as_deref());
    errors.also(revision_name(template_name(template), generate_name, parent))
}

/// What is wrong with the spec of a Revision.
pub(super) fn spec(spec: &RevisionSpec, config: &Config) -> FieldErrors {
    let bounds = &config.defaults;
    let mut errors = pod::validate(&spec.pod, config);
    if let Some(timeout_s) = spec.timeout_seconds
        && !(0..=bounds.max_revision_timeout_s).contains(&timeout_s)
    {
        errors.add(FieldErrors::out_of_bounds(
            timeout_s,
            0,
            bounds.max_revision_timeout_s,
            "timeoutSeconds",
        ));
    }
    // Knative does not look at these two at all, and then fails where they are used.
    for (field, value) in [
        ("responseStartTimeoutSeconds", spec.response_start_timeout_seconds),
        ("idleTimeoutSeconds", spec.idle_timeout_seconds),
    ] {
        if let Some(timeout_s) = value
            && timeout_s < 0
        {
            let high = bounds.max_revision_timeout_s;
            errors.add(FieldErrors::out_of_bounds(timeout_s, 0, high, field));
        }
    }
    if let Some(limit) = spec.container_concurrency {
        errors.add(container_concurrency(limit, config));
    }
    errors
}

/// What is wrong with a hard limit of requests at once.
pub(super) fn container_concurrency(limit: i64, config: &Config) -> FieldErrors {
    let low = i64::from(!config.defaults.allow_container_concurrency_zero);
    let high = config.defaults.container_concurrency_max;
    if (low..=high).contains(&limit) {
        FieldErrors::default()
    } else {
        FieldErrors::out_of_bounds(limit, low, high, "containerConcurrency")
    }
}

/// Whether a template whose author chose the name changed without a new name: the Revision of
/// that name exists already and never changes.
pub(super) fn name_change(
    old: &RevisionTemplateSpec,
    new: &RevisionTemplateSpec,
    config: &Config,
) -> FieldErrors {
    let name = template_name(new);
    if name.is_none() || name != template_name(old) || old == new {
        return FieldErrors::default();
    }
    let (before, after) = defaults::comparable(old, new, config);
    match change::between(&before, &after, "{v1.RevisionTemplateSpec}") {
        None => FieldErrors::default(),
        Some(changes) => FieldErrors::detailed(
            "Saw the following changes without a name change (-old +new)",
            &["metadata.name"],
            changes,
        ),
    }
}

fn revision_name(
    name: Option<&str>,
    generate_name: Option<&str>,
    parent: &ObjectMeta,
) -> FieldErrors {
    if let Some(prefix) = generate_name.filter(|prefix| !prefix.is_empty()) {
        let problems = name::dns1035_prefix(prefix);
        if !problems.is_empty() {
            let problems = name::bracketed(&problems);
            return FieldErrors::invalid(
                format!("not a DNS 1035 label prefix: {problems}"),
                "metadata.generateName",
            );
        }
    }
    let Some(name) = name else {
        return FieldErrors::default();
    };
    let problems = name::dns1035_label(name);
    if !problems.is_empty() {
        let problems = name::bracketed(&problems);
        return FieldErrors::invalid(format!("not a DNS 1035 label: {problems}"), "metadata.name");
    }
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let parent_name = set(&parent.name);
    if parent_name.is_none() && set(&parent.generate_name).is_some() {
        // The prefix is not known before the server has generated the parent's name.
        return FieldErrors::disallowed(&["metadata.name"]);
    }
    let prefix = format!("{}-", parent_name.unwrap_or_default());
    if name.starts_with(&prefix) {
        FieldErrors::default()
    } else {
        FieldErrors::invalid(format!("{name:?} must have prefix {prefix:?}"), "metadata.name")
    }
}
