//! News: turns changes of objects into the events that the terminal shows.
//!
//! The core remembers the events that it gave for each object, so that a change that matters to
//! nobody (a new resourceVersion, a condition that was reported already) gives none.

use std::collections::{BTreeMap, BTreeSet};

use ebb_api::condition::{self, Condition};
use ebb_api::serving::{Revision, RevisionStatus, Service};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use crate::terminal::{Terminal, TerminalEvent};

/// The news last given.
#[derive(Debug, Default)]
struct News {
    /// Service → the URL and revision that it was last announced with.
    deployed: BTreeMap<String, (String, String)>,
    /// Revision → why it failed; no entry while it does not fail.
    failed: BTreeMap<String, (String, String)>,
    /// Revision → its ready replicas.
    replicas: BTreeMap<String, i32>,
    /// Revisions of which it was said what has no effect, if there is anything.
    seen: BTreeSet<String>,
    /// Why containers have no limits; `None` where they have.
    limitless: Option<String>,
}

/// Shows what happens to Services and Revisions until `shutdown`. `limitless` is why containers have no
/// limits of memory and processor time here, if they have none.
pub(crate) async fn tell(
    client: Client,
    terminal: Terminal,
    limitless: Option<String>,
    shutdown: CancellationToken,
) {
    let mut news = News { limitless, ..News::default() };
    let config = watcher::Config::default;
    let services = watcher(Api::<Service>::all(client.clone()), config())
        .default_backoff()
        .map_ok(|event| Change::Service(Box::new(event)));
    let revisions = watcher(Api::<Revision>::all(client), config())
        .default_backoff()
        .map_ok(|event| Change::Revision(Box::new(event)));
    let changes = futures::stream::select(services, revisions);
    let mut changes = std::pin::pin!(changes.take_until(shutdown.cancelled_owned()));
    while let Some(change) = changes.next().await {
        match change {
            Ok(change) => news.change(change).iter().for_each(|event| terminal.show(event)),
            Err(error) => tracing::warn!(%error, "Services cannot be watched, will try again"),
        }
    }
}

enum Change {
    Service(Box<watcher::Event<Service>>),
    Revision(Box<watcher::Event<Revision>>),
}

impl News {
    fn change(&mut self, change: Change) -> Vec<TerminalEvent> {
        use watcher::Event::{Apply, Delete, InitApply};
        match change {
            Change::Service(event) => match *event {
                Apply(service) | InitApply(service) => self.service(&service).into_iter().collect(),
                Delete(service) => {
                    let service = key(&service);
                    self.deployed.remove(&service);
                    vec![TerminalEvent::Deleted { service }]
                }
                _ => Vec::new(),
            },
            Change::Revision(event) => match *event {
                Apply(revision) | InitApply(revision) => self.revision(&revision),
                Delete(revision) => {
                    let revision = key(&revision);
                    self.failed.remove(&revision);
                    self.replicas.remove(&revision);
                    self.seen.remove(&revision);
                    Vec::new()
                }
                _ => Vec::new(),
            },
        }
    }

    fn service(&mut self, service: &Service) -> Option<TerminalEvent> {
        let status = service.status.as_ref()?;
        let current = status.observed_generation == service.metadata.generation;
        if !current || !condition::find(&status.conditions, condition::READY)?.is_true() {
            return None;
        }
        let (url, revision) = (status.url.clone()?, status.latest_ready_revision_name.clone()?);
        let service = key(service);
        let said = self.deployed.insert(service.clone(), (url.clone(), revision.clone()));
        (said != Some((url.clone(), revision.clone()))).then_some(TerminalEvent::Deployed {
            service,
            url,
            revision,
        })
    }

    fn revision(&mut self, revision: &Revision) -> Vec<TerminalEvent> {
        let mut events = Vec::from_iter(self.omission(revision));
        let Some(status) = &revision.status else {
            return events;
        };
        let revision = key(revision);
        events.extend(self.failure(&revision, status));
        let replicas = status.actual_replicas.unwrap_or(0);
        let before = self.replicas.insert(revision.clone(), replicas);
        // From and to zero the data plane says "ready", with the time that it took, and "asleep".
        if before.is_some_and(|before| before > 0 && replicas > 0 && before != replicas) {
            events.push(TerminalEvent::Scaled { revision, replicas });
        }
        events
    }

