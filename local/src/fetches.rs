//! Fetches of models: shown while they go on; and models that pods use stay in the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebb_api::labels;
use ebb_api::model_files::{NAME, SOURCE_VARIABLE};
use ebb_api::model_source::ModelSource;
use ebb_fetch::watched::{self, FetchProgress, ModelLease};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::terminal::{Terminal, TerminalEvent};

/// How often the progress of a fetch is read: as often as it is written.
const READ_EVERY: Duration = Duration::from_millis(500);
/// How often a line about it is shown where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A pod that fetches its model, or has fetched it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fetch {
    /// The model's folder in the cache.
    key: String,
    /// The model, as a person wrote it.
    model: String,
    /// `namespace/name` of the revision.
    revision: String,
    /// Whether the init container runs.
    is_running: bool,
    /// Whether it has ended. Before, the fetch itself keeps the model, and may have to replace a damaged
    /// one, which it does not do while somebody else uses it.
    has_ended: bool,
}

/// The pods with models, by UID.
#[derive(Debug, Default)]
struct Fetches {
    pods: BTreeMap<String, Fetch>,
    /// Pods of a list that has not ended.
    listed: Option<BTreeMap<String, Fetch>>,
}

/// A fetch that is shown.
struct Shown {
    model: String,
    revision: String,
    since: Instant,
    line_at: Instant,
    last: Option<FetchProgress>,
}

/// Shows fetches and holds leases until `shutdown`.
pub(crate) async fn follow(
    client: Client,
    cache: PathBuf,
    terminal: Terminal,
    shutdown: CancellationToken,
) {
    let events = watcher(Api::<Pod>::all(client), watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events.take_until(shutdown.cancelled_owned()));
    let mut fetches = Fetches::default();
    let mut leases: BTreeMap<String, ModelLease> = BTreeMap::new();
    let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
    let mut ticks = interval(READ_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_busy = !shown.is_empty() || fetches.keys().any(|key| !leases.contains_key(key));
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => fetches.change(event),
                Some(Err(error)) => {
                    tracing::warn!(%error, "Pods cannot be watched, will try again");
                }
                None => return,
            },
            _ = ticks.tick(), if is_busy => {}
        }
        leases = held(leases, &fetches, &cache).await;
        shown = show(shown, &fetches, &cache, &terminal).await;
    }
}

/// The leases of the models that pods have. One that cannot be had now is tried again.
async fn held(
    mut leases: BTreeMap<String, ModelLease>,
    fetches: &Fetches,
    cache: &Path,
) -> BTreeMap<String, ModelLease> {
    let keys: BTreeSet<String> = fetches.keys().map(str::to_owned).collect();
    leases.retain(|key, _| keys.contains(key));
    let missing: Vec<String> = keys.into_iter().filter(|key| !leases.contains_key(key)).collect();
    if missing.is_empty() {
        return leases;
    }
    let cache = cache.to_owned();
    let taken = tokio::task::spawn_blocking(move || {
        let lease = |key: String| Some((key.clone(), watched::lease(&cache, &key).ok()??));
        missing.into_iter().filter_map(lease).collect::<Vec<_>>()
    });
    leases.extend(taken.await.unwrap_or_default());
    leases
}

/// Shows how far the fetches are, and those that have ended.
async fn show(
    mut shown: BTreeMap<String, Shown>,
    fetches: &Fetches,
    cache: &Path,
    terminal: &Terminal,
) -> BTreeMap<String, Shown> {
    let now = Instant::now();
    for fetch in fetches.running() {
        let one = shown.entry(fetch.key.clone()).or_insert_with(|| Shown {
            model: fetch.model.clone(),
            revision: fetch.revision.clone(),
            since: now,
            // A fetch that finds everything there ends before.
            line_at: now + READ_EVERY,
            last: None,
        });
        // Another revision may go on with a fetch whose first one is gone.
        if !fetches.running().any(|it| it.key == fetch.key && it.revision == one.revision) {
            terminal.bar(&one.revision, None);
            one.revision.clone_from(&fetch.revision);
        }
    }
    let running: BTreeSet<&str> = fetches.running().map(|fetch| &*fetch.key).collect();
    let keys: Vec<String> = shown.keys().cloned().collect();
    for key in keys {
        let (folder, asked) = (cache.to_owned(), key.clone());
        let progress =
            tokio::task::spawn_blocking(move || watched::progress(&folder, &asked)).await;
        let Some(one) = shown.get_mut(&key) else { continue };
        if running.contains(&*key) {
            let progress = progress.ok().flatten().filter(|progress| progress.phase != "done");
            one.go_on(progress, now, terminal);
        } else if let Some(one) = shown.remove(&key) {
            one.end(progress.ok().flatten(), now, terminal);
        }
    }
    shown
}

// === impl Shown ===

impl Shown {
    fn go_on(&mut self, progress: Option<FetchProgress>, now: Instant, terminal: &Terminal) {
        let Some(progress) = progress else {
            return;
        };
        terminal.bar(&self.revision, Some((progress.done, progress.total)));
        if now >= self.line_at && !terminal.has_bars() {
            self.line_at = now + LINE_EVERY;
            terminal.show(&TerminalEvent::Fetching {
                revision: self.revision.clone(),
                model: self.model.clone(),
                done: progress.done,
                total: progress.total,
            });
        }
        self.last = Some(progress);
    }

