//! The files of a model, fetched before it starts: `serving.ebb.dev/model` on a template.
//!
//! They lie read-only under [`FOLDER`], and [`VARIABLE`] names the file, or the folder, in every
//! container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;

use crate::annotations::Key;
use crate::field_error::clip;
use crate::model_source::{ModelPlace, ModelSource, ModelSourceError};
use crate::names::is_subdomain;

/// Where the files come from.
pub const MODEL: Key = Key(&["serving.ebb.dev/model"]);
/// A PersistentVolumeClaim of the namespace that keeps them, instead of a folder of each pod.
pub const MODEL_CACHE: Key = Key(&["serving.ebb.dev/model-cache"]);
/// A Secret of the namespace whose entries are variables of the container that fetches them.
pub const MODEL_SECRET: Key = Key(&["serving.ebb.dev/model-secret"]);
/// All three.
pub const MODEL_KEYS: [Key; 3] = [MODEL, MODEL_CACHE, MODEL_SECRET];

/// Where a container finds the files.
pub const FOLDER: &str = "/mnt/models";
/// The variable that names the one file, or the folder.
pub const VARIABLE: &str = "EBB_MODEL";
/// The variable of the init container that names the source, and the one with the file to which it
/// writes why it failed.
pub const SOURCE_VARIABLE: &str = "EBB_MODEL_SOURCE";
/// See [`SOURCE_VARIABLE`].
pub const LOG_VARIABLE: &str = "EBB_TERMINATION_LOG";
/// How the line begins by which the init container says why it failed; others may stand before it.
pub const REASON_PREFIX: &str = "ebb-fetch: ";
/// Name of the volume, and of the init container that fetches the files.
pub const NAME: &str = "ebb-model";

/// What a template asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFiles {
    /// Where the files come from.
    pub source: ModelSource,
    /// The claim that keeps them.
    pub cache: Option<String>,
    /// The Secret with what the place asks for.
    pub secret: Option<String>,
}

/// What is wrong with one of the annotations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelFilesError {
    /// No source.
    #[error(transparent)]
    Source(#[from] ModelSourceError),
    /// Something that means nothing without a source.
    #[error("it means nothing without serving.ebb.dev/model")]
    Alone,
    /// Something that means nothing with files of this machine.
    #[error("it means nothing with file:, which is not fetched")]
    Unfetched,
    /// No name of an object.
    #[error("{0:?} is no name of an object of the namespace, such as \"my-models\"")]
    Name(String),
}

/// What a template has itself that the files of a model would come on top of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelFilesConflict {
    /// A volume of their name.
    #[error("with serving.ebb.dev/model no volume may be named {NAME:?}: rename it")]
    Volume,
    /// A container of their name.
    #[error("with serving.ebb.dev/model no container may be named {NAME:?}: rename it")]
    Container,
    /// Something at, over or below their folder.
    #[error(
        "with serving.ebb.dev/model nothing may be mounted at {0:?}: the model lies in {FOLDER}"
    )]
    Mount(String),
}

// === impl ModelFiles ===

impl ModelFiles {
    /// What these annotations ask for; `None` without a source. An error comes with the annotation
    /// that it is about.
    pub fn of(
        annotations: Option<&BTreeMap<String, String>>,
    ) -> Result<Option<Self>, (Key, ModelFilesError)> {
        let given = |key: Key| key.get(annotations).filter(|text| !text.is_empty());
        let others = [MODEL_CACHE, MODEL_SECRET];
        let other = others.into_iter().find(|key| given(*key).is_some());
        let Some(text) = given(MODEL) else {
            return other.map_or(Ok(None), |key| Err((key, ModelFilesError::Alone)));
        };
        let source = ModelSource::parse(text).map_err(|error| (MODEL, error.into()))?;
        if let (ModelPlace::File { .. }, Some(key)) = (&source.place, other) {
            return Err((key, ModelFilesError::Unfetched));
        }
        let name = |key: Key| match given(key) {
            Some(name) if !is_subdomain(name) => {
                Err((key, ModelFilesError::Name(clip(name).into_owned())))
            }
            name => Ok(name.map(str::to_owned)),
        };
        Ok(Some(Self { cache: name(MODEL_CACHE)?, secret: name(MODEL_SECRET)?, source }))
    }

