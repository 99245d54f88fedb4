//! Follows Knative's ConfigMaps and publishes typed settings.
//!
//! Invariants: the published settings are valid as a whole, and every map that the API server has
//! is in them. An invalid map is reported and skipped, and its last good data stay in force. All
//! settings stay in force while a new list is under way or fails, for defaults that return for a
//! moment rewrite every Route's URL and let a minimum scale lapse.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebb_api::config::{Config, SYSTEM_NAMESPACE};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{SetOnce, watch};
use tokio_util::sync::CancellationToken;

use crate::pauses::WatchPauses;

/// The settings that result from the ConfigMaps seen so far.
#[derive(Debug)]
struct Settings {
    /// The settings where no ConfigMap says otherwise.
    base: Config,
    /// Data of every map that was applied, by name: a deleted map returns to the base. Invalid are those
    /// of a map that was never valid.
    maps: Maps,
    /// The maps of a list that is still arriving. They take the place of `maps` when it is whole.
    listing: Option<Maps>,
}

/// Data of ConfigMaps, by the name of the map.
type Maps = BTreeMap<String, BTreeMap<String, String>>;

/// Where the settings go.
#[derive(Debug)]
pub struct Publisher {
    /// Gets the settings whenever they change; holds the base until the first list.
    pub config: watch::Sender<Arc<Config>>,
    /// Set when the first list has arrived. A task that acts on settings waits for it: until then
    /// they are defaults that nobody chose.
    pub listed: Arc<SetOnce<()>>,
}

/// Publishes `base` overlaid with the ConfigMaps of the system namespace, until `shutdown`.
///
/// Nothing is published before the first list is whole.
pub async fn follow(client: Client, base: Config, publish: Publisher, shutdown: CancellationToken) {
    let api: Api<ConfigMap> = Api::namespaced(client, SYSTEM_NAMESPACE);
    let mut settings = Settings::new(base);
    let events = watcher(api, watcher::Config::default()).backoff(WatchPauses::default());
    let mut events = std::pin::pin!(events.take_until(shutdown.cancelled_owned()));
    loop {
        match events.try_next().await {
            Ok(Some(event)) => settings.handle(event, &publish),
            Ok(None) => return,
            Err(error) => tracing::warn!(%error, "ConfigMaps cannot be watched, will try again"),
        }
    }
}

impl Settings {
    fn new(base: Config) -> Self {
        Self { base, maps: Maps::new(), listing: None }
    }

    fn handle(&mut self, event: watcher::Event<ConfigMap>, publish: &Publisher) {
        match event {
            // A new list names every map again; those deleted meanwhile are not in it.
            watcher::Event::Init => self.listing = Some(Maps::new()),
            watcher::Event::InitApply(map) => {
                let name = map.name_any();
                let data = self.usable(&name, map.data.unwrap_or_default());
                if let Some(listing) = &mut self.listing {
                    listing.insert(name, data);
                }
                return;
            }
            watcher::Event::InitDone => {
                self.maps = self.listing.take().unwrap_or_default();
            }
            watcher::Event::Apply(map) => {
                let name = map.name_any();
                let data = self.usable(&name, map.data.unwrap_or_default());
                self.maps.insert(name, data);
            }
            watcher::Event::Delete(map) => {
                self.maps.remove(&map.name_any());
            }
        }
        if self.listing.is_some() {
            return;
        }
        let config = self.sum();
        publish.config.send_if_modified(|current| {
            let changed = **current != config;
            if changed {
                *current = Arc::new(config);
            }
            changed
        });
        // Only the first call sets it; a later one fails and changes nothing.
        drop(publish.listed.set(()));
    }

    /// The data if they are valid, or if there were none before; else the last data of the same map.
    fn usable(&self, name: &str, data: BTreeMap<String, String>) -> BTreeMap<String, String> {
        match self.base.with_map(name, &data) {
            Ok(_) => data,
            Err(error) => {
                tracing::warn!(config_map.name = name, %error, "Settings kept, the map is invalid");
                self.maps.get(name).cloned().unwrap_or(data)
            }
        }
    }

