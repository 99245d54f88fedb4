//! From a Deployment's template to a pod: name, labels, owner, and its own port.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use ebb_api::names::USER_PORT_NAME;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodTemplateSpec, Probe};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The label that says which template a pod was made from, as in Kubernetes.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Letters and digits of generated names; without vowels no words come out (Kubernetes uses the
/// same set, `k8s.io/apimachinery/pkg/util/rand`).
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;

/// A name's limit in Kubernetes, less the two dashes, the hash and the suffix of a pod's name.
const MAX_BASE_LENGTH: usize = 253 - 2 - 10 - SUFFIX_LENGTH;

/// A short digest of a template: equal templates have equal digests, also in another process.
pub fn template_hash(template: &PodTemplateSpec) -> String {
    // The JSON text is canonical: fields come in the order of the type, maps are sorted.
    let text = serde_json::to_vec(template).unwrap_or_default();
    // FNV-1a, 32 bits, as Kubernetes' own label; a collision only delays the Deployment's own
    // rollout. By hand, for the crate `fnv` has 64 bits only, and other labels would replace every
    // pod.
    let digest = text.iter().fold(0x811c_9dc5_u32, |digest, byte| {
        (digest ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    spell(u64::from(digest), 7)
}

/// Five random letters. Not a secret; a clash is answered by the API and tried again.
pub(super) fn suffix() -> String {
    spell(RandomState::new().build_hasher().finish(), SUFFIX_LENGTH)
}

fn spell(mut number: u64, length: usize) -> String {
    let base = NAME_LETTERS.len() as u64;
    (0..length)
        .map(|_| {
            let index = usize::try_from(number % base).unwrap_or_default();
            number /= base;
            char::from(NAME_LETTERS[index])
        })
        .collect()
}

/// Whether pods of `template` are reached through a port of their own.
pub(super) fn wants_port(template: &PodTemplateSpec) -> bool {
    template
        .spec
        .as_ref()
        .is_some_and(|spec| spec.containers.iter().any(|c| user_port(c).is_some()))
}

/// The pod to create. `port` replaces the template's `user-port` wherever that number stands: on
/// one machine every pod needs a number of its own.
pub(super) fn pod(deployment: &Deployment, hash: &str, suffix: &str, port: Option<u16>) -> Pod {
    let template = deployment.spec.as_ref().map(|spec| spec.template.clone());
    let template = template.unwrap_or_default();
    let inherited = template.metadata.unwrap_or_default();
    let owner = deployment.metadata.name.as_deref().unwrap_or_default();
    let base: String = owner.chars().take(MAX_BASE_LENGTH).collect();
    let mut labels = inherited.labels.unwrap_or_default();
    labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.to_owned());
    let mut spec = template.spec.unwrap_or_default();
    if let Some(port) = port {
        for container in &mut spec.containers {
            assign(container, port);
        }
    }
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("{base}-{hash}-{suffix}")),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: inherited.annotations,
            owner_references: Some(vec![OwnerReference {
                api_version: "apps/v1".to_owned(),
                kind: "Deployment".to_owned(),
                name: owner.to_owned(),
                uid: deployment.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

fn user_port(container: &Container) -> Option<i32> {
    let ports = container.ports.as_ref()?;
    let port = ports.iter().find(|port| port.name.as_deref() == Some(USER_PORT_NAME))?;
    Some(port.container_port)
}

/// Gives the container with the `user-port` its number: in the port, in `PORT`, and in the probes
/// that named the template's number.
fn assign(container: &mut Container, port: u16) {
    let Some(before) = user_port(container) else {
        return;
    };
    let number = i32::from(port);
    for declared in container.ports.iter_mut().flatten() {
        if declared.name.as_deref() == Some(USER_PORT_NAME) {
            declared.container_port = number;
        }
    }
    let env = container.env.get_or_insert_default();
    match env.iter_mut().find(|variable| variable.name == "PORT") {
        Some(variable) => {
            variable.value = Some(port.to_string());
            variable.value_from = None;
        }
        // First, so that the other variables can refer to it.
        None => env.insert(
            0,
            EnvVar { name: "PORT".to_owned(), value: Some(port.to_string()), value_from: None },
        ),
    }
    let probes = [
        &mut container.readiness_probe,
        &mut container.liveness_probe,
        &mut container.startup_probe,
    ];
    for probe in probes.into_iter().flatten() {
        redirect(probe, before, number);
    }
}

/// Points a probe of the old number, or of none, to the new one.
fn redirect(probe: &mut Probe, before: i32, now: i32) {
    let moves = |port: &IntOrString| matches!(port, IntOrString::Int(n) if *n == before || *n == 0);
    if let Some(action) = probe.http_get.as_mut().filter(|a| moves(&a.port)) {
        action.port = IntOrString::Int(now);
    }
    if let Some(action) = probe.tcp_socket.as_mut().filter(|a| moves(&a.port)) {
        action.port = IntOrString::Int(now);
    }
    if let Some(action) = probe.grpc.as_mut()
        && (action.port == before || action.port == 0)
    {
        action.port = now;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "m-00001-deployment", "namespace": "ns", "uid": "u1"},
            "spec": {
                "selector": {"matchLabels": {"app": "m"}},
                "template": {
                    "metadata": {"labels": {"app": "m"}, "annotations": {"a": "b"}},
                    "spec": {"containers": [{
                        "name": "user-container",
                        "ports": [{"name": "user-port", "containerPort": 8080}],
                        "env": [{"name": "PORT", "value": "8080"}],
                        "readinessProbe": {"tcpSocket": {"port": 8080}},
                        "livenessProbe": {"httpGet": {"port": 9000, "path": "/"}},
                        "startupProbe": {"grpc": {"port": 0}},
                    }]},
                },
            },
        }))
        .expect("a deployment")
    }

    #[test]
    fn a_pod_has_its_number_wherever_the_template_named_the_old_one() {
        let pod = pod(&deployment(), "hash", "abcde", Some(41_001));
        assert_eq!(pod.metadata.name.as_deref(), Some("m-00001-deployment-hash-abcde"));
        let container = &pod.spec.expect("a spec").containers[0];
        assert_eq!(user_port(container), Some(41_001));
        let env = container.env.as_ref().expect("env");
        assert_eq!(env[0].value.as_deref(), Some("41001"));
        let tcp = container.readiness_probe.as_ref().and_then(|p| p.tcp_socket.as_ref());
        assert_eq!(tcp.expect("tcp").port, IntOrString::Int(41_001));
        let http = container.liveness_probe.as_ref().and_then(|p| p.http_get.as_ref());
        assert_eq!(http.expect("http").port, IntOrString::Int(9000));
        let grpc = container.startup_probe.as_ref().and_then(|p| p.grpc.as_ref());
        assert_eq!(grpc.expect("grpc").port, 41_001);
    }

    #[test]
    fn a_pod_is_its_deployments_and_carries_the_templates_labels() {
        let pod = pod(&deployment(), "hash", "abcde", None);
        let labels = pod.metadata.labels.expect("labels");
        assert_eq!(labels.get("app").map(String::as_str), Some("m"));
        assert_eq!(labels.get(POD_TEMPLATE_HASH).map(String::as_str), Some("hash"));
        let annotations = pod.metadata.annotations.expect("annotations");
        assert_eq!(annotations.get("a").map(String::as_str), Some("b"));
        let owner = &pod.metadata.owner_references.expect("an owner")[0];
        assert_eq!((owner.uid.as_str(), owner.controller), ("u1", Some(true)));
    }

    #[test]
    fn the_hash_follows_the_template_and_nothing_else() {
        let mut deployment = deployment();
        let hash = |d: &Deployment| template_hash(&d.spec.as_ref().expect("a spec").template);
        let before = hash(&deployment);
        let spec = deployment.spec.as_mut().expect("a spec");
        spec.replicas = Some(3);
        assert_eq!(hash(&deployment), before);
        let spec = deployment.spec.as_mut().expect("a spec");
        spec.template.metadata = None;
        assert_ne!(hash(&deployment), before);
    }
}
