//! The files of a volume that is made from objects: a pure function of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod};
use kube::ResourceExt as _;

use super::objects::Objects;
use super::{Keys, Part, VolumeError};
use crate::environment;

/// Most files of one volume.
const FILES_MAX: usize = 4096;

/// Most bytes of all files of one volume: several objects of the largest size, which is that of a
/// request to the API.
pub(crate) const BYTES_MAX: usize = 32 << 20;

/// A file to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(super) bytes: Vec<u8>,
    /// Its permissions.
    pub(super) mode: u32,
}

// === impl Content ===

impl Content {
    /// Its bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// The files of the volume called `volume` by their paths in it. Of two with one path the later part
/// has it, as in kubelet.
pub(crate) fn contents(
    pod: &Pod,
    volume: &str,
    (parts, mode): (&[Part], i32),
    objects: &Objects,
) -> Result<BTreeMap<PathBuf, Content>, VolumeError> {
    let failed = |why: String| {
        VolumeError::Passing(format!("MountVolume.SetUp failed for volume \"{volume}\" : {why}"))
    };
    let mut files = BTreeMap::new();
    let mut bytes = 0;
    for part in parts {
        let found = match part {
            Part::ConfigMap(keys) => of_object("configmap", keys, &objects.config_maps),
            Part::Secret(keys) => of_object("secret", keys, &objects.secrets),
            Part::Downward(items) => of_pod(pod, items),
        };
        for (path, own_mode, content) in found.map_err(failed)? {
            bytes += content.len();
            if files.len() == FILES_MAX || bytes > BYTES_MAX {
                return Err(VolumeError::Final(format!(
                    "volume \"{volume}\" has more than {FILES_MAX} files or {BYTES_MAX} bytes: \
                     make it smaller"
                )));
            }
            let mode = u32::try_from(own_mode.unwrap_or(mode)).unwrap_or_default() & 0o777;
            files.insert(inside(&path).map_err(failed)?, Content { bytes: content, mode });
        }
    }
    Ok(files)
}

/// A path, a mode of its own and the content.
type Found = (String, Option<i32>, Vec<u8>);

fn of_object(
    kind: &str,
    keys: &Keys,
    objects: &BTreeMap<String, BTreeMap<String, Vec<u8>>>,
) -> Result<Vec<Found>, String> {
    let Some(values) = objects.get(&keys.object) else {
        let missing = format!("{kind} \"{}\" not found", keys.object);
        return if keys.is_optional { Ok(Vec::new()) } else { Err(missing) };
    };
    let Some(items) = &keys.items else {
        let all = values.iter().map(|(key, value)| (key.clone(), None, value.clone()));
        return Ok(all.collect());
    };
    let mut found = Vec::new();
    for item in items {
        match values.get(&item.key) {
            Some(value) => found.push((item.path.clone(), item.mode, value.clone())),
            None if keys.is_optional => {}
            None => {
                return Err(format!("references non-existent {kind} key: {}", item.key));
            }
        }
    }
    Ok(found)
}

fn of_pod(pod: &Pod, items: &[DownwardAPIVolumeFile]) -> Result<Vec<Found>, String> {
    let read = |item: &DownwardAPIVolumeFile| {
        let Some(field) = &item.field_ref else {
            return Err(format!(
                "{}: resourceFieldRef is not there in local mode: use fieldRef",
                item.path
            ));
        };
        let text = match field.field_path.as_str() {
            "metadata.labels" => lines(pod.labels()),
            "metadata.annotations" => lines(pod.annotations()),
            _ => environment::field_of(pod, &item.path, field).map_err(|it| it.to_string())?,
        };
        Ok((item.path.clone(), item.mode, text.into_bytes()))
    };
    items.iter().map(read).collect()
}

/// A line for each entry, the value in quotes, as kubelet writes them.
fn lines(map: &BTreeMap<String, String>) -> String {
    map.iter().fold(String::new(), |mut text, (key, value)| {
        // Writing to a text does not fail.
        let _ = write!(text, "{}{key}={value:?}", if text.is_empty() { "" } else { "\n" });
        text
    })
}

/// The path, if it stays in its volume.
pub(super) fn inside(path: &str) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let mut parts = path.components();
    let is_inside = parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if is_inside && path.file_name().is_some() {
        Ok(path.components().filter(|part| *part != Component::CurDir).collect())
    } else {
        Err(format!("the path {} leaves the volume: name a file in it without ..", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(object: &str, items: &serde_json::Value, is_optional: bool) -> Keys {
        let items = serde_json::from_value(items.clone()).expect("items");
        Keys { object: object.to_owned(), items, is_optional }
    }

    fn found(parts: &[Part]) -> Result<Vec<(String, String, u32)>, String> {
        let map = |key: &str, value: &[u8]| BTreeMap::from([(key.to_owned(), value.to_vec())]);
        let objects = Objects {
            config_maps: BTreeMap::from([("settings".to_owned(), map("mode", b"fast"))]),
            secrets: BTreeMap::from([("keys".to_owned(), map("mode", b"s3cret"))]),
        };
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u",
            "labels": {"app": "say \"hi\"", "b": "c"}}}))
        .map_err(|error| error.to_string())?;
        let files = contents(&pod, "v", (parts, 0o640), &objects);
        let shown = |(path, file): (PathBuf, Content)| {
            let text = String::from_utf8(file.bytes).expect("text");
            (path.display().to_string(), text, file.mode)
        };
        Ok(files.map_err(|error| error.to_string())?.into_iter().map(shown).collect())
    }

    fn file(path: &str, text: &str, mode: u32) -> (String, String, u32) {
        (path.to_owned(), text.to_owned(), mode)
    }

    #[test]
    fn keys_become_files_and_the_later_part_wins() {
        let all = keys("settings", &json!(null), false);
        assert_eq!(found(&[Part::ConfigMap(all.clone())]), Ok(vec![file("mode", "fast", 0o640)]));
        let secret = Part::Secret(keys("keys", &json!(null), false));
        let both = found(&[Part::ConfigMap(all), secret]);
        assert_eq!(both, Ok(vec![file("mode", "s3cret", 0o640)]));
        let items = json!([{"key": "mode", "path": "a/b", "mode": 256}]);
        let one = found(&[Part::Secret(keys("keys", &items, false))]);
        assert_eq!(one, Ok(vec![file("a/b", "s3cret", 0o400)]));
    }

    #[test]
    fn what_is_missing_is_named_unless_it_is_optional() {
        let absent = |is_optional| found(&[Part::Secret(keys("x", &json!(null), is_optional))]);
        assert_eq!(absent(true), Ok(vec![]));
        let message = absent(false).unwrap_err();
        assert_eq!(message, "MountVolume.SetUp failed for volume \"v\" : secret \"x\" not found");
        let item = json!([{"key": "none", "path": "p"}]);
        let message = found(&[Part::ConfigMap(keys("settings", &item, false))]).unwrap_err();
        assert!(message.ends_with("references non-existent configmap key: none"), "{message}");
    }

    #[test]
    fn no_path_leaves_the_volume() {
        for path in ["../x", "a/../../x", "/etc/passwd", "..", ".", ""] {
            assert!(inside(path).is_err(), "{path}");
        }
        assert_eq!(inside("./a/b"), Ok(PathBuf::from("a/b")));
    }

    #[test]
    fn the_pod_tells_of_itself_in_files() {
        let items = json!([
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]);
        let items = serde_json::from_value(items).expect("items");
        let files = found(&[Part::Downward(items)]);
        let labels = file("labels", "app=\"say \\\"hi\\\"\"\nb=\"c\"", 0o640);
        assert_eq!(files, Ok(vec![labels, file("name", "p", 0o640)]));
        let cpu = json!([{"path": "cpu", "resourceFieldRef": {"resource": "limits.cpu"}}]);
        let cpu = serde_json::from_value(cpu).expect("items");
        assert!(found(&[Part::Downward(cpu)]).unwrap_err().contains("use fieldRef"));
    }
}
