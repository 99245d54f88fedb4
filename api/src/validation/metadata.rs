//! Names, labels and annotations of an object.
//!
//! Sources: knative.dev/pkg/apis/metadata_validation.go and knative/serving
//! pkg/apis/serving/metadata_validation.go.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::name;
use super::quantity::signed_duration;
use crate::annotations::{
    AUTOSCALING_GROUP, CREATOR, Key, LAST_MODIFIER, NETWORKING_GROUP, PROGRESS_DEADLINE,
    ROLLOUT_DURATION,
};
use crate::field_error::{CURRENT, FieldErrors, clip};
use crate::labels;
use crate::model_files::{MODEL, ModelFiles};
use crate::models;
use crate::no_wake::{NO_WAKE_AGENTS, NO_WAKE_PATHS, NoWake};
use crate::priority::{self, PRIORITY};
use crate::quantity::is_quantity;
use crate::standby::Standby;
use crate::start_timeout::{self, START_TIMEOUT};
use crate::waiting_events::{WAITING_EVENTS, WaitingEvents};
use crate::waiting_page::{self, WAITING_PAGE};

/// Most bytes of all annotations of an object (k8s.io/apimachinery/pkg/api/validation).
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Annotations of the networking group that a template may carry.
const NETWORKING_KEYS: &[&str] = &[
    "certificate-class",
    "certificate.class",
    "disable-auto-tls",
    "disable-external-domain-tls",
    "disableAutoTLS",
    "http-protocol",
    "httpOption",
    "ingress-class",
    "ingress.class",
];

/// Quantities for the proxy that Knative runs in each pod. Ebb has no such proxy, but the values
/// must be valid: the same manifest may go to a cluster that has one.
const SIDECAR_QUANTITIES: &[&str] = &[
    "queue.sidecar.serving.knative.dev/cpu-resource-limit",
    "queue.sidecar.serving.knative.dev/cpu-resource-request",
    "queue.sidecar.serving.knative.dev/ephemeral-storage-resource-limit",
    "queue.sidecar.serving.knative.dev/ephemeral-storage-resource-request",
    "queue.sidecar.serving.knative.dev/memory-resource-limit",
    "queue.sidecar.serving.knative.dev/memory-resource-request",
];
const SIDECAR_PERCENTAGE: Key = Key(&[
    "queue.sidecar.serving.knative.dev/resource-percentage",
    "queue.sidecar.serving.knative.dev/resourcePercentage",
]);

/// What is wrong with the name of an object, which must have one or be given one.
pub(super) fn object_name(metadata: &ObjectMeta) -> FieldErrors {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut problems = Vec::new();
    if let Some(prefix) = set(&metadata.generate_name) {
        problems = name::dns1035_prefix(&prefix);
        if !problems.is_empty() {
            let problems = name::bracketed(&problems);
            return FieldErrors::generic(
                format!("not a DNS 1035 label prefix: {problems}"),
                &["generateName"],
            );
        }
    }
    match set(&metadata.name) {
        Some(name) => problems.extend(name::dns1035_label(&name)),
        None if set(&metadata.generate_name).is_some() => {}
        None => return FieldErrors::generic("name or generateName is required", &["name"]),
    }
    if problems.is_empty() {
        return FieldErrors::default();
    }
    let problems = name::bracketed(&problems);
    FieldErrors::generic(format!("not a DNS 1035 label: {problems}"), &["name"])
}

/// Refuses autoscaling annotations, and Ebb's own for a template, where they have no effect.
pub(super) fn none_of_template(annotations: &BTreeMap<String, String>) -> FieldErrors {
    let of_template =
        [NO_WAKE_PATHS, NO_WAKE_AGENTS, PRIORITY, START_TIMEOUT, WAITING_EVENTS, WAITING_PAGE];
    let of_template = of_template.map(|key| key.name());
    let mut errors = FieldErrors::default();
    for key in annotations.keys() {
        let what = match key.starts_with(AUTOSCALING_GROUP) {
            true => "autoscaling annotations",
            false if of_template.contains(&key.as_str()) => "annotations of a template",
            false => continue,
        };
        let where_to = "must be put under \"spec.template.metadata.annotations\" to work";
        errors.add(FieldErrors::invalid_key(key, CURRENT, format!("{what} {where_to}")));
    }
    errors
}

/// Whether the label that hides a route has the one value that it may have.
pub(super) fn visibility(metadata: &ObjectMeta) -> FieldErrors {
    match label(metadata, labels::VISIBILITY) {
        Some(value) if value != labels::VISIBILITY_CLUSTER_LOCAL => {
            FieldErrors::invalid(value, labels::VISIBILITY)
        }
        _ => FieldErrors::default(),
    }
}

/// Whether a label that names an owner names one that the object really has.
pub(super) fn owner_label(metadata: &ObjectMeta, key: &str, kind: &str) -> FieldErrors {
    let Some(name) = label(metadata, key) else {
        return FieldErrors::default();
    };
    let mut owners = metadata.owner_references.iter().flatten();
    if owners.any(|owner| owner.kind == kind && owner.name == name) {
        FieldErrors::default()
    } else {
        FieldErrors::missing(&[key])
    }
}

/// The recorded creator of an object never changes; the last modifier changes only with the spec.
pub(super) fn authors(old: &ObjectMeta, new: &ObjectMeta, spec_changed: bool) -> FieldErrors {
    let of = |metadata: &ObjectMeta, key: &str| annotation(metadata, key).map(ToOwned::to_owned);
    let mut errors = FieldErrors::default();
    if of(old, CREATOR) != of(new, CREATOR) {
        errors.add(FieldErrors::generic("annotation value is immutable", &[CREATOR]));
    }
    let modifier = of(new, LAST_MODIFIER);
    if !spec_changed && of(old, LAST_MODIFIER) != modifier {
        errors.add(FieldErrors::invalid(modifier.unwrap_or_default(), LAST_MODIFIER));
    }
    errors
}

