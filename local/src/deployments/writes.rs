//! Pods made and deleted, and what came of it.

use ebb_runner::{DRAINED, PortReservation, Ports};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::plan::Victim;
use super::template;
use crate::scheduler::{NODE_NAME, Scheduler};

pub(super) enum Deletion {
    Terminating(Box<Pod>),
    Gone(String),
    Failed,
}

pub(super) async fn create_pod(
    api: &Api<Pod>,
    (ports, scheduler): (Option<&Ports>, Option<&Scheduler>),
    deployment: &Deployment,
) -> Option<(Pod, Option<PortReservation>)> {
    let template = &deployment.spec.as_ref()?.template;
    let name = deployment.name_any();
    let reservation = if let Some(ports) = ports.filter(|_| template::wants_port(template)) {
        match ports.reserve() {
            Ok(reservation) => Some(reservation),
            Err(error) => {
                tracing::warn!(%error, deployment.name = %name, "Cannot find a free port for a pod");
                return None;
            }
        }
    } else {
        None
    };
    let port = reservation.as_ref().map(PortReservation::port);
    let hash = template::template_hash(template);
    let mut pod = template::pod(deployment, &hash, &template::suffix(), port);
    match scheduler {
        Some(scheduler) => scheduler.place(&mut pod),
        None => pod.spec.get_or_insert_default().node_name = Some(NODE_NAME.to_owned()),
    }
    match api.create(&PostParams::default(), &pod).await {
        Ok(pod) => Some((pod, reservation)),
        Err(error) => {
            tracing::warn!(%error, deployment.name = %name, "Cannot create a pod");
            if let Some(scheduler) = scheduler {
                scheduler.take_back(&pod);
            }
            None
        }
    }
}

/// Marks a pod in which no request is and will be: its processes need no pause before they end.
/// A Deployment that somebody lowers by hand loses the pause as well.
pub(super) async fn mark_drained(api: &Api<Pod>, victim: &Victim) {
    let notes = json!({"metadata": {"uid": victim.uid, "annotations": {DRAINED: "true"}}});
    let written = api.patch(&victim.name, &PatchParams::default(), &Patch::Merge(notes)).await;
    if let Err(error) = written {
        // The pause is all that it costs.
        tracing::debug!(%error, pod.name = %victim.name, "A pod was not marked");
    }
}

pub(super) async fn delete_pod(api: &Api<Pod>, victim: &Victim) -> Deletion {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(victim.uid.clone()),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    match api.delete(&victim.name, &params).await {
        // The pod itself while it ends, or a Status when it is gone at once.
        Ok(answer) => match answer.left() {
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                Deletion::Terminating(Box::new(pod))
            }
            _ => Deletion::Gone(victim.uid.clone()),
        },
        // Gone, or a namesake is there: either way this pod is no more.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
            Deletion::Gone(victim.uid.clone())
        }
        Err(error) => {
            tracing::warn!(%error, pod.name = %victim.name, "Cannot delete a pod");
            Deletion::Failed
        }
    }
}