    /// The path of the model, where its folder is `folder`.
    pub fn path(&self, folder: &str) -> String {
        match self.source.file_name() {
            Some(name) => format!("{}/{name}", folder.trim_end_matches('/')),
            None => folder.to_owned(),
        }
    }
}

/// What of a pod stands in the way of a model's files.
pub fn conflict(pod: &PodSpec) -> Option<ModelFilesConflict> {
    let init = pod.init_containers.iter().flatten();
    let mut containers = pod.containers.iter().chain(init.clone());
    if pod.volumes.iter().flatten().any(|volume| volume.name == NAME) {
        return Some(ModelFilesConflict::Volume);
    }
    if containers.any(|container| container.name == NAME) {
        return Some(ModelFilesConflict::Container);
    }
    let mounts =
        pod.containers.iter().flat_map(|container| container.volume_mounts.iter().flatten());
    // A mount over the folder would hide the model, and one below it would need a place in a volume
    // that is read-only.
    let is_in_the_way = |path: &str| {
        let parts = |path: &str| path.split('/').filter(|part| !part.is_empty()).count();
        let shared = path
            .split('/')
            .filter(|part| !part.is_empty())
            .zip(FOLDER.split('/').skip(1))
            .take_while(|(one, other)| one == other)
            .count();
        shared == parts(path).min(parts(FOLDER))
    };
    mounts
        .map(|mount| &mount.mount_path)
        .find(|path| is_in_the_way(path))
        .map(|path| ModelFilesConflict::Mount(clip(path).into_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(notes: &[(&str, &str)]) -> Result<Option<ModelFiles>, (Key, ModelFilesError)> {
        let named =
            |(name, value): &(&str, &str)| (format!("serving.ebb.dev/{name}"), (*value).to_owned());
        ModelFiles::of(Some(&notes.iter().map(named).collect()))
    }

    #[test]
    fn files_have_a_source_and_may_have_a_cache_and_a_secret() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("model", "")]), Ok(None));
        let source = ("model", "hf://org/name/x.gguf");
        let files = of(&[source, ("model-cache", "models"), ("model-secret", "hub")]);
        let files = files.expect("it is right").expect("a model");
        assert_eq!(files.path(FOLDER), "/mnt/models/x.gguf");
        assert_eq!(
            (files.cache.as_deref(), files.secret.as_deref()),
            (Some("models"), Some("hub"))
        );
        let whole = of(&[("model", "hf://org/name")]).expect("it is right").expect("a model");
        assert_eq!(whole.path(FOLDER), FOLDER);
    }

    #[test]
    fn an_error_names_its_annotation() {
        let key = |notes: &[(&str, &str)]| of(notes).expect_err("it is wrong").0;
        let file = ("model", "file:///x");
        assert_eq!(key(&[("model", "x")]), MODEL);
        assert_eq!(key(&[("model-cache", "x")]), MODEL_CACHE);
        assert_eq!(key(&[("model-secret", "x")]), MODEL_SECRET);
        assert_eq!(key(&[file, ("model-secret", "x")]), MODEL_SECRET);
        assert_eq!(key(&[("model", "hf://o/n"), ("model-cache", "X")]), MODEL_CACHE);
        assert_eq!(key(&[("model", "hf://o/n"), ("model-secret", "a..b")]), MODEL_SECRET);
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let of = |pod: serde_json::Value| conflict(&serde_json::from_value(pod).expect("a pod"));
        let mounted = |path: &str| json!({"containers": [{"name": "a", "volumeMounts": [{"name": "v", "mountPath": path}]}]});
        for path in ["/mnt/models", "/mnt/models/", "/mnt", "/mnt//models/x", "/"] {
            assert_eq!(of(mounted(path)), Some(ModelFilesConflict::Mount(path.to_owned())));
        }
        for path in ["/mnt/model", "/mnt/models2", "/models", "/mnt/data"] {
            assert_eq!(of(mounted(path)), None, "{path}");
        }
        let volume = json!({"containers": [], "volumes": [{"name": "ebb-model"}]});
        assert_eq!(of(volume), Some(ModelFilesConflict::Volume));
        let container = json!({"containers": [], "initContainers": [{"name": "ebb-model"}]});
        assert_eq!(of(container), Some(ModelFilesConflict::Container));
    }
}
