//! The watches: Revisions, their pods, and the pods of activators.
//!
//! Each object is reduced to what is needed as soon as it is decoded. A list becomes one event, so
//! that the core sees the change from one complete picture to the next and never half a list.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::pod::WatchedPod;
use ebb_api::report::RevisionKey;
use ebb_api::serving::{ROUTING_ACTIVE, ROUTING_PENDING, Revision, RevisionStatus};
use ebb_api::standby::STANDBY_KEYS;
use ebb_api::starts::Starts;
use ebb_api::{annotations, condition, labels, priority};
use ebb_daemon::desired::Seen;
use ebb_daemon::pauses::WatchPauses;
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};

use crate::activators::ReporterPod;
use crate::event::FleetEvent;
use crate::pods::RevisionPod;
use crate::scale_target::ScaleTarget;

/// Name of the activator's container in its pod, as in the chart.
const ACTIVATOR_CONTAINER: &str = "activator";

/// A watch of Revisions. Never ends; errors are logged and retried with backoff.
pub fn targets(client: Client) -> impl Stream<Item = FleetEvent> + Send + Unpin {
    let objects = watcher(Api::<Revision>::all(client), watcher::Config::default());
    let mut list = Vec::new();
    events(objects, "Revisions", move |event| match event {
        watcher::Event::Init => {
            list.clear();
            None
        }
        watcher::Event::InitApply(object) => match target(object) {
            Some(FleetEvent::TargetApplied(target)) => {
                list.push(*target);
                None
            }
            other => other,
        },
        watcher::Event::InitDone => Some(FleetEvent::TargetsListed(std::mem::take(&mut list))),
        watcher::Event::Apply(object) => target(object),
        watcher::Event::Delete(object) => {
            let (key, uid) = named(&object)?;
            Some(FleetEvent::TargetDeleted { key, uid })
        }
    })
}

/// A watch of the pods of all revisions. Never ends; errors are logged and retried with backoff.
pub fn pods(client: Client) -> impl Stream<Item = FleetEvent> + Send + Unpin {
    let config = watcher::Config::default().labels(labels::REVISION);
    let objects = watcher(Api::<WatchedPod>::all(client), config);
    let mut list = Vec::new();
    events(objects, "pods", move |event| match event {
        watcher::Event::Init => {
            list.clear();
            None
        }
        watcher::Event::InitApply(object) => {
            list.extend(RevisionPod::from_object(&object, Timestamp::now()));
            None
        }
        watcher::Event::InitDone => Some(FleetEvent::PodsListed(std::mem::take(&mut list))),
        watcher::Event::Apply(object) => {
            match RevisionPod::from_object(&object, Timestamp::now()) {
                Some((revision, pod)) => Some(FleetEvent::PodApplied { revision, pod }),
                None => pod_deleted(&object),
            }
        }
        watcher::Event::Delete(object) => pod_deleted(&object),
    })
}

/// A watch of the activators' pods in one namespace: each change is one event that names all of
/// them. Never ends; errors are logged and retried with backoff.
pub fn activators(
    client: Client,
    namespace: &str,
    selector: &str,
) -> impl Stream<Item = FleetEvent> + Send + Unpin + use<> {
    let config = watcher::Config::default().labels(selector);
    let objects = watcher(Api::<WatchedPod>::namespaced(client, namespace), config);
    let mut pods = BTreeMap::new();
    let mut is_listing = true;
    events(objects, "activators' pods", move |event| {
        match event {
            watcher::Event::Init => {
                is_listing = true;
                pods.clear();
            }
            watcher::Event::InitDone => is_listing = false,
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                let name = object.name_any();
                match activator(&object) {
                    Some(state) => pods.insert(name, state),
                    None => pods.remove(&name),
                };
            }
            watcher::Event::Delete(object) => drop(pods.remove(&object.name_any())),
        }
        (!is_listing).then(|| FleetEvent::Activators(pods.clone()))
    })
}