    fn sum(&self) -> Config {
        self.maps.iter().fold(self.base.clone(), |config, (name, data)| {
            config.with_map(name, data).unwrap_or_else(|_| config.without_map(name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str, key: &str, value: &str) -> ConfigMap {
        let data = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let mut map = ConfigMap { data: Some(data), ..ConfigMap::default() };
        map.metadata.name = Some(name.to_owned());
        map
    }

    fn window(value: &str) -> ConfigMap {
        map("config-autoscaler", "stable-window", value)
    }

    fn settings() -> (Settings, Publisher, watch::Receiver<Arc<Config>>) {
        let (config, current) = watch::channel(Arc::new(Config::default()));
        let publish = Publisher { config, listed: Arc::default() };
        (Settings::new(Config::default()), publish, current)
    }

    #[test]
    fn a_map_is_followed_until_it_is_deleted() {
        let (mut settings, publish, current) = settings();
        settings.handle(watcher::Event::Apply(window("6s")), &publish);
        assert_eq!(current.borrow().autoscaler.stable_window.as_secs(), 6);
        settings.handle(watcher::Event::Delete(window("6s")), &publish);
        assert_eq!(**current.borrow(), Config::default());
    }

    #[test]
    fn an_invalid_map_leaves_the_last_good_settings_in_force() {
        let (mut settings, publish, current) = settings();
        for value in ["8s", "5 apples"] {
            settings.handle(watcher::Event::Apply(window(value)), &publish);
        }
        assert_eq!(current.borrow().autoscaler.stable_window.as_secs(), 8);
    }

    /// Keys that nobody could read must not mean that none is asked for.
    #[test]
    fn a_map_of_keys_that_was_never_valid_shuts_the_models_host_until_it_is() {
        let (mut settings, publish, current) = settings();
        let models = |value: &str| map("config-models", "api-keys-secret", value);
        settings.handle(watcher::Event::Apply(models("Keys!")), &publish);
        assert!(current.borrow().models.is_unreadable);
        settings.handle(watcher::Event::Apply(models("keys")), &publish);
        settings.handle(watcher::Event::Apply(models("Keys!")), &publish);
        assert_eq!(current.borrow().models.api_keys_secret.as_deref(), Some("keys"));
        assert!(!current.borrow().models.is_unreadable, "the last good one stays in force");
        settings.handle(watcher::Event::Delete(models("")), &publish);
        assert_eq!(**current.borrow(), Config::default());
    }

    /// While lists fail, each attempt begins with `Init` and may get some pages further.
    #[test]
    fn a_new_list_changes_nothing_before_it_is_whole() {
        let (mut settings, publish, mut current) = settings();
        let domain = map("config-domain", "models.example", "");
        for event in [
            watcher::Event::Init,
            watcher::Event::InitApply(window("8s")),
            watcher::Event::InitApply(domain.clone()),
        ] {
            assert!(!publish.listed.initialized());
            settings.handle(event, &publish);
            assert_eq!(**current.borrow_and_update(), Config::default());
        }
        settings.handle(watcher::Event::InitDone, &publish);
        assert!(publish.listed.initialized());
        let before = current.borrow_and_update().clone();
        assert_eq!(before.autoscaler.stable_window.as_secs(), 8);
        assert_eq!(before.network.domain, "models.example");
        for _ in 0..3 {
            settings.handle(watcher::Event::Init, &publish);
            settings.handle(watcher::Event::InitApply(domain.clone()), &publish);
            assert!(!current.has_changed().unwrap());
        }
        settings.handle(watcher::Event::InitDone, &publish);
        let after = current.borrow_and_update().clone();
        assert_eq!(after.network.domain, "models.example");
        let default = Config::default().autoscaler.stable_window;
        assert_eq!(after.autoscaler.stable_window, default, "it was deleted meanwhile");
    }

    /// A map that is invalid when a list comes keeps its last good data, as it does in between.
    #[test]
    fn a_map_that_a_new_list_shows_broken_keeps_its_last_good_data() {
        let (mut settings, publish, current) = settings();
        for value in ["8s", "5 apples"] {
            settings.handle(watcher::Event::Init, &publish);
            settings.handle(watcher::Event::InitApply(window(value)), &publish);
            settings.handle(watcher::Event::InitDone, &publish);
        }
        assert_eq!(current.borrow().autoscaler.stable_window.as_secs(), 8);
    }
}
