//! The two watches: PodAutoscalers, and the pods of revisions.
//!
//! Each object is reduced to what is needed as soon as it is decoded. A list becomes one event, so
//! that the core sees the change from one complete picture to the next and never half a list.

use ebb_api::autoscaling::PodAutoscaler;
use ebb_api::report::RevisionKey;
use ebb_api::{annotations, labels};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};

use crate::event::Event;
use crate::pods::Pod;
use crate::revision::Target;

/// A watch of PodAutoscalers. Never ends; errors are logged and retried with backoff.
pub fn targets(client: Client) -> impl Stream<Item = Event> + Send + Unpin {
    let objects = watcher(Api::<PodAutoscaler>::all(client), watcher::Config::default());
    let mut list = Vec::new();
    events(objects, "PodAutoscalers", move |event| match event {
        watcher::Event::Init => {
            list.clear();
            None
        }
        watcher::Event::InitApply(object) => {
            list.extend(target(object));
            None
        }
        watcher::Event::InitDone => Some(Event::TargetsListed(std::mem::take(&mut list))),
        watcher::Event::Apply(object) => {
            target(object).map(|target| Event::TargetApplied(Box::new(target)))
        }
        watcher::Event::Delete(object) => {
            target(object).map(|target| Event::TargetDeleted { key: target.key, uid: target.uid })
        }
    })
}

/// A watch of the pods of all revisions. Never ends; errors are logged and retried with backoff.
pub fn pods(client: Client) -> impl Stream<Item = Event> + Send + Unpin {
    let config = watcher::Config::default().labels(labels::REVISION);
    let objects = watcher(Api::<v1::Pod>::all(client), config);
    let mut list = Vec::new();
    events(objects, "pods", move |event| match event {
        watcher::Event::Init => {
            list.clear();
            None
        }
        watcher::Event::InitApply(object) => {
            list.extend(Pod::from_object(&object));
            None
        }
        watcher::Event::InitDone => Some(Event::PodsListed(std::mem::take(&mut list))),
        watcher::Event::Apply(object) => match Pod::from_object(&object) {
            Some(pod) => Some(Event::PodApplied(pod)),
            None => pod_deleted(&object),
        },
        watcher::Event::Delete(object) => pod_deleted(&object),
    })
}

fn events<K: Send + 'static>(
    objects: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    what: &'static str,
    mut reduce: impl FnMut(watcher::Event<K>) -> Option<Event> + Send + 'static,
) -> impl Stream<Item = Event> + Send + Unpin {
    objects
        .default_backoff()
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

/// What is kept of a PodAutoscaler; nothing of one that another autoscaler class looks after.
fn target(object: PodAutoscaler) -> Option<Target> {
    let metadata = object.metadata;
    let class = annotations::CLASS.get(metadata.annotations.as_ref());
    if class.is_some_and(|class| class != annotations::CLASS_KPA) {
        return None;
    }
    Some(Target {
        key: RevisionKey::new(metadata.namespace?, metadata.name?),
        uid: metadata.uid?,
        generation: metadata.generation,
        spec: object.spec,
        annotations: metadata.annotations.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        status: object.status.unwrap_or_default(),
    })
}

fn pod_deleted(object: &v1::Pod) -> Option<Event> {
    let metadata = &object.metadata;
    let revision = metadata.labels.as_ref()?.get(labels::REVISION)?;
    Some(Event::PodDeleted {
        revision: RevisionKey::new(metadata.namespace.clone()?, revision.clone()),
        uid: metadata.uid.clone()?,
    })
}
