//! From the mounts that a container asks for to paths of this machine: pure but for a folder that
//! `subPath` names and that is made.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::files::inside;
use super::{Kind, VolumeError};
use crate::expansion::expand;
use crate::mounts::{Mount, PATH_BYTES_MAX, clean};

/// The mounts of `container`, whose volumes are at these places. `variables` are those that
/// `subPathExpr` may name. Blocks.
pub(crate) fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, (Kind, PathBuf)>,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, VolumeError> {
    let asked = container.volume_mounts.as_deref().unwrap_or_default();
    let mut mounts = Vec::new();
    for mount in asked {
        let Some((kind, place)) = volumes.get(&mount.name) else {
            let message = format!("volumeMount \"{}\" has no matching volume", mount.name);
            return Err(VolumeError::Final(message));
        };
        let source = source(mount, kind, place, variables)?;
        let target = clean(Path::new(&mount.mount_path));
        for path in [&source, &target] {
            if path.as_os_str().len() > PATH_BYTES_MAX {
                return Err(VolumeError::Final(format!(
                    "the path {} of volume \"{}\" is longer than {PATH_BYTES_MAX} bytes: shorten it",
                    path.display(),
                    mount.name
                )));
            }
        }
        if is_reserved(&target) {
            return Err(VolumeError::Final(format!(
                "volume \"{}\" cannot be mounted at {} in local mode, where programs need this \
                 machine's own: use another mountPath",
                mount.name,
                target.display()
            )));
        }
        // Objects are the API's to change: Kubernetes mounts them read-only too, whatever is asked.
        let is_read_only = mount.read_only == Some(true) || matches!(kind, Kind::Files { .. });
        mounts.push(Mount { volume: mount.name.clone(), source, target, is_read_only });
    }
    Ok(mounts)
}

/// Without these the next mount, or the program, could not be started.
fn is_reserved(target: &Path) -> bool {
    let top = |name: &str| target.starts_with(name);
    target == Path::new("/") || target == Path::new("/dev") || top("/proc") || top("/sys")
}

fn source(
    mount: &VolumeMount,
    kind: &Kind,
    place: &Path,
    variables: &BTreeMap<String, String>,
) -> Result<PathBuf, VolumeError> {
    let given = mount.sub_path.as_ref().filter(|path| !path.is_empty()).cloned();
    let expression = mount.sub_path_expr.as_ref().filter(|path| !path.is_empty());
    let expanded = expression.map(|path| {
        let name = &mount.name;
        expand(path, variables)
            .map_err(|error| VolumeError::Final(format!("subPathExpr of \"{name}\" is {error}")))
    });
    let Some(below) = given.map(Ok).or(expanded).transpose()? else {
        return Ok(place.to_path_buf());
    };
    let below = inside(&below)
        .map_err(|why| VolumeError::Final(format!("subPath of \"{}\": {why}", mount.name)))?;
    let failed = |error: io::Error| {
        let (name, path) = (&mount.name, below.display());
        VolumeError::Passing(format!("subPath {path} of volume \"{name}\": {error}"))
    };
    let path = place.join(&below);
    if matches!(kind, Kind::Empty { .. }) && !path.exists() {
        std::fs::create_dir_all(&path).map_err(failed)?;
    }
    let path = path.canonicalize().map_err(failed)?;
    let root = place.canonicalize().map_err(failed)?;
    // A link in the volume may lead anywhere.
    if path.starts_with(root) {
        Ok(path)
    } else {
        Err(failed(io::Error::other("it leads outside")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(place: &Path, mount: &serde_json::Value) -> Result<Vec<Mount>, String> {
        let container = json!({"name": "c", "volumeMounts": [mount]});
        let container: Container =
            serde_json::from_value(container).map_err(|it| it.to_string())?;
        let kind = Kind::Empty { is_in_memory: false };
        let volumes = BTreeMap::from([("v".to_owned(), (kind, place.to_path_buf()))]);
        let variables = BTreeMap::from([("POD".to_owned(), "p-1".to_owned())]);
        mounts(&container, &volumes, &variables).map_err(|error| error.to_string())
    }

    #[test]
    fn a_mount_leads_from_the_volume_to_its_path() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let at = |mount| planned(scratch.path(), &mount).map(|mounts| mounts[0].clone());
        let whole = at(json!({"name": "v", "mountPath": "/a/./b/"})).expect("planned");
        assert_eq!(
            (whole.source.as_path(), whole.target.as_path()),
            (scratch.path(), "/a/b".as_ref())
        );
        let part = json!({"name": "v", "mountPath": "/a", "subPathExpr": "logs/$(POD)"});
        let source = at(part).expect("planned").source;
        assert!(source.ends_with("logs/p-1") && source.is_dir(), "{source:?}");
    }

    #[test]
    fn what_would_leave_the_volume_or_break_the_program_is_refused() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        std::os::unix::fs::symlink("/etc", scratch.path().join("link")).expect("made");
        let refused = |mount| planned(scratch.path(), &mount).expect_err("refused");
        let out = refused(json!({"name": "v", "mountPath": "/a", "subPath": "../x"}));
        assert!(out.contains("leaves the volume"), "{out}");
        let link = refused(json!({"name": "v", "mountPath": "/a", "subPath": "link"}));
        assert!(link.contains("leads outside"), "{link}");
        let own = refused(json!({"name": "v", "mountPath": "/proc/self"}));
        assert!(own.contains("use another mountPath"), "{own}");
        let none = refused(json!({"name": "w", "mountPath": "/a"}));
        assert!(none.contains("no matching volume"), "{none}");
    }
}
