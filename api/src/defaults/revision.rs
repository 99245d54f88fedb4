//! Defaults of a Revision's spec: limits, names, probes and mounts of its containers.
//!
//! Source: knative/serving pkg/apis/serving/v1/revision_defaults.go.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Probe, ResourceRequirements, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::config::{Config, DefaultsConfig};
use crate::names;
use crate::serving::RevisionSpec;

/// Kubernetes' own defaults for a probe that has a period.
const PROBE_FAILURE_THRESHOLD: i32 = 3;
const PROBE_TIMEOUT_S: i32 = 1;

/// Defaults a spec; `links` says whether `enableServiceLinks` is defaulted too (see the caller).
pub(super) fn spec(spec: &mut RevisionSpec, links: bool, config: &Config) {
    limits(spec, &config.defaults);
    container_names(spec, &config.defaults);
    if links && spec.pod.enable_service_links.is_none() {
        spec.pod.enable_service_links = config.defaults.enable_service_links;
    }
    let writable: BTreeSet<&str> = spec
        .pod
        .volumes
        .iter()
        .flatten()
        .filter(|volume| {
            volume.empty_dir.is_some()
                || volume.persistent_volume_claim.is_some()
                || volume.ephemeral.is_some()
        })
        .map(|volume| volume.name.as_str())
        .collect();
    let is_only = spec.pod.containers.len() == 1;
    for container in &mut spec.pod.containers {
        resources(container.resources.get_or_insert_default(), &config.defaults);
        // A sidecar gets no probe that it has not asked for: only one container gets requests.
        if is_only || container.ports.as_ref().is_some_and(|p| !p.is_empty()) {
            serving_probe(container.readiness_probe.get_or_insert_default());
        }
        probes(container);
        mounts(container, &writable);
    }
    for container in spec.pod.init_containers.iter_mut().flatten() {
        mounts(container, &writable);
    }
}

fn limits(spec: &mut RevisionSpec, defaults: &DefaultsConfig) {
    let timeout_s = match spec.timeout_seconds {
        None | Some(0) => defaults.revision_timeout_s,
        Some(timeout_s) => timeout_s,
    };
    spec.timeout_seconds = Some(timeout_s);
    // Each of these two timeouts has a meaning only if it ends a request before the whole timeout.
    let below = |default_s: i64| (default_s != 0 && default_s < timeout_s).then_some(default_s);
    if spec.response_start_timeout_seconds.is_none() {
        spec.response_start_timeout_seconds = below(defaults.response_start_timeout_s);
    }
    if spec.idle_timeout_seconds.is_none() {
        spec.idle_timeout_seconds = below(defaults.idle_timeout_s);
    }
    spec.container_concurrency.get_or_insert(defaults.container_concurrency);
}

fn container_names(spec: &mut RevisionSpec, defaults: &DefaultsConfig) {
    let containers = &mut spec.pod.containers;
    let init = spec.pod.init_containers.as_deref_mut().unwrap_or_default();
    let mut taken: BTreeSet<String> =
        containers.iter().chain(init.iter()).map(|container| container.name.clone()).collect();
    fill_names(containers, &mut taken, &defaults.container_name);
    fill_names(init, &mut taken, &defaults.init_container_name);
}

/// Names the containers that have no name: by the default alone, or numbered when that would not be
/// unique.
fn fill_names(containers: &mut [Container], taken: &mut BTreeSet<String>, default: &str) {
    let several = containers.len() > 1;
    let mut next = 0_usize;
    for container in containers.iter_mut().filter(|c| c.name.is_empty()) {
        let mut name = default.to_owned();
        if several || taken.contains(&name) {
            // Ends: every turn tries a new number, and only finitely many are taken.
            loop {
                name = names::child(default, &format!("-{next}"));
                next += 1;
                if !taken.contains(&name) {
                    break;
                }
            }
        }
        taken.insert(name.clone());
        container.name = name;
    }
}

/// Requests and limits that the container leaves out.
fn resources(resources: &mut ResourceRequirements, defaults: &DefaultsConfig) {
    let fields =
        [(&mut resources.requests, &defaults.requests), (&mut resources.limits, &defaults.limits)];
    for (field, defaults) in fields {
        if defaults.is_empty() {
            continue;
        }
        let field = field.get_or_insert_default();
        for (resource, amount) in defaults {
            field.entry((*resource).to_owned()).or_insert_with(|| Quantity(amount.clone()));
        }
    }
}

/// What the container that gets the requests is asked, if it does not say.
fn serving_probe(probe: &mut Probe) {
    if probe.exec.is_none() && probe.grpc.is_none() && probe.http_get.is_none() {
        // Port 0 is the port that requests go to.
        probe.tcp_socket.get_or_insert_with(TCPSocketAction::default);
    }
}

/// Numbers and names that the probes of any container leave out.
fn probes(container: &mut Container) {
    let Container { liveness_probe, readiness_probe, startup_probe, .. } = container;
    if let Some(probe) = readiness_probe {
        fill(&mut probe.success_threshold, 1);
        // A period of 0 stays: it means "as often as is useful", which a kubelet cannot do.
        if probe.period_seconds.is_some_and(|period_s| period_s != 0) {
            fill(&mut probe.failure_threshold, PROBE_FAILURE_THRESHOLD);
            fill(&mut probe.timeout_seconds, PROBE_TIMEOUT_S);
        }
    }
    for probe in [liveness_probe, readiness_probe, startup_probe].into_iter().flatten() {
        if let Some(grpc) = &mut probe.grpc {
            grpc.service.get_or_insert_default();
        }
    }
}

/// Sets a number that is absent, or 0, which Go's types cannot tell apart.
fn fill(field: &mut Option<i32>, default: i32) {
    if field.is_none_or(|value| value == 0) {
        *field = Some(default);
    }
}

/// Mounts are read-only unless the volume is made for writing.
fn mounts(container: &mut Container, writable: &BTreeSet<&str>) {
    for mount in container.volume_mounts.iter_mut().flatten() {
        if !writable.contains(mount.name.as_str()) {
            mount.read_only = Some(true);
        }
    }
}
