//! Defaults of a Revision's spec: limits, names, probes and mounts of its containers.
//!
//! Source: knative/serving pkg/apis/serving/v1/revision_defaults.go.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Probe, TCPSocketAction};

use crate::config::{Config, DefaultsConfig};
use crate::names;
use crate::serving::RevisionSpec;

/// Name of an init container that has none (`init-container-name-template` in config-defaults).
const INIT_CONTAINER: &str = "init-container";
/// Kubernetes' own defaults for a probe that has a period.
const PROBE_FAILURE_THRESHOLD: i32 = 3;
const PROBE_TIMEOUT_S: i32 = 1;

/// Defaults a spec; `links` says whether `enableServiceLinks` is defaulted too (see the caller).
pub(super) fn spec(spec: &mut RevisionSpec, links: bool, config: &Config) {
    limits(spec, &config.defaults);
    container_names(spec, &config.defaults.container_name);
    if links {
        spec.pod.enable_service_links.get_or_insert(false);
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
        container.resources.get_or_insert_default();
        // A sidecar is not probed: only one container gets requests.
        if is_only || container.ports.as_ref().is_some_and(|p| !p.is_empty()) {
            readiness_probe(container.readiness_probe.get_or_insert_default());
        }
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

fn container_names(spec: &mut RevisionSpec, default: &str) {
    let containers = &mut spec.pod.containers;
    let init = spec.pod.init_containers.as_deref_mut().unwrap_or_default();
    let mut taken: BTreeSet<String> =
        containers.iter().chain(init.iter()).map(|container| container.name.clone()).collect();
    fill_names(containers, &mut taken, default);
    fill_names(init, &mut taken, INIT_CONTAINER);
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

/// A period of 0 stays: it means "as often as is useful", which a kubelet cannot do.
fn readiness_probe(probe: &mut Probe) {
    let Probe {
        exec,
        failure_threshold,
        grpc,
        http_get,
        initial_delay_seconds: _,
        period_seconds,
        success_threshold,
        tcp_socket,
        termination_grace_period_seconds: _,
        timeout_seconds,
    } = probe;
    if exec.is_none() && grpc.is_none() && http_get.is_none() {
        // Port 0 is the port that requests go to.
        tcp_socket.get_or_insert_with(TCPSocketAction::default);
    }
    if let Some(grpc) = grpc {
        grpc.service.get_or_insert_default();
    }
    fill(success_threshold, 1);
    if period_seconds.is_some_and(|period_s| period_s != 0) {
        fill(failure_threshold, PROBE_FAILURE_THRESHOLD);
        fill(timeout_seconds, PROBE_TIMEOUT_S);
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