    fn end(self, progress: Option<FetchProgress>, now: Instant, terminal: &Terminal) {
        terminal.bar(&self.revision, None);
        // Whatever failed is told by the Revision.
        let is_done = progress.as_ref().is_some_and(|progress| progress.phase == "done");
        if let (true, Some(_), Some(progress)) = (is_done, self.last, progress) {
            let took_ms = u64::try_from((now - self.since).as_millis()).unwrap_or(u64::MAX);
            terminal.show(&TerminalEvent::Fetched {
                revision: self.revision,
                model: self.model,
                bytes: progress.done,
                took_ms,
            });
        }
    }
}

// === impl Fetches ===

impl Fetches {
    /// The models that are there for pods.
    fn keys(&self) -> impl Iterator<Item = &str> {
        self.pods.values().filter(|fetch| fetch.has_ended).map(|fetch| &*fetch.key)
    }

    fn running(&self) -> impl Iterator<Item = &Fetch> {
        self.pods.values().filter(|fetch| fetch.is_running)
    }

    fn change(&mut self, event: watcher::Event<Pod>) {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        match event {
            Init => self.listed = Some(BTreeMap::new()),
            InitApply(pod) => {
                if let (Some(listed), Some((uid, fetch))) = (&mut self.listed, Fetch::of(&pod)) {
                    listed.insert(uid, fetch);
                }
            }
            InitDone => self.pods = self.listed.take().unwrap_or_default(),
            Apply(pod) => self.pods.extend(Fetch::of(&pod)),
            Delete(pod) => {
                self.pods.remove(&pod.uid().unwrap_or_default());
            }
        }
    }
}

// === impl Fetch ===

impl Fetch {
    /// The fetch of a pod, by its UID; `None` if its model is not fetched.
    fn of(pod: &Pod) -> Option<(String, Self)> {
        let spec = pod.spec.as_ref()?;
        let init = spec.init_containers.iter().flatten().find(|init| init.name == NAME)?;
        let variable = init.env.iter().flatten().find(|one| one.name == SOURCE_VARIABLE)?;
        let source = ModelSource::parse(&variable.value.as_ref()?.replace("$$", "$")).ok()?;
        let statuses =
            pod.status.as_ref().and_then(|status| status.init_container_statuses.as_ref());
        let state = statuses.and_then(|statuses| {
            statuses.iter().find(|status| status.name == NAME)?.state.as_ref()
        });
        let revision = pod.labels().get(labels::REVISION).cloned();
        let fetch = Self {
            key: source.key(),
            model: source.to_string(),
            revision: format!(
                "{}/{}",
                pod.namespace().unwrap_or_default(),
                revision.unwrap_or_else(|| pod.name_any())
            ),
            is_running: state.is_some_and(|state| state.running.is_some()),
            has_ended: state.is_some_and(|state| state.terminated.is_some()),
        };
        Some((pod.uid()?, fetch))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, state: &serde_json::Value) -> Pod {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "default", "uid": uid,
                         "labels": {"serving.knative.dev/revision": "m-00001"}},
            "spec": {"containers": [], "initContainers": [
                {"name": "ebb-model", "env": [{"name": "EBB_MODEL_SOURCE", "value": "hf://org/name"}]}]},
            "status": {"initContainerStatuses": [{"name": "ebb-model", "image": "", "imageID": "",
                "ready": false, "restartCount": 0, "state": state}]},
        });
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn a_model_is_held_while_a_pod_has_it_and_shown_while_it_is_fetched() {
        let mut fetches = Fetches::default();
        fetches.change(watcher::Event::Apply(pod("a", &json!({"running": {}}))));
        let running: Vec<_> = fetches.running().collect();
        assert_eq!(running.len(), 1);
        assert_eq!(running[0].revision, "default/m-00001");
        assert_eq!(running[0].model, "hf://org/name@main");
        assert_eq!(fetches.keys().count(), 0, "the fetch itself keeps it");
        let done = json!({"terminated": {"exitCode": 0}});
        fetches.change(watcher::Event::Apply(pod("a", &done)));
        assert_eq!((fetches.running().count(), fetches.keys().count()), (0, 1));
        fetches.change(watcher::Event::Delete(pod("a", &done)));
        assert_eq!(fetches.keys().count(), 0);
    }

    #[test]
    fn a_new_list_takes_the_place_of_what_was_known() {
        let mut fetches = Fetches::default();
        fetches.change(watcher::Event::Apply(pod("a", &json!({"running": {}}))));
        fetches.change(watcher::Event::Init);
        fetches.change(watcher::Event::InitApply(pod("b", &json!({"waiting": {}}))));
        assert!(fetches.pods.contains_key("a"), "the list has not ended");
        fetches.change(watcher::Event::InitDone);
        assert_eq!(fetches.pods.keys().collect::<Vec<_>>(), ["b"]);
    }
}
