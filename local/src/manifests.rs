//! The manifests given with `-f`: read before anything starts, applied once everything runs.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;

use std::path::{Path, PathBuf};

use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client, discovery};
use serde_json::Value;

/// Field manager of the manifests given with `-f`.
const MANAGER: &str = "ebb-local";

/// Largest manifest file: the bound that Kubernetes puts on one object, for a file of many.
const FILE_BYTES_MAX: u64 = 3 << 20;

/// One object of a manifest file.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    file: PathBuf,
    object: Value,
    kind: GroupVersionKind,
    name: String,
    namespace: String,
}

/// A manifest that cannot be read or applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// The file or folder cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is too large to be a manifest.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes: split it", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// A folder without a manifest in it.
    #[error("{} holds no .yaml, .yml or .json file", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// The file is not YAML or JSON.
    #[error("{} is not valid YAML: {problem}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where and why, in one line.
        problem: String,
    },
    /// A document without apiVersion, kind or metadata.name.
    #[error("{}: {field} is missing in document {number}", file.display())]
    Incomplete {
        /// The file.
        file: PathBuf,
        /// Which document, from 1.
        number: usize,
        /// What is missing.
        field: &'static str,
    },
    /// The API refused the object.
    #[error("{}: {object}: {problem}", file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// Kind and name.
        object: String,
        /// What the API said, in one line.
        problem: String,
    },
}

/// Every object in these files and folders (not in folders below), in the order given; the files
/// of a folder by name.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, ManifestError> {
    let mut manifests = Vec::new();
    for path in paths {
        for file in files(path)? {
            parse(&file, &content(&file)?, &mut manifests)?;
        }
    }
    Ok(manifests)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let unreadable = |source| ManifestError::Read { file: path.to_path_buf(), source };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path).map_err(unreadable)?;
    let is_manifest = |file: &PathBuf| {
        let extension = file.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file()
    };
    let mut files: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(is_manifest).collect();
    files.sort();
    if files.is_empty() {
        return Err(ManifestError::Empty { folder: path.to_path_buf() });
    }
    Ok(files)
}

fn content(file: &Path) -> Result<String, ManifestError> {
    let unreadable = |source| ManifestError::Read { file: file.to_path_buf(), source };
    if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(ManifestError::TooLarge { file: file.to_path_buf() });
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

fn parse(file: &Path, text: &str, into: &mut Vec<Manifest>) -> Result<(), ManifestError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        ManifestError::Syntax { file: file.to_path_buf(), problem: one_line(&error.to_string()) }
    })?;
    for (index, object) in documents.into_iter().enumerate() {
        if object.is_null() {
            continue;
        }
        let incomplete = |field| ManifestError::Incomplete {
            file: file.to_path_buf(),
            number: index + 1,
            field,
        };
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let version = text("/apiVersion").ok_or_else(|| incomplete("apiVersion"))?;
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = text("/kind").ok_or_else(|| incomplete("kind"))?;
        let name = text("/metadata/name").ok_or_else(|| incomplete("metadata.name"))?.to_owned();
        let namespace = text("/metadata/namespace").unwrap_or("default").to_owned();
        let kind = GroupVersionKind::gvk(group, version, kind);
        let object = without_identity(object);
        into.push(Manifest { file: file.to_path_buf(), object, kind, name, namespace });
    }
    Ok(())
}

/// The object without what a cluster wrote into it: managed fields, which no apply may have, and the
/// version and the UID, which are those of the object there.
fn without_identity(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "uid"] {
            metadata.remove(field);
        }
    }
    object
}

impl Manifest {
    /// Applies the object server-side, refusing unknown fields. Returns kind and name, as `kubectl`
    /// prints them. Changes made with `kubectl` since stay, unless the manifest says otherwise.
    pub(crate) async fn apply(&self, client: &Client) -> Result<String, ManifestError> {
        let object = if self.kind.group.is_empty() {
            format!("{}/{}", self.kind.kind.to_lowercase(), self.name)
        } else {
            format!("{}.{}/{}", self.kind.kind.to_lowercase(), self.kind.group, self.name)
        };
        let refused = |error: &kube::Error| ManifestError::Refused {
            file: self.file.clone(),
            object: object.clone(),
            problem: one_line(&reason(error)),
        };
        let (resource, capabilities) =
            discovery::pinned_kind(client, &self.kind).await.map_err(|error| refused(&error))?;
        let api: Api<DynamicObject> = match capabilities.scope {
            discovery::Scope::Namespaced => {
                Api::namespaced_with(client.clone(), &self.namespace, &resource)
            }
            discovery::Scope::Cluster => Api::all_with(client.clone(), &resource),
        };
        let params = PatchParams::apply(MANAGER).force().validation_strict();
        let applied = api.patch(&self.name, &params, &Patch::Apply(&self.object)).await;
        applied.map(|_| object.clone()).map_err(|error| refused(&error))
    }
}

/// What the API said, without the client's frame around it.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_by_name_and_a_file_may_hold_several_objects() {
        let folder = tempfile::tempdir().unwrap();
        let object =
            |name| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        let two = format!("{}---\n{}", object("b"), object("c"));
        std::fs::write(folder.path().join("2.yml"), two).unwrap();
        std::fs::write(folder.path().join("1.yaml"), object("a")).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "not a manifest").unwrap();
        let manifests = read(&[folder.path().to_path_buf()]).unwrap();
        let names: Vec<_> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn a_manifest_that_was_read_from_a_cluster_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("exported.yaml");
        let metadata = "{name: a, labels: {l: v}, uid: u, resourceVersion: '7', managedFields: []}";
        std::fs::write(&file, format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\n"))
            .unwrap();
        let manifests = read(&[file]).unwrap();
        let expected = serde_json::json!({"name": "a", "labels": {"l": "v"}});
        assert_eq!(manifests[0].object["metadata"], expected);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_one_line_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let problem = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            let problem = read(&[file]).unwrap_err().to_string();
            assert_eq!(problem.lines().count(), 1, "{problem}");
            assert!(problem.contains(name), "{problem}");
            problem
        };
        assert!(problem("kind.yaml", "apiVersion: v1").contains("kind is missing in document 1"));
        assert!(problem("syntax.yaml", "a: [").contains("not valid YAML"));
        let missing = read(&[folder.path().join("absent")]).unwrap_err().to_string();
        assert!(missing.contains("absent"), "{missing}");
    }
}
