//! A Revision's pod: containers, their ports and volumes taken together.
//!
//! Source: knative/serving pkg/apis/serving/k8s_validation.go.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::container;
use super::place::Place;
use super::volume::Volumes;
use super::{mask, name, security, volume};
use crate::config::{Config, Feature};
use crate::field_error::FieldErrors;

/// What is wrong with a pod.
pub(super) fn validate(pod: &PodSpec, config: &Config) -> FieldErrors {
    let features = &config.features;
    let containers = pod.containers.as_slice();
    let init = pod.init_containers.as_deref().unwrap_or_default();
    let mut errors = mask::validate(pod, features).also(security::validate_pod(pod));
    let mounted: BTreeSet<&str> = init
        .iter()
        .chain(containers)
        .flat_map(|container| container.volume_mounts.iter().flatten())
        .map(|mount| mount.name.as_str())
        .collect();
    let volumes = Volumes::new(pod.volumes.as_deref().unwrap_or_default());
    errors.add(volume::validate(pod, &mounted, features).via_field("volumes"));
    errors.add(validate_init(init, containers, &volumes, config));
    errors.add(validate_ports(containers).via_field("containers[*]"));
    errors.add(match containers {
        [] => FieldErrors::missing(&["containers"]),
        [only] => container::validate(only, Place::Only, &volumes, config)
            .via_field_index("containers", 0),
        several => validate_several(several, &volumes, config),
    });
    let account = pod.service_account_name.as_deref().unwrap_or_default();
    if !account.is_empty() {
        for problem in name::dns1123_subdomain(account) {
            errors.add(FieldErrors::invalid_because(account, "serviceAccountName", problem));
        }
    }
    errors
}

fn validate_init(
    init: &[Container],
    others: &[Container],
    volumes: &Volumes<'_>,
    config: &Config,
) -> FieldErrors {
    if init.is_empty() {
        return FieldErrors::default();
    }
    if !config.features.allows(Feature::InitContainers) {
        let count = init.len();
        return FieldErrors::generic(
            format!(
                "pod spec support for init-containers is off, but found {count} init containers"
            ),
            &["initContainers"],
        );
    }
    let mut names: BTreeSet<&str> = others.iter().map(|other| other.name.as_str()).collect();
    let mut errors = FieldErrors::default();
    for (index, one) in init.iter().enumerate() {
        let wrong = unique(one, &mut names)
            .also(container::validate(one, Place::Init, volumes, config))
            .via_field_index("initContainers", index);
        errors.add(wrong);
        if errors.is_full() {
            break;
        }
    }
    errors
}

fn validate_several(
    containers: &[Container],
    volumes: &Volumes<'_>,
    config: &Config,
) -> FieldErrors {
    if !config.features.allows(Feature::MultiContainer) {
        let count = containers.len();
        return FieldErrors::generic(
            format!("multi-container is off, but found {count} containers"),
            &["containers"],
        );
    }
    let mut names = BTreeSet::new();
    let mut errors = FieldErrors::default();
    for (index, one) in containers.iter().enumerate() {
        let place = match one.ports.as_deref() {
            None | Some([]) => Place::Sidecar,
            Some(_) => Place::Serving,
        };
        let wrong = unique(one, &mut names)
            .also(container::validate(one, place, volumes, config))
            .via_field_index("containers", index);
        errors.add(wrong);
        if errors.is_full() {
            break;
        }
    }
    errors
}

fn unique<'a>(container: &'a Container, names: &mut BTreeSet<&'a str>) -> FieldErrors {
    if names.insert(&container.name) {
        return FieldErrors::default();
    }
    let name = crate::field_error::clip(&container.name);
    FieldErrors::generic(format!("duplicate container name {name:?}"), &["name"])
}

/// Requests go to one port of one container; with several containers it must be named.
fn validate_ports(containers: &[Container]) -> FieldErrors {
    let count: usize =
        containers.iter().map(|container| container.ports.as_ref().map_or(0, Vec::len)).sum();
    if count == 0 && containers.len() > 1 {
        return FieldErrors::missing(&["ports"]);
    }
    if count > 1 {
        return FieldErrors::detailed(
            "more than one container port is set",
            &["ports"],
            "Only a single port is allowed across all containers",
        );
    }
    FieldErrors::default()
}
