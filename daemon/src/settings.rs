//! Follows Knative's ConfigMaps and publishes typed settings.
//!
//! Invariant: what is published was valid as a whole. A map that cannot be used is reported and
//! skipped, and the last good settings stay in force.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebb_api::config::{Config, SYSTEM_NAMESPACE};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The settings that the ConfigMaps seen so far add up to.
#[derive(Debug)]
struct Settings {
    /// What holds where no ConfigMap says otherwise.
    base: Config,
    /// Data of every map that was applied, by name: a deleted map returns to the base.
    maps: BTreeMap<String, BTreeMap<String, String>>,
}

/// Publishes `base` overlaid with the ConfigMaps of the system namespace, until `shutdown`.
///
/// `base` is published at once; a map that exists already follows within moments.
pub async fn follow(
    client: Client,
    base: Config,
    publish: watch::Sender<Arc<Config>>,
    shutdown: CancellationToken,
) {
    let api: Api<ConfigMap> = Api::namespaced(client, SYSTEM_NAMESPACE);
    let mut settings = Settings { base, maps: BTreeMap::new() };
    let events = watcher(api, watcher::Config::default()).default_backoff();
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
    fn handle(&mut self, event: watcher::Event<ConfigMap>, publish: &watch::Sender<Arc<Config>>) {
        match event {
            watcher::Event::Apply(map) | watcher::Event::InitApply(map) => {
                self.apply(map.name_any(), map.data.unwrap_or_default());
            }
            watcher::Event::Delete(map) => {
                self.maps.remove(&map.name_any());
            }
            // A new list names every map again; those deleted meanwhile are forgotten here.
            watcher::Event::Init => self.maps.clear(),
            watcher::Event::InitDone => {}
        }
        let config = self.sum();
        publish.send_if_modified(|current| {
            let changed = **current != config;
            if changed {
                *current = Arc::new(config);
            }
            changed
        });
    }

    fn apply(&mut self, name: String, data: BTreeMap<String, String>) {
        match self.base.with_map(&name, &data) {
            Ok(_) => {
                self.maps.insert(name, data);
            }
            Err(error) => {
                tracing::warn!(config_map.name = name, %error, "Settings kept, the map is invalid");
            }
        }
    }

    fn sum(&self) -> Config {
        self.maps.iter().fold(self.base.clone(), |config, (name, data)| {
            config.with_map(name, data).unwrap_or(config)
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

    fn settings() -> (Settings, watch::Sender<Arc<Config>>, watch::Receiver<Arc<Config>>) {
        let (publish, current) = watch::channel(Arc::new(Config::default()));
        (Settings { base: Config::default(), maps: BTreeMap::new() }, publish, current)
    }

    #[test]
    fn a_map_is_followed_until_it_is_deleted() {
        let (mut settings, publish, current) = settings();
        let window = map("config-autoscaler", "stable-window", "6s");
        settings.handle(watcher::Event::Apply(window.clone()), &publish);
        assert_eq!(current.borrow().autoscaler.stable_window.as_secs(), 6);
        settings.handle(watcher::Event::Delete(window), &publish);
        assert_eq!(**current.borrow(), Config::default());
    }

    #[test]
    fn an_invalid_map_leaves_the_last_good_settings_in_force() {
        let (mut settings, publish, current) = settings();
        for value in ["8s", "5 apples"] {
            let window = map("config-autoscaler", "stable-window", value);
            settings.handle(watcher::Event::Apply(window), &publish);
        }
        assert_eq!(current.borrow().autoscaler.stable_window.as_secs(), 8);
    }
}
