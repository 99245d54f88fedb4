//! One container of a Revision.
//!
//! Source: knative/serving pkg/apis/serving/k8s_validation.go.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerPort, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::place::Place;
use super::quantity::{QUANTITY_RULE, is_negative};
use super::volume::Volumes;
use super::{environment, image, probe, security};
use crate::config::{Config, Feature};
use crate::field_error::{CURRENT, FieldErrors, clip};
use crate::quantity::is_quantity;

/// Name of Knative's proxy container, which a manifest must not use.
const RESERVED_NAME: &str = "queue-proxy";
/// Ports of Knative's proxy: 8012 and 8013 for requests, 8022 for its administration, 9090 and
/// 9091 for metrics, 8008 for profiles.
const RESERVED_PORTS: &[i32] = &[8008, 8012, 8013, 8022, 9090, 9091];
/// Allowed names of a port: they tell the protocol that is spoken there.
const PORT_NAMES: &[&str] = &["", "h2c", "http1"];
const PORT_MAX: i32 = 65535;

/// What is wrong with a container.
pub(super) fn validate(
    container: &Container,
    place: Place,
    volumes: &Volumes<'_>,
    config: &Config,
) -> FieldErrors {
    if *container == Container::default() {
        return FieldErrors::missing(&[CURRENT]);
    }
    let mut errors = validate_probes(container, place, config);
    if container.name == RESERVED_NAME {
        errors.add(FieldErrors::generic(
            format!("{RESERVED_NAME:?} is a reserved container name"),
            &["name"],
        ));
    }
    errors.add(environment::validate(container, place));
    errors.add(validate_image(container.image.as_deref().unwrap_or_default()));
    let ports = container.ports.as_deref().unwrap_or_default();
    errors.add(validate_ports(ports, place).via_field("ports"));
    if let Some(resources) = &container.resources {
        errors.add(validate_resources(resources).via_field("resources"));
    }
    if let Some(context) = &container.security_context {
        errors.add(security::validate(context).via_field("securityContext"));
    }
    match container.termination_message_policy.as_deref() {
        None | Some("" | "File" | "FallbackToLogsOnError") => {}
        Some(policy) => errors.add(FieldErrors::invalid(policy, "terminationMessagePolicy")),
    }
    match container.image_pull_policy.as_deref() {
        None | Some("" | "Always" | "IfNotPresent" | "Never") => {}
        Some(policy) => errors.add(FieldErrors::invalid(policy, "imagePullPolicy")),
    }
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    errors.also(volumes.validate_mounts(mounts).via_field("volumeMounts"))
}

fn validate_probes(container: &Container, place: Place, config: &Config) -> FieldErrors {
    let ports = container.ports.as_deref().unwrap_or_default();
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    let mut errors = FieldErrors::default();
    for (field, probe) in probes {
        let Some(probe) = probe else { continue };
        let wrong = match place {
            Place::Init => {
                FieldErrors::generic("field not allowed in an init container", &[CURRENT])
            }
            Place::Sidecar if !config.features.allows(Feature::MultiContainerProbing) => {
                FieldErrors::disallowed(&[CURRENT])
            }
            Place::Only | Place::Serving | Place::Sidecar if field == "readinessProbe" => {
                probe::validate_readiness(probe, ports.first())
            }
            Place::Only | Place::Serving | Place::Sidecar => probe::validate(probe, ports.first()),
        };
        errors.add(wrong.via_field(field));
    }
    errors
}

fn validate_image(image: &str) -> FieldErrors {
    if image.is_empty() {
        return FieldErrors::missing(&["image"]);
    }
    if image::is_reference(image) {
        return FieldErrors::default();
    }
    let image = clip(image);
    FieldErrors::detailed(
        "Failed to parse image reference",
        &["image"],
        format!("image: {image:?}, error: could not parse reference: {image}"),
    )
}

fn validate_ports(ports: &[ContainerPort], place: Place) -> FieldErrors {
    let mut errors = FieldErrors::default();
    if place == Place::Init {
        for port in ports {
            errors.add(validate_number(port.container_port));
        }
        return errors;
    }
    // Only the first port is looked at: a second one is an error already.
    let Some(port) = ports.first() else {
        return errors;
    };
    errors.add(validate_number(port.container_port));
    match port.protocol.as_deref() {
        None | Some("" | "TCP") => {}
        Some(protocol) => errors.add(FieldErrors::invalid(protocol, "protocol")),
    }
    let name = port.name.as_deref().unwrap_or_default();
    if !PORT_NAMES.contains(&name) {
        errors.add(FieldErrors::detailed(
            format!("Port name {} is not allowed", clip(name)),
            &[CURRENT],
            "Name must be empty, or one of: 'h2c', 'http1'",
        ));
    }
    errors
}

fn validate_number(port: i32) -> FieldErrors {
    if RESERVED_PORTS.contains(&port) {
        return FieldErrors::invalid_because(
            format!("{port} is a reserved port"),
            "containerPort",
            format!("{port} is a reserved port, please use a different value"),
        );
    }
    if (0..=PORT_MAX).contains(&port) {
        FieldErrors::default()
    } else {
        FieldErrors::out_of_bounds(port, 0, PORT_MAX, "containerPort")
    }
}

/// Quantities are checked here because a Deployment with a bad one could never be made.
fn validate_resources(resources: &ResourceRequirements) -> FieldErrors {
    let ResourceRequirements {
        // Refused as a field.
        claims: _,
        limits,
        requests,
    } = resources;
    quantities(limits.as_ref())
        .via_field("limits")
        .also(quantities(requests.as_ref()).via_field("requests"))
}

fn quantities(list: Option<&BTreeMap<String, Quantity>>) -> FieldErrors {
    let mut errors = FieldErrors::default();
    for (resource, Quantity(text)) in list.into_iter().flatten() {
        let problem = if !is_quantity(text) {
            QUANTITY_RULE
        } else if is_negative(text) {
            "must be greater than or equal to 0"
        } else {
            continue;
        };
        errors.add(FieldErrors::invalid_because(text, CURRENT, problem).via_key(&clip(resource)));
    }
    errors
}
