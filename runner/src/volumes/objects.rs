//! ConfigMaps and Secrets that volumes are made from.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use super::{Kind, Part, VolumeError};

/// Values by key, by the name of the object; one that does not exist is absent.
type Values = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// The objects of a namespace that the volumes of a container name.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(super) config_maps: Values,
    pub(super) secrets: Values,
}

// === impl Objects ===

impl Objects {
    /// Asks the API once for each object that `kinds` name, and not at all if they name none.
    pub(crate) async fn fetch(
        client: &Client,
        namespace: &str,
        kinds: impl Iterator<Item = &Kind>,
    ) -> Result<Self, VolumeError> {
        let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
        let parts = kinds.filter_map(|kind| match kind {
            Kind::Files { parts, .. } => Some(parts),
            _ => None,
        });
        for part in parts.flatten() {
            match part {
                Part::ConfigMap(keys) => config_maps.insert(keys.object.as_str()),
                Part::Secret(keys) => secrets.insert(keys.object.as_str()),
                Part::Downward(_) => false,
            };
        }
        let mut objects = Self::default();
        let unread = |kind: &'static str, name: &str| {
            let name = name.to_owned();
            move |error: kube::Error| {
                VolumeError::Passing(format!("cannot read {kind} \"{name}\": {error}"))
            }
        };
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        for name in config_maps {
            if let Some(map) = api.get_opt(name).await.map_err(unread("configmap", name))? {
                objects.config_maps.insert(name.to_owned(), bytes_of(map));
            }
        }
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        for name in secrets {
            if let Some(secret) = api.get_opt(name).await.map_err(unread("secret", name))? {
                let data = secret.data.unwrap_or_default();
                let values = data.into_iter().map(|(key, value)| (key, value.0)).collect();
                objects.secrets.insert(name.to_owned(), values);
            }
        }
        Ok(objects)
    }
}

fn bytes_of(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.unwrap_or_default().into_iter();
    let text = text.map(|(key, value)| (key, value.into_bytes()));
    let binary = map.binary_data.unwrap_or_default().into_iter();
    text.chain(binary.map(|(key, value)| (key, value.0))).collect()
}