/// The state of an activator's pod; `None` once it has come to its end. Kubelet's last word on its
/// containers decides: a node that cannot be reached, or a readiness probe that fails, makes the
/// pod not Ready and ends none of its requests. A container that waits for its next start, be it
/// for ever, sends nothing.
fn activator(pod: &v1::Pod) -> Option<ReporterPod> {
    let status = pod.status.as_ref();
    if matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed")) {
        return None;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        return Some(ReporterPod::Terminating(Duration::from_secs(grace.try_into().unwrap_or(0))));
    }
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let containers: Vec<_> = containers.into_iter().flatten().collect();
    let own = containers.iter().find(|container| container.name == ACTIVATOR_CONTAINER);
    let runs = |container: &v1::ContainerStatus| {
        container.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    // If no container has that name, any of them may be the activator. If one has it, a sidecar
    // beside an activator that crashes again and again must hold no scale.
    let is_running = match own {
        Some(own) => runs(own),
        None => containers.into_iter().any(runs),
    };
    Some(if is_running { ReporterPod::Running } else { ReporterPod::Stopped })
}

fn events<K: Send + 'static>(
    objects: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    what: &'static str,
    mut reduce: impl FnMut(watcher::Event<K>) -> Option<FleetEvent> + Send + 'static,
) -> impl Stream<Item = FleetEvent> + Send + Unpin {
    objects
        .backoff(WatchPauses::default())
        .filter_map(move |result| {
            let event = match result {
                Ok(event) => reduce(event),
                Err(error) => {
                    tracing::warn!(%error, "The watch of {what} broke and is being restored");
                    None
                }
            };
            std::future::ready(event)
        })
        .boxed()
}

/// The kept fields of a Revision, or only its name if another autoscaler class scales it.
fn target(object: Revision) -> Option<FleetEvent> {
    let (key, uid) = named(&object)?;
    let is_reachable = is_reachable(&object);
    let priority = priority::of(object.metadata.annotations.as_ref()).unwrap_or_default();
    let start = Starts::of(&object).p90();
    let Seen { version, replicas: desired } = Seen::of(&object);
    let metadata = object.metadata;
    let status = object.status.unwrap_or_default();
    if !annotations::is_scaled_here(metadata.annotations.as_ref()) {
        return Some(FleetEvent::TargetLeft { key, uid });
    }
    Some(FleetEvent::TargetApplied(Box::new(ScaleTarget {
        key: Arc::new(key),
        uid,
        container_concurrency: object.spec.container_concurrency.unwrap_or(0),
        is_reachable,
        priority,
        start,
        annotations: kept(metadata.annotations, |key| {
            key.starts_with(annotations::AUTOSCALING_GROUP)
                || annotations::PROGRESS_DEADLINE.0.contains(&key)
                || STANDBY_KEYS.iter().any(|own| own.0.contains(&key))
        }),
        labels: kept(metadata.labels, |key| {
            [labels::SERVICE, labels::CONFIGURATION].contains(&key)
        }),
        is_initialized: status.was_initialized(),
        version,
        desired,
        active: condition::find(&status.conditions, RevisionStatus::ACTIVE).cloned(),
    })))
}

fn named(object: &Revision) -> Option<(RevisionKey, String)> {
    let metadata = &object.metadata;
    let key = RevisionKey::new(metadata.namespace.clone()?, metadata.name.clone()?);
    Some((key, metadata.uid.clone()?))
}

/// The entries that scaling reads. The others would be most of what is held of a Revision.
fn kept(
    entries: Option<BTreeMap<String, String>>,
    is_read: impl Fn(&str) -> bool,
) -> BTreeMap<String, String> {
    let entries = entries.unwrap_or_default().into_iter();
    entries.filter(|(key, _)| is_read(key)).collect()
}

/// Whether a Route may send requests: bounds that exist for requests (min-scale) hold only then.
/// Source: knative/serving pkg/reconciler/revision/resources/pa.go. A failed Revision counts as
/// unreachable there, to let its pods go; here the deadline does that, and a Revision that was
/// ready must be free to be tried again.
fn is_reachable(revision: &Revision) -> bool {
    let state = revision.labels().get(labels::ROUTING_STATE).map(String::as_str);
    matches!(state, None | Some(ROUTING_ACTIVE | ROUTING_PENDING | ""))
}

