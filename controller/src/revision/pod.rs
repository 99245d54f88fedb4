//! The pods of a Revision: what its author wrote, and what the runtime contract adds.
//!
//! No sidecar, no volume, nothing that Pod Security `restricted` refuses. Source of what is
//! added: knative/serving pkg/reconciler/revision/resources/deploy.go.

use std::collections::BTreeMap;

use ebb_api::config::Config;
use ebb_api::labels;
use ebb_api::model_files::ModelFiles;
use ebb_api::names;
use ebb_api::serving::Revision;
use ebb_api::serving::RevisionSpec;
use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, EnvVar, Lifecycle, LifecycleHandler, PodAffinityTerm,
    PodAntiAffinity, PodSpec, Probe, SleepAction, TCPSocketAction, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use crate::ModelFetcher;

mod model;

/// How long a pod that others delete keeps serving: the time for the news of its termination to
/// reach every activator. Ebb's own scale-downs have drained the pod before.
const PRE_STOP_SLEEP_S: i64 = 3;

/// Annotations of the pods.
pub(super) fn annotations(
    revision: &Revision,
    mut notes: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    if let Some(index) = serving_index(&revision.spec) {
        // `kubectl logs` and `kubectl exec` then need no -c.
        notes.insert(
            "kubectl.kubernetes.io/default-container".to_owned(),
            container_name(revision, index),
        );
    }
    notes
}

/// The pod spec. `running` is the one that the Deployment has, if it has replicas.
///
/// # Errors
///
/// Why these pods cannot be, as one sentence for the Revision's condition.
pub(super) fn build(
    revision: &Revision,
    config: &Config,
    fetcher: Option<&ModelFetcher>,
    running: Option<&PodSpec>,
) -> Result<PodSpec, String> {
    let mut pod = revision.spec.pod.clone();
    let grace_s =
        revision.spec.timeout_seconds.unwrap_or(config.defaults.revision_timeout_s).max(1);
    let serving = serving_index(&revision.spec);
    for (index, container) in pod.containers.iter_mut().enumerate() {
        container.name = container_name(revision, index);
        finish(container, revision, grace_s);
        if serving == Some(index) {
            open(container, revision.spec.port());
        }
    }
    pod.termination_grace_period_seconds = Some(grace_s);
    // Knative's default: hundreds of variables of unrelated Services slow a start down. An object that
    // went past admission gets it too, unless the settings leave the field to Kubernetes.
    if pod.enable_service_links.is_none() {
        pod.enable_service_links = config.defaults.enable_service_links.map(|_| false);
    }
    if pod.affinity.is_none() && config.deployment.spreads {
        pod.affinity = Some(spread(revision));
    }
    if pod.runtime_class_name.is_none() {
        let class = config.deployment.runtime_class(revision.labels());
        pod.runtime_class_name = class.map(str::to_owned);
    }
    // Admission refuses annotations that cannot be read; one that slipped in asks for nothing.
    if let Ok(Some(files)) = ModelFiles::of(revision.metadata.annotations.as_ref()) {
        model::add(&mut pod, &files, fetcher, running)?;
    }
    Ok(pod)
}

fn serving_index(spec: &RevisionSpec) -> Option<usize> {
    let serving = spec.serving_container()?;
    spec.pod.containers.iter().position(|container| std::ptr::eq(container, serving))
}

/// Names of containers that admission left unnamed, as Knative gives them.
pub(super) fn container_name(revision: &Revision, index: usize) -> String {
    let containers = &revision.spec.pod.containers;
    match containers.get(index) {
        Some(container) if !container.name.is_empty() => container.name.clone(),
        _ if containers.len() <= 1 => names::DEFAULT_CONTAINER.to_owned(),
        _ => format!("{}-{index}", names::DEFAULT_CONTAINER),
    }
}

/// Adds what the runtime contract gives to every container.
fn finish(container: &mut Container, revision: &Revision, grace_s: i64) {
    let own = revision.labels();
    let of = |key: &str| own.get(key).cloned().unwrap_or_default();
    let env = container.env.get_or_insert_default();
    for (name, value) in [
        ("K_REVISION", revision.name_any()),
        ("K_CONFIGURATION", of(labels::CONFIGURATION)),
        ("K_SERVICE", of(labels::SERVICE)),
    ] {
        env.push(variable(name, value));
    }
    container.lifecycle = Some(Lifecycle {
        pre_stop: Some(LifecycleHandler {
            // Kubernetes refuses a sleep that is longer than the grace period.
            sleep: Some(SleepAction { seconds: PRE_STOP_SLEEP_S.min(grace_s) }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    });
    container.stdin = None;
    container.tty = None;
    container.termination_message_policy.get_or_insert_with(|| "FallbackToLogsOnError".to_owned());
}

/// Adds what only the container that gets the requests has: its port, `PORT` and its probes.
fn open(container: &mut Container, port: i32) {
    let named =
        container.ports.as_ref().and_then(|ports| ports.first()).and_then(|port| port.name.clone());
    container.ports = Some(vec![ContainerPort {
        name: Some(names::USER_PORT_NAME.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }]);
    container.env.get_or_insert_default().push(variable("PORT", port.to_string()));

    let readiness = container.readiness_probe.get_or_insert_default();
    if readiness.exec.is_none()
        && readiness.grpc.is_none()
        && readiness.http_get.is_none()
        && readiness.tcp_socket.is_none()
    {
        readiness.tcp_socket = Some(TCPSocketAction::default());
    }
    // 0 asks for Knative's aggressive probing: the activator does that; Kubernetes' own finest
    // step is a second.
    if readiness.period_seconds.unwrap_or(0) == 0 {
        readiness.period_seconds = Some(1);
    }
    for probe in [
        &mut container.readiness_probe,
        &mut container.liveness_probe,
        &mut container.startup_probe,
    ]
    .into_iter()
    .flatten()
    {
        aim(probe, port, named.as_deref());
    }
}

/// Fills in the port of a probe that names none, or names the port that was renamed.
fn aim(probe: &mut Probe, port: i32, named: Option<&str>) {
    let target = |found: &mut IntOrString| {
        let ours = match found {
            IntOrString::Int(number) => *number == 0,
            IntOrString::String(name) => name.is_empty() || Some(name.as_str()) == named,
        };
        if ours {
            *found = IntOrString::Int(port);
        }
    };
    if let Some(http) = &mut probe.http_get {
        target(&mut http.port);
        // Knative takes `http` as well, Kubernetes does not.
        if let Some(scheme) = &mut http.scheme {
            scheme.make_ascii_uppercase();
        }
    }
    if let Some(tcp) = &mut probe.tcp_socket {
        target(&mut tcp.port);
    }
    if let Some(grpc) = &mut probe.grpc
        && grpc.port == 0
    {
        grpc.port = port;
    }
    // Zeroes are "not set" in Knative's API and invalid in Kubernetes'.
    for field in [
        &mut probe.period_seconds,
        &mut probe.timeout_seconds,
        &mut probe.success_threshold,
        &mut probe.failure_threshold,
    ] {
        *field = field.filter(|value| *value != 0);
    }
}

/// Prefers nodes without a pod of the same Revision (Knative's `default-affinity-type`).
fn spread(revision: &Revision) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some([(labels::REVISION.to_owned(), revision.name_any())].into()),
            match_expressions: None,
        }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm { pod_affinity_term: term, weight: 100 },
            ]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn variable(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

#[cfg(test)]
mod tests;
