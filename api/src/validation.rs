//! Whether an object may be stored: Knative's rules and Knative's words, as pure functions.
//!
//! Sources: knative/serving pkg/apis/serving/v1/*_validation.go. An object is validated after
//! [`crate::defaults`] has filled it in. On an update, the parts that must not change are compared
//! with the older version. Templates and splits are compared under today's defaults, so that a
//! default added since does not look like a user's change.
//!
//! Cost is linear in the size of the object, and the answer is bounded whatever the object says
//! (see [`crate::field_error`]).

use std::collections::BTreeMap;

use kube_core::ResourceExt;

mod autoscaling;
mod change;
mod container;
mod environment;
mod image;
mod mask;
mod metadata;
mod name;
mod place;
mod pod;
mod probe;
mod quantity;
mod security;
mod template;
#[cfg(test)]
mod tests;
mod traffic;
mod volume;

use crate::config::Config;
use crate::defaults;
use crate::field_error::FieldErrors;
use crate::labels;
use crate::serving::{Configuration, Revision, RevisionTemplateSpec, Route, Service};

/// What is wrong with a Service, or with what changed since `old`.
pub fn service(new: &Service, old: Option<&Service>, config: &Config) -> FieldErrors {
    let annotations = annotations(new.metadata.annotations.as_ref());
    let errors = metadata::object_name(&new.metadata)
        .also(metadata::visibility(&new.metadata).via_field("labels"))
        .also(
            metadata::none_of_template(annotations)
                .also(metadata::rollout_duration(annotations))
                .also(metadata::models(annotations))
                .via_field("annotations"),
        )
        .via_field("metadata");
    let spec = template::validate(&new.spec.template, &new.metadata, config)
        .via_field("template")
        .also(traffic::validate(&new.spec.traffic, traffic::Owner::Service).via_field("traffic"))
        .via_field("spec");
    let errors = errors.also(spec);
    let Some(old) = old else {
        return errors;
    };
    errors.also(authors(old, new, defaults::service_changed(old, new, config))).also(name_change(
        &old.spec.template,
        &new.spec.template,
        config,
    ))
}

/// What is wrong with a Configuration, or with what changed since `old`.
pub fn configuration(
    new: &Configuration,
    old: Option<&Configuration>,
    config: &Config,
) -> FieldErrors {
    let annotations = annotations(new.metadata.annotations.as_ref());
    let errors = metadata::object_name(&new.metadata)
        .also(metadata::owner_label(&new.metadata, labels::SERVICE, "Service").via_field("labels"))
        .also(metadata::none_of_template(annotations).via_field("annotations"))
        .via_field("metadata");
    let spec =
        template::validate(&new.spec.template, &new.metadata, config).via_field("spec.template");
    let errors = errors.also(spec);
    let Some(old) = old else {
        return errors;
    };
    let mut errors = errors.also(name_change(&old.spec.template, &new.spec.template, config));
    // The controller changes a Configuration that a Service owns, and is not recorded as its
    // author.
    if new.metadata.owner_references.is_none() {
        let changed = defaults::configuration_changed(old, new, config);
        errors.add(authors(old, new, changed));
    }
    errors
}

/// What is wrong with a Route, or with what changed since `old`.
pub fn route(new: &Route, old: Option<&Route>) -> FieldErrors {
    let annotations = annotations(new.metadata.annotations.as_ref());
    let errors = metadata::object_name(&new.metadata)
        .also(
            metadata::visibility(&new.metadata)
                .also(metadata::owner_label(&new.metadata, labels::SERVICE, "Service"))
                .via_field("labels"),
        )
        .also(
            metadata::none_of_template(annotations)
                .also(metadata::rollout_duration(annotations))
                .also(metadata::models(annotations))
                .via_field("annotations"),
        )
        .via_field("metadata");
    let split = traffic::validate(&new.spec.traffic, traffic::Owner::Route);
    let mut errors = errors.also(split.via_field("spec.traffic"));
    if let Some(old) = old
        && new.metadata.owner_references.is_none()
    {
        errors.add(authors(old, new, defaults::route_changed(old, new)));
    }
    errors
}

/// What is wrong with a Revision, whose spec never changes once it exists.
pub fn revision(new: &Revision, old: Option<&Revision>, config: &Config) -> FieldErrors {
    let annotations = annotations(new.metadata.annotations.as_ref());
    let owner = metadata::owner_label(&new.metadata, labels::CONFIGURATION, "Configuration");
    let errors = metadata::object_name(&new.metadata)
        .also(owner.via_field("labels"))
        .also(autoscaling::validate(annotations, &config.autoscaler).via_field("annotations"))
        .via_field("metadata");
    match old {
        None => errors.also(template::spec(&new.spec, config).via_field("spec")),
        Some(old) => match change::between(&old.spec, &new.spec, "{v1.RevisionSpec}") {
            None => errors,
            Some(changes) => {
                FieldErrors::detailed("Immutable fields changed (-old +new)", &["spec"], changes)
            }
        },
    }
}

fn authors<K: ResourceExt>(old: &K, new: &K, spec_changed: bool) -> FieldErrors {
    metadata::authors(old.meta(), new.meta(), spec_changed).via_field("metadata.annotations")
}

fn name_change(
    old: &RevisionTemplateSpec,
    new: &RevisionTemplateSpec,
    config: &Config,
) -> FieldErrors {
    template::name_change(old, new, config).via_field("spec.template")
}

fn annotations(of: Option<&BTreeMap<String, String>>) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    of.unwrap_or(&NONE)
}
