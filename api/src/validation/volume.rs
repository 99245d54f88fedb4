//! Volumes of a pod, and where its containers mount them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, PodSpec, Volume, VolumeMount,
    VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::name;
use super::quantity::is_negative;
use crate::config::{Feature, FeaturesConfig};
use crate::field_error::{CURRENT, FieldErrors, clip};
use crate::quantity::is_quantity;

/// Directories of a container that nothing may be mounted on.
const RESERVED_PATHS: &[&str] = &["/", "/dev", "/dev/log"];

/// The volumes of a pod by their names.
pub(super) struct Volumes<'a>(BTreeMap<&'a str, &'a Volume>);

// === impl Volumes ===

impl<'a> Volumes<'a> {
    pub(super) fn new(volumes: &'a [Volume]) -> Self {
        Self(volumes.iter().map(|volume| (volume.name.as_str(), volume)).collect())
    }

    /// What is wrong with the mounts of one container.
    pub(super) fn validate_mounts(&self, mounts: &[VolumeMount]) -> FieldErrors {
        let mut errors = FieldErrors::default();
        let mut paths = BTreeSet::new();
        for (index, mount) in mounts.iter().enumerate() {
            let wrong = validate_path(&mount.mount_path, &mut paths)
                .also(self.validate_mount(mount))
                .via_index(index);
            errors.add(wrong);
        }
        errors
    }

    fn validate_mount(&self, mount: &VolumeMount) -> FieldErrors {
        let mut errors = match mount.mount_propagation.as_deref() {
            None | Some("" | "None" | "HostToContainer") => FieldErrors::default(),
            Some(propagation) => FieldErrors::invalid(propagation, "mountPropagation"),
        };
        let Some(volume) = self.0.get(mount.name.as_str()) else {
            return errors
                .also(FieldErrors::generic("volumeMount has no matching volume", &["name"]));
        };
        let is_read_only = mount.read_only == Some(true);
        let claim = volume.persistent_volume_claim.as_ref();
        let is_writable =
            volume.empty_dir.is_some() || volume.ephemeral.is_some() || claim.is_some();
        if !is_writable && !is_read_only {
            errors.add(FieldErrors::generic(
                "volume mount should be readOnly for this type of volume",
                &["readOnly"],
            ));
        }
        if claim.is_some_and(|claim| claim.read_only == Some(true)) && !is_read_only {
            errors.add(FieldErrors::generic(
                "volume is readOnly but volume mount is not",
                &["readOnly"],
            ));
        }
        errors
    }
}

/// What is wrong with the volumes of a pod, of which its containers mount those in `mounted`.
pub(super) fn validate(
    pod: &PodSpec,
    mounted: &BTreeSet<&str>,
    features: &FeaturesConfig,
) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let mut names = BTreeSet::new();
    for (index, volume) in pod.volumes.iter().flatten().enumerate() {
        let mut wrong = FieldErrors::default();
        let shown = clip(&volume.name);
        if !names.insert(volume.name.as_str()) {
            wrong.add(FieldErrors::generic(format!("duplicate volume name {shown:?}"), &["name"]));
        }
        if !mounted.contains(volume.name.as_str()) {
            wrong.add(FieldErrors::generic(
                format!("volume with name {shown:?} not mounted"),
                &["name"],
            ));
        }
        wrong.add(validate_name(&volume.name));
        wrong.add(validate_gates(volume, features));
        wrong.add(validate_source(volume, features));
        errors.add(wrong.via_index(index));
        if errors.is_full() {
            break;
        }
    }
    errors
}

fn validate_name(name: &str) -> FieldErrors {
    if name.is_empty() {
        FieldErrors::missing(&["name"])
    } else if name::dns1123_label(name).is_empty() {
        FieldErrors::default()
    } else {
        FieldErrors::invalid(name, "name")
    }
}

/// Names the feature that is off, besides the error that the field must not be set.
fn validate_gates(volume: &Volume, features: &FeaturesConfig) -> FieldErrors {
    let mut errors = FieldErrors::default();
    if let Some(claim) = &volume.persistent_volume_claim {
        let name = clip(&claim.claim_name);
        if !features.allows(Feature::PersistentVolumeClaim) {
            errors.add(FieldErrors::generic(
                format!(
                    "Persistent volume claim support is disabled, but found persistent volume \
                     claim {name}"
                ),
                &[CURRENT],
            ));
        }
        if claim.read_only != Some(true) && !features.allows(Feature::PersistentVolumeWrite) {
            errors.add(FieldErrors::generic(
                format!(
                    "Persistent volume write support is disabled, but found persistent volume \
                     claim {name} that is not read-only"
                ),
                &[CURRENT],
            ));
        }
    }
    let gates = [
        ("EmptyDir", volume.empty_dir.is_some(), Feature::EmptyDir),
        ("HostPath", volume.host_path.is_some(), Feature::HostPath),
        ("CSI", volume.csi.is_some(), Feature::VolumesCsi),
        ("Ephemeral", volume.ephemeral.is_some(), Feature::VolumesEphemeral),
        ("Image", volume.image.is_some(), Feature::VolumesImage),
    ];
    for (kind, is_set, feature) in gates {
        if is_set && !features.allows(feature) {
            let name = clip(&volume.name);
            errors.add(FieldErrors::generic(
                format!("{kind} volume support is disabled, but found {kind} volume {name}"),
                &[CURRENT],
            ));
        }
    }
    errors
}

