//! How requests are split: targets, shares and tags.
//!
//! Source: knative/serving pkg/apis/serving/v1/route_validation.go.

use std::collections::BTreeMap;

use super::name;
use crate::field_error::{CURRENT, FieldErrors, clip};
use crate::serving::TrafficTarget;

/// The sum of all shares.
const WHOLE_PERCENT: i64 = 100;

/// The kind that has the split: a Service's Configuration is known, and may not be named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Service,
    Route,
}

/// What is wrong with a split.
pub(super) fn validate(traffic: &[TrafficTarget], owner: Owner) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let mut tags: BTreeMap<&str, usize> = BTreeMap::new();
    let percents = traffic.iter().filter_map(|target| target.percent);
    let sum = percents.fold(0_i64, i64::saturating_add);
    if sum != WHOLE_PERCENT {
        errors.add(FieldErrors::generic(
            format!("Traffic targets sum to {sum}, want {WHOLE_PERCENT}"),
            &[CURRENT],
        ));
    }
    for (index, target) in traffic.iter().enumerate() {
        errors.add(validate_target(target, owner).via_index(index));
        let Some(tag) = set(target.tag.as_deref()) else {
            continue;
        };
        let problems = name::dns1035_label(tag);
        if !problems.is_empty() {
            let value = format!("not a DNS 1035 label: {}", name::bracketed(&problems));
            // Knative's own path has the index behind the field, and tools may match on it.
            errors.add(FieldErrors::invalid(value, CURRENT).via_field_index("tag", index));
        }
        match tags.get(tag) {
            Some(first) => errors.add(FieldErrors::generic(
                format!("Multiple definitions for {:?}", clip(tag)),
                &[&format!("[{index}].tag"), &format!("[{first}].tag")],
            )),
            None => {
                tags.insert(tag, index);
            }
        }
    }
    errors
}

fn validate_target(target: &TrafficTarget, owner: Owner) -> FieldErrors {
    let TrafficTarget {
        configuration_name,
        latest_revision,
        percent,
        revision_name,
        // Judged together with the other targets' tags.
        tag: _,
        url,
    } = target;
    let mut errors = FieldErrors::default();
    let revision = set(revision_name.as_deref());
    if let Some(latest) = latest_revision
        && revision.is_some() == *latest
    {
        let revision = clip(revision.unwrap_or_default());
        errors.add(FieldErrors::generic(
            format!("may not set revisionName {revision:?} when latestRevision is {latest}"),
            &["latestRevision"],
        ));
    }
    errors.add(validate_destination(revision, set(configuration_name.as_deref()), owner));
    if let Some(percent) = percent
        && !(0..=WHOLE_PERCENT).contains(percent)
    {
        errors.add(FieldErrors::out_of_bounds(percent, 0, WHOLE_PERCENT, "percent"));
    }
    // The address follows from the tag; only a status may carry it.
    if set(url.as_deref()).is_some() {
        errors.add(FieldErrors::disallowed(&["url"]));
    }
    errors
}

fn validate_destination(
    revision: Option<&str>,
    configuration: Option<&str>,
    owner: Owner,
) -> FieldErrors {
    let named = |name: &str, path: &str| {
        let problems = name::qualified_name(name);
        if problems.is_empty() {
            FieldErrors::default()
        } else {
            FieldErrors::invalid_key(name, path, problems.join(", "))
        }
    };
    match (revision, configuration, owner) {
        (_, Some(_), Owner::Service) => FieldErrors::disallowed(&["configurationName"]),
        (Some(_), Some(_), Owner::Route) => {
            FieldErrors::multiple_one_of(&["revisionName", "configurationName"])
        }
        (Some(revision), None, _) => named(revision, "revisionName"),
        (None, Some(configuration), Owner::Route) => named(configuration, "configurationName"),
        (None, None, Owner::Service) => FieldErrors::default(),
        (None, None, Owner::Route) => {
            FieldErrors::missing_one_of(&["revisionName", "configurationName"])
        }
    }
}

/// The text, unless it is empty: Go's types cannot tell an empty text from a missing one.
fn set(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}
