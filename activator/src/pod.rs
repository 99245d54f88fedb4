//! Pods as the activator sees them: facts from the watch, and the state they lead to.
//!
//! Pure. seen → probing → ready → draining → gone, keyed by UID: an address can be reused by
//! another workload, a UID cannot.

use std::net::SocketAddr;
use std::sync::Arc;

use ebb_api::report::RevisionKey;
use ebb_api::start_phase::StartPhase;
use ebb_api::{labels, names, pod};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::dispatch::PodUid;
use crate::failure::{self, Failure};

/// The facts of a pod that the activator needs; the rest of the object is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// UID.
    pub uid: PodUid,
    /// The revision that it belongs to.
    pub revision: RevisionKey,
    /// UID of that revision: a name can be used again, and then the pods of the earlier owner of
    /// the name may live on for a while.
    pub revision_uid: String,
    /// Where it listens, once it has an address.
    pub address: Option<SocketAddr>,
    /// Whether Kubernetes says Ready.
    pub ready: bool,
    /// Whether it is being deleted, or has ended.
    pub leaving: bool,
    /// What it waits for, while it does not serve yet.
    pub phase: StartPhase,
    /// Whether its model was told to sleep, and the mark of that is there yet.
    pub asleep: bool,
    /// How often its containers were started again.
    pub restarts: i64,
    /// Why it does not run.
    pub failure: Option<Failure>,
    /// Why no node takes it.
    pub unschedulable: Option<Arc<str>>,
}

/// The state of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodState {
    /// It has no address yet, or only Kubernetes can tell when it is ready.
    Seen,
    /// It is probed again and again until it is ready.
    Probing,
    /// It gets requests.
    Ready,
    /// It was ready and Kubernetes says that it no longer is.
    Unready,
    /// It gets no more requests and goes away.
    Draining,
}

// === impl PodFacts ===

impl PodFacts {
    /// The facts of a pod that was made for a revision; `None` for any other pod, whatever its
    /// labels say.
    pub fn of(object: &core::Pod) -> Option<Self> {
        let meta = &object.metadata;
        let labels = meta.labels.as_ref()?;
        let revision = labels.get(labels::REVISION)?;
        if !is_made_for(meta, revision) {
            return None;
        }
        let status = object.status.as_ref();
        let deleted = meta.deletion_timestamp.is_some();
        Some(Self {
            uid: meta.uid.as_deref()?.into(),
            revision: RevisionKey::new(meta.namespace.clone()?, revision.clone()),
            revision_uid: labels.get(labels::REVISION_UID)?.clone(),
            address: pod::address(object),
            ready: pod::is_ready(object),
            leaving: deleted || pod::has_ended(object),
            asleep: pod::is_asleep(object),
            phase: StartPhase::of(object),
            restarts: status
                .and_then(|s| s.container_statuses.as_ref())
                .map_or(0, |all| all.iter().map(|c| i64::from(c.restart_count)).sum()),
            // The end of a container that was told to end says nothing about the next one.
            failure: if deleted { None } else { failure::of_pod(object) },
            unschedulable: failure::unschedulable(object),
        })
    }
}

// === impl PodState ===

impl PodState {
    /// The state after the watch has reported `now`; its report until then was `before`.
    /// `own_probe` is false when only Kubernetes can run the probe (exec).
    #[must_use]
    pub fn after(self, before: Option<&PodFacts>, now: &PodFacts, own_probe: bool) -> Self {
        if now.leaving {
            return Self::Draining;
        }
        if now.address.is_none() {
            return Self::Seen;
        }
        let was_ready = before.is_some_and(|before| before.ready);
        let restarted = before.is_some_and(|before| before.restarts != now.restarts);
        let starting = if own_probe { Self::Probing } else { Self::Seen };
        match self {
            // Only a change of Kubernetes' verdict counts: a pod that refused a connection is
            // probed again although Kubernetes has not noticed yet.
            _ if now.ready && !was_ready => Self::Ready,
            _ if was_ready && !now.ready => Self::Unready,
            _ if restarted && !now.ready => starting,
            // A container that ended takes no requests, even if the pod was called ready.
            Self::Ready if now.failure.is_some() => starting,
            Self::Seen => starting,
            Self::Probing | Self::Ready | Self::Unready | Self::Draining => self,
        }
    }
}