fn pod_deleted(object: &v1::Pod) -> Option<FleetEvent> {
    let metadata = &object.metadata;
    let revision = metadata.labels.as_ref()?.get(labels::REVISION)?;
    Some(FleetEvent::PodDeleted {
        revision: RevisionKey::new(metadata.namespace.clone()?, revision.clone()),
        uid: metadata.uid.clone()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_revision_in_reserve_is_out_of_reach() {
        for (state, expected) in [
            (None, true),
            (Some("pending"), true),
            (Some("active"), true),
            (Some("reserve"), false),
        ] {
            let mut revision = Revision::default();
            revision.metadata.labels =
                state.map(|state| [(labels::ROUTING_STATE.to_owned(), state.to_owned())].into());
            assert_eq!(is_reachable(&revision), expected, "{state:?}");
        }
    }

    /// An activator that runs may have requests in pods, Ready or not; one whose container does not
    /// run has none, however often it is started again.
    #[test]
    fn an_activator_serves_for_as_long_as_its_container_runs() {
        let running = || serde_json::json!({"running": {"startedAt": "2026-11-25T18:00:00Z"}});
        let named = |name: &str, state: serde_json::Value| {
            serde_json::json!({
                "name": name, "image": "", "imageID": "", "ready": false,
                "restartCount": 7, "state": state,
            })
        };
        let pod = |phase: &str, ready: &str, state: serde_json::Value, deleted: bool| {
            let mut pod: v1::Pod = serde_json::from_value(serde_json::json!({
                "metadata": {"name": "ebb-activator-x"},
                "status": {
                    "phase": phase,
                    "conditions": [
                        {"type": "Ready", "status": ready},
                        {"type": "ContainersReady", "status": ready},
                    ],
                    // A sidecar runs and runs.
                    "containerStatuses": [named("proxy", running()), named("activator", state)],
                },
            }))
            .unwrap();
            if deleted {
                pod.metadata.deletion_timestamp =
                    serde_json::from_value(serde_json::json!("2026-11-25T19:00:00Z")).unwrap();
                pod.metadata.deletion_grace_period_seconds = Some(320);
            }
            activator(&pod)
        };
        let unnamed: v1::Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "ebb-activator-x"},
            "status": {"phase": "Running", "containerStatuses": [named("gateway", running())]},
        }))
        .unwrap();
        assert_eq!(activator(&unnamed), Some(ReporterPod::Running), "a chart of another name");
        let waiting = |reason: &str| serde_json::json!({"waiting": {"reason": reason}});
        let ended = serde_json::json!({"terminated": {"exitCode": 1}});
        let ending = ReporterPod::Terminating(Duration::from_secs(320));
        assert_eq!(pod("Running", "True", running(), false), Some(ReporterPod::Running));
        assert_eq!(pod("Running", "False", running(), false), Some(ReporterPod::Running));
        for stopped in [waiting("CrashLoopBackOff"), waiting("ContainerCreating"), ended] {
            assert_eq!(pod("Running", "False", stopped, false), Some(ReporterPod::Stopped));
        }
        assert_eq!(pod("Running", "False", running(), true), Some(ending));
        assert_eq!(pod("Succeeded", "False", running(), false), None);
        assert_eq!(activator(&v1::Pod::default()), Some(ReporterPod::Stopped), "not started yet");
    }

    #[test]
    fn a_revision_of_another_autoscaler_is_not_ours() {
        let mut revision = Revision::default();
        revision.metadata.namespace = Some("models".to_owned());
        revision.metadata.name = Some("digits-00001".to_owned());
        revision.metadata.uid = Some("u".to_owned());
        revision.spec.container_concurrency = Some(3);
        let Some(FleetEvent::TargetApplied(ours)) = target(revision.clone()) else {
            panic!("{revision:?}");
        };
        assert_eq!((ours.container_concurrency, ours.desired), (3, None));
        let class = (annotations::CLASS.name().to_owned(), annotations::CLASS_HPA.to_owned());
        revision.metadata.annotations = Some([class].into());
        let Some(FleetEvent::TargetLeft { key, uid }) = target(revision) else {
            panic!("another autoscaler's");
        };
        assert_eq!((key, uid), (RevisionKey::new("models", "digits-00001"), "u".to_owned()));
    }
}