    fn omission(&mut self, revision: &Revision) -> Option<TerminalEvent> {
        let name = key(revision);
        if !self.seen.insert(name.clone()) {
            return None;
        }
        let is_limited = self.limitless.is_none();
        let (fields, more) = ebb_runner::left_out(&revision.spec.pod, is_limited);
        let has_limits = fields.iter().any(|field| field.contains(".limits."));
        let why = self.limitless.clone().filter(|_| has_limits);
        (!fields.is_empty()).then_some(TerminalEvent::LeftOut { revision: name, fields, more, why })
    }

    fn failure(&mut self, revision: &str, status: &RevisionStatus) -> Option<TerminalEvent> {
        let failed = [RevisionStatus::CONTAINER_HEALTHY, RevisionStatus::RESOURCES_AVAILABLE]
            .into_iter()
            .filter_map(|type_| condition::find(&status.conditions, type_))
            .find(|condition| condition.is_false());
        let Some(Condition { reason, message, .. }) = failed else {
            self.failed.remove(revision);
            return None;
        };
        let reason = reason.clone().unwrap_or_default();
        let message = message.clone().unwrap_or_default();
        let said = self.failed.insert(revision.to_owned(), (reason.clone(), message.clone()));
        (said.is_none_or(|(before, _)| before != reason)).then(|| TerminalEvent::Failed {
            revision: revision.to_owned(),
            reason,
            message,
        })
    }
}

fn key<K: kube::Resource>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn revision(replicas: i32, healthy: &str) -> Revision {
        serde_json::from_value(json!({
            "metadata": {"name": "digits-00001", "namespace": "default"},
            "spec": {"containers": []},
            "status": {"actualReplicas": replicas, "conditions": [
                {"type": "ContainerHealthy", "status": healthy, "reason": "ExitCode7",
                 "message": "Container failed with: boom"}]},
        }))
        .unwrap()
    }

    #[test]
    fn an_awake_revision_that_changes_its_replicas_is_scaled() {
        let mut news = News::default();
        assert_eq!(news.revision(&revision(0, "True")), []);
        assert_eq!(news.revision(&revision(2, "True")), []);
        let scaled =
            TerminalEvent::Scaled { revision: "default/digits-00001".to_owned(), replicas: 1 };
        assert_eq!(news.revision(&revision(1, "True")), [scaled]);
        assert_eq!(news.revision(&revision(0, "True")), []);
    }

    #[test]
    fn what_has_no_effect_is_told_once() {
        let mut news = News::default();
        let mut picky = revision(0, "True");
        picky.spec.pod.node_selector = Some([("gpu".to_owned(), "a100".to_owned())].into());
        let told = news.revision(&picky);
        let [TerminalEvent::LeftOut { fields, more: 0, .. }] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(fields, &["nodeSelector"]);
        assert_eq!(news.revision(&picky), []);
    }

    #[test]
    fn limits_without_control_groups_are_told_with_the_reason() {
        let limited = || {
            let mut limited = revision(0, "True");
            let limits = serde_json::json!({"limits": {"memory": "1Gi"}});
            limited.spec.pod.containers = vec![k8s_openapi::api::core::v1::Container {
                resources: serde_json::from_value(limits).unwrap(),
                ..Default::default()
            }];
            limited
        };
        let mut news = News { limitless: Some("no groups".to_owned()), ..News::default() };
        let told = news.revision(&limited());
        assert!(
            matches!(&told[..], [TerminalEvent::LeftOut { why: Some(why), .. }] if why == "no groups"),
            "{told:?}"
        );
        assert_eq!(News::default().revision(&limited()), [], "the limit is kept");
    }

    #[test]
    fn a_failure_is_told_once_until_it_is_over() {
        let mut news = News::default();
        assert_eq!(news.revision(&revision(0, "False")).len(), 1);
        assert_eq!(news.revision(&revision(0, "False")).len(), 0);
        assert_eq!(news.revision(&revision(1, "True")).len(), 0);
        assert_eq!(news.revision(&revision(1, "False")).len(), 1);
    }
}