/// What is wrong with the duration of a rollout, on a Service or Route.
pub(super) fn rollout_duration(annotations: &BTreeMap<String, String>) -> FieldErrors {
    whole_seconds(annotations, ROLLOUT_DURATION, "rollout-duration", true)
}

/// What is wrong with the names of models, on a Service or Route.
pub(super) fn models(annotations: &BTreeMap<String, String>) -> FieldErrors {
    refused(models::declared(Some(annotations)), annotations, models::MODELS)
}

/// What is wrong with the annotations of a template, except those for autoscaling.
pub(super) fn template_annotations(annotations: &BTreeMap<String, String>) -> FieldErrors {
    let mut errors = whole_seconds(annotations, PROGRESS_DEADLINE, "progress-deadline", false)
        .also(sidecar(annotations))
        .also(no_wake(annotations))
        .also(standby(annotations))
        .also(model_files(annotations))
        .also(refused(priority::of(Some(annotations)), annotations, PRIORITY))
        .also(refused(start_timeout::of(Some(annotations)), annotations, START_TIMEOUT))
        .also(refused(WaitingEvents::of(Some(annotations)), annotations, WAITING_EVENTS))
        .also(refused(waiting_page::of(Some(annotations)), annotations, WAITING_PAGE));
    let networking = format!("{NETWORKING_GROUP}/");
    for key in annotations.keys() {
        if let Some(name) = key.strip_prefix(&networking)
            && !NETWORKING_KEYS.contains(&name)
        {
            errors.add(FieldErrors::invalid_key(key, CURRENT, ""));
        }
    }
    // The API server checks this for the object itself, but a template is only checked when a
    // Revision is made from it, which is too late to tell the user.
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.add(FieldErrors::generic(
            format!("Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes"),
            &[CURRENT],
        ));
    }
    errors
}

fn no_wake(annotations: &BTreeMap<String, String>) -> FieldErrors {
    let of = |key: Key| {
        let text = key.get(Some(annotations))?;
        let alone = BTreeMap::from([(key.name().to_owned(), text.to_owned())]);
        Some(refused(NoWake::of(Some(&alone)), &alone, key))
    };
    let mut errors = FieldErrors::default();
    [NO_WAKE_PATHS, NO_WAKE_AGENTS].into_iter().filter_map(of).for_each(|it| errors.add(it));
    errors
}

fn standby(annotations: &BTreeMap<String, String>) -> FieldErrors {
    match Standby::of(Some(annotations)) {
        Ok(_) => FieldErrors::default(),
        Err((key, problem)) => refused::<()>(Err(problem), annotations, key),
    }
}

fn model_files(annotations: &BTreeMap<String, String>) -> FieldErrors {
    match ModelFiles::of(Some(annotations)) {
        Ok(_) => FieldErrors::default(),
        // The text may hold the signature or the password of a URL.
        Err((MODEL, problem)) => {
            FieldErrors::invalid_because("...", MODEL.name(), problem.to_string())
        }
        Err((key, problem)) => refused::<()>(Err(problem), annotations, key),
    }
}

/// The problem with an annotation of Ebb's own, if its reader found one.
fn refused<T>(
    read: Result<T, impl std::error::Error>,
    annotations: &BTreeMap<String, String>,
    key: Key,
) -> FieldErrors {
    let Err(problem) = read else {
        return FieldErrors::default();
    };
    let text = key.get(Some(annotations)).unwrap_or_default();
    FieldErrors::invalid_because(text, key.name(), problem.to_string())
}

fn sidecar(annotations: &BTreeMap<String, String>) -> FieldErrors {
    let mut errors = FieldErrors::default();
    if let Some((key, text)) = SIDECAR_PERCENTAGE.find(Some(annotations)) {
        let deprecated = FieldErrors::generic(
            "Queue proxy resource percentage annotation is deprecated. Please use the available \
             annotations to explicitly set resource values per service",
            &[CURRENT],
        );
        errors.add(deprecated.as_warnings().via_key(key));
        errors.add(match text.parse::<f64>() {
            Ok(share) if (0.1..=100.0).contains(&share) => FieldErrors::default(),
            Ok(share) if share.is_finite() => {
                FieldErrors::out_of_bounds(text, 0.1, 100, CURRENT).via_key(key)
            }
            _ => FieldErrors::invalid(text, CURRENT).via_key(key),
        });
    }
    for key in SIDECAR_QUANTITIES {
        if let Some(text) = annotations.get(*key)
            && !is_quantity(text)
        {
            errors.add(FieldErrors::invalid(text, CURRENT).via_key(key));
        }
    }
    errors
}

/// A duration in whole seconds; `zero` says whether it may be 0.
fn whole_seconds(
    annotations: &BTreeMap<String, String>,
    key: Key,
    short: &str,
    zero: bool,
) -> FieldErrors {
    let Some((key, text)) = key.find(Some(annotations)).filter(|(_, text)| !text.is_empty()) else {
        return FieldErrors::default();
    };
    let shown = clip(text);
    match signed_duration(text) {
        None => FieldErrors::invalid(text, key),
        Some((_, span)) if span.subsec_nanos() != 0 => {
            FieldErrors::generic(format!("{short}={shown} is not at second precision"), &[key])
        }
        Some((is_negative, span)) if is_negative || (span.is_zero() && !zero) => {
            FieldErrors::generic(format!("{short}={shown} must be positive"), &[key])
        }
        Some(_) => FieldErrors::default(),
    }
}

fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}