/// A volume is made from exactly one thing.
fn validate_source(volume: &Volume, features: &FeaturesConfig) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let gated = [
        ("emptyDir", volume.empty_dir.is_some(), Feature::EmptyDir),
        (
            "persistentVolumeClaim",
            volume.persistent_volume_claim.is_some(),
            Feature::PersistentVolumeClaim,
        ),
        ("hostPath", volume.host_path.is_some(), Feature::HostPath),
        ("csi", volume.csi.is_some(), Feature::VolumesCsi),
        ("ephemeral", volume.ephemeral.is_some(), Feature::VolumesEphemeral),
        ("image", volume.image.is_some(), Feature::VolumesImage),
    ];
    let mut set = Vec::new();
    if let Some(secret) = &volume.secret {
        set.push("secret");
        errors.add(items(secret.items.as_deref()).via_field("secret"));
    }
    if let Some(map) = &volume.config_map {
        set.push("configMap");
        errors.add(items(map.items.as_deref()).via_field("configMap"));
    }
    if let Some(projected) = &volume.projected {
        set.push("projected");
        for (index, source) in projected.sources.iter().flatten().enumerate() {
            let wrong = validate_projection(source).via_field_index("sources", index);
            errors.add(wrong.via_field("projected"));
        }
    }
    if let Some(directory) = &volume.empty_dir {
        errors.add(validate_empty_dir(directory).via_field("emptyDir"));
    }
    set.extend(gated.iter().filter(|(_, is_set, _)| *is_set).map(|(field, ..)| field));
    match set.as_slice() {
        [] => {
            let possible: Vec<_> = ["secret", "configMap", "projected"]
                .into_iter()
                .chain(
                    gated
                        .iter()
                        .filter(|(_, _, feature)| features.allows(*feature))
                        .map(|(field, ..)| *field),
                )
                .collect();
            errors.add(FieldErrors::missing_one_of(&possible));
        }
        [_] => {}
        several => errors.add(FieldErrors::multiple_one_of(several)),
    }
    errors
}

fn validate_projection(source: &VolumeProjection) -> FieldErrors {
    let mut set = Vec::new();
    let mut errors = FieldErrors::default();
    if let Some(secret) = &source.secret {
        set.push("secret");
        let wrong = required(&secret.name, "name").also(items(secret.items.as_deref()));
        errors.add(wrong.via_field("secret"));
    }
    if let Some(map) = &source.config_map {
        set.push("configMap");
        let wrong = required(&map.name, "name").also(items(map.items.as_deref()));
        errors.add(wrong.via_field("configMap"));
    }
    if let Some(token) = &source.service_account_token {
        set.push("serviceAccountToken");
        errors.add(required(&token.path, "path").via_field("serviceAccountToken"));
    }
    if let Some(downward) = &source.downward_api {
        set.push("downwardAPI");
        for (index, file) in downward.items.iter().flatten().enumerate() {
            let wrong = validate_downward(file).via_field_index("items", index);
            errors.add(wrong.via_field("downwardAPI"));
        }
    }
    match set.as_slice() {
        [] => errors.also(FieldErrors::missing_one_of(&[
            "secret",
            "configMap",
            "serviceAccountToken",
            "downwardAPI",
        ])),
        [_] => errors,
        several => errors.also(FieldErrors::multiple_one_of(several)),
    }
}

fn validate_downward(file: &DownwardAPIVolumeFile) -> FieldErrors {
    let errors = required(&file.path, "path");
    match (&file.field_ref, &file.resource_field_ref) {
        (None, None) => errors.also(FieldErrors::missing_one_of(&["fieldRef", "resourceFieldRef"])),
        (Some(_), Some(_)) => errors.also(FieldErrors::generic(
            "Within a single item, cannot set both",
            &["resourceFieldRef", "fieldRef"],
        )),
        (Some(_), None) | (None, Some(_)) => errors,
    }
}

fn validate_empty_dir(directory: &EmptyDirVolumeSource) -> FieldErrors {
    let mut errors = match directory.medium.as_deref() {
        None | Some("" | "Memory") => FieldErrors::default(),
        Some(medium) => FieldErrors::invalid(medium, "medium"),
    };
    if let Some(Quantity(limit)) = &directory.size_limit
        && (!is_quantity(limit) || is_negative(limit))
    {
        errors.add(FieldErrors::invalid(limit, "sizeLimit"));
    }
    errors
}

fn items(items: Option<&[KeyToPath]>) -> FieldErrors {
    let mut errors = FieldErrors::default();
    for (index, item) in items.into_iter().flatten().enumerate() {
        let wrong = required(&item.key, "key").also(required(&item.path, "path"));
        errors.add(wrong.via_field_index("items", index));
    }
    errors
}

fn required(text: &str, field: &str) -> FieldErrors {
    if text.is_empty() { FieldErrors::missing(&[field]) } else { FieldErrors::default() }
}

fn validate_path(path: &str, seen: &mut BTreeSet<String>) -> FieldErrors {
    if path.is_empty() {
        return FieldErrors::missing(&["mountPath"]);
    }
    if !path.starts_with('/') {
        return FieldErrors::invalid(path, "mountPath");
    }
    let clean = clean(path);
    let shown = clip(path);
    if RESERVED_PATHS.contains(&clean.as_str()) {
        FieldErrors::generic(format!("mountPath {clean:?} is a reserved path"), &["mountPath"])
    } else if seen.insert(clean) {
        FieldErrors::default()
    } else {
        FieldErrors::invalid(format!("{shown:?} must be unique"), "mountPath")
    }
}

/// An absolute path without empty, `.` and `..` parts.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_before_it_is_compared() {
        for (path, cleaned) in
            [("/", "/"), ("//dev//", "/dev"), ("/a/./b/../c", "/a/c"), ("/../..", "/")]
        {
            assert_eq!(clean(path), cleaned);
        }
    }
}
