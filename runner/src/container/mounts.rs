//! The volumes of a container, made and planned right before each of its starts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Volume;
use kube::ResourceExt as _;

use crate::mounts::{Entry, MOUNTS_MAX, Mount, Plan};
use crate::volumes::{BYTES_MAX, Content, Kind, Objects, VolumeError, contents, mounts};

use super::Supervisor;

// === impl Supervisor ===

impl Supervisor {
    /// The mounts of the container, whose volumes are there afterwards. A container without any asks
    /// nothing and waits for nothing.
    pub(super) async fn mounts(
        &self,
        variables: &BTreeMap<String, String>,
    ) -> Result<Vec<Mount>, VolumeError> {
        let asked = self.container.volume_mounts.iter().flatten();
        let names: BTreeSet<&str> = asked.clone().map(|mount| mount.name.as_str()).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let count = asked.clone().count();
        if count > MOUNTS_MAX {
            return Err(VolumeError::Final(format!(
                "container \"{}\" has {count} volumeMounts, and local mode makes {MOUNTS_MAX} at the \
                 most: mount fewer",
                self.container.name
            )));
        }
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let kind = |volume: &Volume| {
            let kind = Kind::of(volume).map_err(VolumeError::Final)?;
            Ok((volume.name.clone(), kind))
        };
        let mounted = volumes.filter(|volume| names.contains(volume.name.as_str()));
        let kinds = mounted.map(kind).collect::<Result<BTreeMap<_, _>, VolumeError>>()?;
        let namespace = self.pod.namespace().unwrap_or_default();
        let objects = Objects::fetch(&self.machine.client, &namespace, kinds.values()).await?;
        let mounts = self.make(kinds, &objects, variables).await?;
        let Some(obstacle) = self.machine.mounter.obstacle().await else {
            return Ok(mounts);
        };
        if let Some(mount) = mounts.iter().find(|mount| !mount.is_in_place()) {
            return Err(VolumeError::Passing(format!(
                "volume \"{}\" cannot be mounted at {} in local mode: {obstacle}. A hostPath whose \
                 mountPath is the same path needs no mount",
                mount.volume,
                mount.target.display()
            )));
        }
        Ok(Vec::new())
    }

    /// No entry for a program without mounts, which is started as it is.
    pub(super) fn entry(&self, plan: Plan) -> Result<Option<Arc<Entry>>, String> {
        if plan.mounts.is_empty() {
            return Ok(None);
        }
        let entry = self.machine.mounter.entry(plan).ok_or(
            "a path of its volumes is not text: give `ebb local` a state folder (--data) with a name \
             in UTF-8",
        )?;
        Ok(Some(Arc::new(entry)))
    }

    /// Makes the volumes and writes their files, on a thread for blocking work.
    async fn make(
        &self,
        kinds: BTreeMap<String, Kind>,
        objects: &Objects,
        variables: &BTreeMap<String, String>,
    ) -> Result<Vec<Mount>, VolumeError> {
        let (mut volumes, mut bytes) = (Vec::new(), 0);
        for (name, kind) in kinds {
            let files = match &kind {
                Kind::Files { parts, mode } => {
                    Some(contents(&self.pod, &name, (parts, *mode), objects)?)
                }
                Kind::Empty { .. } | Kind::Host { .. } => None,
            };
            bytes += files.iter().flat_map(BTreeMap::values).map(Content::size).sum::<usize>();
            if bytes > BYTES_MAX {
                return Err(VolumeError::Final(format!(
                    "the ConfigMaps and Secrets that container \"{}\" mounts are larger than \
                     {BYTES_MAX} bytes together: mount fewer",
                    self.container.name
                )));
            }
            volumes.push((name, kind, files));
        }
        let folders = self.machine.folders.clone();
        let uid = self.pod.uid().unwrap_or_default();
        let (container, variables) = (self.container.clone(), variables.clone());
        let work = move || {
            let mut places = BTreeMap::new();
            for (name, kind, files) in volumes {
                let failed = |error: io::Error| {
                    let message =
                        format!("MountVolume.SetUp failed for volume \"{name}\" : {error}");
                    VolumeError::Passing(message)
                };
                let place = folders.make(&uid, &name, &kind).map_err(failed)?;
                if let Some(files) = files {
                    folders.write((&uid, &name), &container.name, &files).map_err(failed)?;
                }
                places.insert(name, (kind, place));
            }
            mounts(&container, &places, &variables)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(VolumeError::Passing(error.to_string())))
    }
}