/// Whether the pod's controller is the Deployment of `revision`, through one of its `ReplicaSet`s
/// or, where there are none, directly.
///
/// Anybody who may make pods in the namespace can copy a label. With an owner UID that does not
/// exist, the garbage collector deletes the pod; with one that exists, the `ReplicaSet` counts the
/// pod, and anybody able to do that could as well change the Deployment.
fn is_made_for(meta: &ObjectMeta, revision: &str) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let Some(owner) = owners.iter().find(|owner| owner.controller == Some(true)) else {
        return false;
    };
    let OwnerReference { api_version, kind, name, .. } = owner;
    let earlier = names::earlier_deployment(revision);
    let made =
        [Some(names::deployment(revision)), earlier].into_iter().flatten().any(|deployment| {
            match kind.as_str() {
                "Deployment" => *name == deployment,
                // A `ReplicaSet` is named after its Deployment and a hash of the template, which has no
                // dash.
                "ReplicaSet" => name
                    .strip_prefix(&deployment)
                    .and_then(|rest| rest.strip_prefix('-'))
                    .is_some_and(|hash| !hash.is_empty() && !hash.contains('-')),
                _ => false,
            }
        });
    made && api_version.starts_with("apps/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> PodFacts {
        PodFacts {
            phase: StartPhase::Loading,
            asleep: false,
            uid: "u".into(),
            revision: RevisionKey::new("default", "r"),
            revision_uid: "r".to_owned(),
            address: Some(([10, 0, 0, 1], 8080).into()),
            ready: false,
            leaving: false,
            restarts: 0,
            failure: None,
            unschedulable: None,
        }
    }

    #[test]
    fn a_pod_is_probed_as_soon_as_it_has_an_address() {
        let homeless = PodFacts { address: None, ..facts() };
        let seen = PodState::Seen.after(None, &homeless, true);
        assert_eq!(seen, PodState::Seen);
        assert_eq!(seen.after(Some(&homeless), &facts(), true), PodState::Probing);
        assert_eq!(seen.after(Some(&homeless), &facts(), false), PodState::Seen, "exec probe");
    }

    #[test]
    fn kubernetes_takes_a_pod_out_only_after_it_called_it_ready() {
        let ready = PodFacts { ready: true, ..facts() };
        // Ready by our own probe: Kubernetes' "not yet" means nothing.
        assert_eq!(PodState::Ready.after(Some(&facts()), &facts(), true), PodState::Ready);
        assert_eq!(PodState::Ready.after(Some(&facts()), &ready, true), PodState::Ready);
        let unready = PodState::Ready.after(Some(&ready), &facts(), true);
        assert_eq!(unready, PodState::Unready);
        assert_eq!(unready.after(Some(&facts()), &facts(), true), PodState::Unready);
        assert_eq!(unready.after(Some(&facts()), &ready, true), PodState::Ready);
    }

    #[test]
    fn a_suspect_stays_suspect_while_kubernetes_only_repeats_itself() {
        let ready = PodFacts { ready: true, ..facts() };
        assert_eq!(PodState::Probing.after(Some(&ready), &ready, true), PodState::Probing);
    }

    #[test]
    fn a_restart_or_an_end_means_probing_again() {
        let again = PodFacts { restarts: 1, ..facts() };
        assert_eq!(PodState::Ready.after(Some(&facts()), &again, true), PodState::Probing);
        let failure = Failure { reason: "ExitCode1".into(), is_lasting: false };
        let ended = PodFacts { failure: Some(failure), ..facts() };
        assert_eq!(PodState::Ready.after(Some(&facts()), &ended, true), PodState::Probing);
    }

    #[test]
    fn restarts_are_counted_however_many_a_status_says() {
        let container = |restarts: i32| {
            serde_json::json!({
                "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
            })
        };
        let pod: core::Pod = serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": "r-1", "namespace": "default", "uid": "u",
                "labels": {labels::REVISION: "r", labels::REVISION_UID: "r"},
                "ownerReferences": [owner("ReplicaSet", "r-deployment-5d8f")],
            },
            "status": {"containerStatuses": [container(i32::MAX), container(1)]},
        }))
        .unwrap();
        assert_eq!(PodFacts::of(&pod).unwrap().restarts, i64::from(i32::MAX) + 1);
    }

    #[test]
    fn how_a_deleted_pod_ended_is_no_failure() {
        let mut pod: core::Pod = serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": "r-1", "namespace": "default", "uid": "u",
                "labels": {labels::REVISION: "r", labels::REVISION_UID: "r"},
                "ownerReferences": [owner("ReplicaSet", "r-deployment-5d8f")],
            },
            "status": {"containerStatuses": [{
                "name": "user-container", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 0}},
            }]},
        }))
        .unwrap();
        assert_eq!(&*PodFacts::of(&pod).unwrap().failure.unwrap().reason, "ExitCode0");
        pod.metadata.deletion_timestamp =
            Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap());
        let facts = PodFacts::of(&pod).unwrap();
        assert!(facts.leaving && facts.failure.is_none());
    }

    fn owner(kind: &str, name: &str) -> serde_json::Value {
        let version = "apps/v1";
        serde_json::json!({
            "apiVersion": version, "kind": kind, "name": name, "uid": "o", "controller": true,
        })
    }

    /// A label alone does not make a pod belong to a revision.
    #[test]
    fn a_pod_is_of_a_revision_only_if_its_deployment_made_it() {
        let is_pod = |owners: serde_json::Value| {
            let pod: core::Pod = serde_json::from_value(serde_json::json!({"metadata": {
                "name": "r-1", "namespace": "default", "uid": "u",
                "labels": {labels::REVISION: "r", labels::REVISION_UID: "r"},
                "ownerReferences": owners,
            }}))
            .unwrap();
            PodFacts::of(&pod).is_some()
        };
        assert!(is_pod(serde_json::json!([owner("ReplicaSet", "r-deployment-5d8f")])));
        assert!(is_pod(serde_json::json!([owner("Deployment", "r-deployment")])));
        assert!(!is_pod(serde_json::json!([])), "made by hand");
        for (kind, name) in [
            ("ReplicaSet", "r-deployment"),
            ("ReplicaSet", "r-deployment-a-b"),
            ("ReplicaSet", "other-deployment-5d8f"),
            ("Deployment", "other-deployment"),
            ("Job", "r-deployment"),
        ] {
            assert!(!is_pod(serde_json::json!([owner(kind, name)])), "{kind} {name}");
        }
        let mut loose = owner("ReplicaSet", "r-deployment-5d8f");
        loose["controller"] = false.into();
        assert!(!is_pod(serde_json::json!([loose])), "an owner that does not control it");
        let mut foreign = owner("Deployment", "r-deployment");
        foreign["apiVersion"] = "example.com/v1".into();
        assert!(!is_pod(serde_json::json!([foreign])), "a Deployment of somebody else's kind");
    }

    #[test]
    fn a_deployment_may_have_the_name_that_an_earlier_release_gave_it() {
        let revision = "r".repeat(60);
        let made_by = |deployment: &str| {
            let owners = [owner("ReplicaSet", &format!("{deployment}-5d8f"))];
            let meta = serde_json::json!({"ownerReferences": owners});
            is_made_for(&serde_json::from_value(meta).unwrap(), &revision)
        };
        assert!(made_by(&names::deployment(&revision)));
        assert!(made_by(&names::earlier_deployment(&revision).unwrap()));
        assert!(!made_by(&names::deployment(&revision[1..])));
    }

    #[test]
    fn a_deleted_pod_drains_from_every_state() {
        let leaving = PodFacts { leaving: true, ready: true, ..facts() };
        for state in [PodState::Seen, PodState::Probing, PodState::Ready, PodState::Unready] {
            assert_eq!(state.after(Some(&facts()), &leaving, true), PodState::Draining);
        }
    }
}
