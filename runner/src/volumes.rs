//! The volumes of a pod as folders of this machine.
//!
//! An `emptyDir` is a folder of the pod, in memory if it asks for that; a `hostPath` is the path
//! itself; ConfigMaps, Secrets and projected volumes are written as files whenever a container
//! starts. Kinds that stand for another machine's disks are refused.

mod files;
mod folders;
mod mount;
mod objects;

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, Volume, VolumeProjection,
};

pub(super) use files::{BYTES_MAX, Content, contents};
pub(super) use folders::Folders;
pub(super) use mount::mounts;
pub(super) use objects::Objects;

/// Mode of files whose volume names none: Kubernetes' default.
const FILE_MODE: i32 = 0o644;

/// What a volume is made from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Empty { is_in_memory: bool },
    Host { path: PathBuf, type_: String },
    Files { parts: Vec<Part>, mode: i32 },
}

/// One source of files.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    ConfigMap(Keys),
    Secret(Keys),
    Downward(Vec<DownwardAPIVolumeFile>),
}

/// The keys of an object that become files.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Keys {
    pub(super) object: String,
    /// All of them under their own names if `None`.
    pub(super) items: Option<Vec<KeyToPath>>,
    pub(super) is_optional: bool,
}

/// Why a container cannot have its volumes now.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    /// Only another manifest or another machine helps.
    #[error("{0}")]
    Final(String),
    /// It may pass, as when an object appears.
    #[error("{0}")]
    Passing(String),
}

// === impl Kind ===

impl Kind {
    /// Says what to do if local mode has no such volume.
    pub(super) fn of(volume: &Volume) -> Result<Self, String> {
        if let Some(empty) = &volume.empty_dir {
            let is_in_memory = empty.medium.as_deref() == Some("Memory");
            return Ok(Self::Empty { is_in_memory });
        }
        if let Some(HostPathVolumeSource { path, type_ }) = &volume.host_path {
            let type_ = type_.clone().unwrap_or_default();
            return Ok(Self::Host { path: PathBuf::from(path), type_ });
        }
        let keys = |object: &str, items: Option<&Vec<KeyToPath>>, optional: Option<bool>| Keys {
            object: object.to_owned(),
            items: items.filter(|items| !items.is_empty()).cloned(),
            is_optional: optional == Some(true),
        };
        let (parts, mode) = if let Some(map) = &volume.config_map {
            let keys = keys(&map.name, map.items.as_ref(), map.optional);
            (vec![Part::ConfigMap(keys)], map.default_mode)
        } else if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            let keys = keys(name, secret.items.as_ref(), secret.optional);
            (vec![Part::Secret(keys)], secret.default_mode)
        } else if let Some(downward) = &volume.downward_api {
            let items = downward.items.clone().unwrap_or_default();
            (vec![Part::Downward(items)], downward.default_mode)
        } else if let Some(projected) = &volume.projected {
            let sources = projected.sources.iter().flatten();
            let part = |source| Self::part(source, keys).ok_or_else(|| no_token(&volume.name));
            (sources.map(part).collect::<Result<_, _>>()?, projected.default_mode)
        } else {
            return Err(no_kind(volume));
        };
        Ok(Self::Files { parts, mode: mode.unwrap_or(FILE_MODE) })
    }

    fn part(
        source: &VolumeProjection,
        keys: impl Fn(&str, Option<&Vec<KeyToPath>>, Option<bool>) -> Keys,
    ) -> Option<Part> {
        if let Some(map) = &source.config_map {
            Some(Part::ConfigMap(keys(&map.name, map.items.as_ref(), map.optional)))
        } else if let Some(secret) = &source.secret {
            Some(Part::Secret(keys(&secret.name, secret.items.as_ref(), secret.optional)))
        } else {
            let items = source.downward_api.as_ref()?.items.clone();
            Some(Part::Downward(items.unwrap_or_default()))
        }
    }
}

fn no_token(name: &str) -> String {
    format!(
        "volume \"{name}\" projects what local mode has not, such as a token of a service account: \
         project configMap, secret or downwardAPI, or apply this manifest to a cluster"
    )
}

fn no_kind(volume: &Volume) -> String {
    // The kind is the name of the one field besides `name` that is set.
    let kind = serde_json::to_value(volume)
        .ok()
        .and_then(|volume| volume.as_object()?.keys().find(|key| *key != "name").cloned())
        .unwrap_or_else(|| "unknown".to_owned());
    format!(
        "volume \"{}\" of type {kind} is not there in local mode: use emptyDir, hostPath, configMap, \
         secret or projected, or apply this manifest to a cluster",
        volume.name
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(mut volume: serde_json::Value) -> Result<Kind, String> {
        volume["name"] = json!("v");
        Kind::of(&serde_json::from_value(volume).map_err(|error| error.to_string())?)
    }

    #[test]
    fn each_kind_is_known_or_refused_by_its_name() {
        let empty = kind(json!({"emptyDir": {"medium": "Memory"}}));
        assert_eq!(empty, Ok(Kind::Empty { is_in_memory: true }));
        let host = kind(json!({"hostPath": {"path": "/srv/models"}}));
        assert_eq!(host, Ok(Kind::Host { path: "/srv/models".into(), type_: String::new() }));
        let claim = kind(json!({"persistentVolumeClaim": {"claimName": "c"}})).unwrap_err();
        assert!(claim.starts_with("volume \"v\" of type persistentVolumeClaim is not"), "{claim}");
        let token = json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}});
        assert!(kind(token).unwrap_err().contains("token of a service account"));
    }

    #[test]
    fn sources_of_files_keep_their_order_and_keys() {
        let volume = kind(json!({"projected": {"defaultMode": 256, "sources": [
            {"configMap": {"name": "a"}},
            {"secret": {"name": "b", "optional": true, "items": [{"key": "k", "path": "p"}]}}]}}));
        let Ok(Kind::Files { parts, mode: 256 }) = volume else { panic!("{volume:?}") };
        let [Part::ConfigMap(map), Part::Secret(secret)] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!((map.object.as_str(), &map.items, map.is_optional), ("a", &None, false));
        assert_eq!((secret.object.as_str(), secret.is_optional), ("b", true));
        assert_eq!(secret.items.as_ref().map(Vec::len), Some(1));
    }
}
