//! Finds the model files to serve: those that the command line names, or those in the folders that
//! exist.
//!
//! The rules are the same for a checkout, an installation and a container image, so that the same
//! command runs in all three.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// The ending of model files in a folder.
const EXTENSION: &str = "onnx";

/// Most models in one process. Each is loaded before the port opens, so more would make a start
/// from zero slower than anyone waits; serve them as separate services instead.
pub const MODELS_MAX: usize = 64;

/// A model to load: the name it is served as, and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Name in the routes.
    pub name: String,
    /// Existing file.
    pub file: PathBuf,
}

/// Why the search failed.
#[derive(Debug, Error)]
pub enum SearchError {
    /// A named file was not found.
    #[error("there is no model file `{}`; looked in {folders}", file.display())]
    NoFile {
        /// As on the command line.
        file: PathBuf,
        /// The places that were searched.
        folders: String,
    },
    /// No file was named, and no folder has one.
    #[error("there is no .onnx file in {folders}; name one with --model or a folder with --models")]
    NoModels {
        /// The folders that were searched.
        folders: String,
    },
    /// A folder exists but cannot be listed.
    #[error("could not list the folder `{}`: {source}", folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Two files would be served under one name.
    #[error("two files are to be served as `{name}`; give one another name with NAME=FILE")]
    SameName {
        /// The name.
        name: String,
    },
    /// A name that cannot stand in a path.
    #[error("`{name}` cannot name a model; use letters, digits, `-`, `_` and `.`, at most 128")]
    BadName {
        /// The name.
        name: String,
    },
    /// More files than one process serves.
    #[error("{count} models are too many for one server; at most {MODELS_MAX} are taken")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// The folders searched when none is named, first to last: `models` beside the executable (an
/// installation), `/models` (where images and volumes put them), and this crate's own in a
/// checkout, seen from the working directory or from the executable in `target/PROFILE`.
pub fn default_folders(executable: Option<&Path>) -> Vec<PathBuf> {
    const IN_CHECKOUT: &str = "examples/onnx/models";
    let beside = executable.and_then(Path::parent);
    let checkout = beside.and_then(Path::parent).and_then(Path::parent);
    beside
        .map(|folder| folder.join("models"))
        .into_iter()
        .chain([PathBuf::from("/models"), PathBuf::from(IN_CHECKOUT)])
        .chain(checkout.map(|folder| folder.join(IN_CHECKOUT)))
        .collect()
}

/// The models to serve: the `named` ones, or else all of the first of `folders` that has any.
/// Each of `named` is `FILE` or `NAME=FILE`.
pub fn find(named: &[String], folders: &[PathBuf]) -> Result<Vec<Found>, SearchError> {
    let mut found = Vec::new();
    for entry in named {
        found.push(find_named(entry, folders)?);
    }
    if named.is_empty() {
        found = find_any(folders)?;
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = found.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(SearchError::SameName { name: pair[0].name.clone() });
    }
    if found.len() > MODELS_MAX {
        return Err(SearchError::TooMany { count: found.len() });
    }
    Ok(found)
}

fn find_named(entry: &str, folders: &[PathBuf]) -> Result<Found, SearchError> {
    let (name, file) = match entry.split_once('=') {
        Some((name, file)) => (name.to_owned(), Path::new(file)),
        None => (stem(Path::new(entry)), Path::new(entry)),
    };
    check_name(&name)?;
    // An absolute file replaces the folder it is joined to, so it is found as it stands.
    let mut places = std::iter::once(PathBuf::new()).chain(folders.iter().cloned());
    places.find_map(|folder| Some(folder.join(file)).filter(|path| path.is_file())).map_or_else(
        || {
            let folders = format!("the working directory, {}", listed(folders));
            Err(SearchError::NoFile { file: file.to_owned(), folders })
        },
        |file| Ok(Found { name, file }),
    )
}

fn find_any(folders: &[PathBuf]) -> Result<Vec<Found>, SearchError> {
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let unreadable = |source| SearchError::Unreadable { folder: folder.clone(), source };
        let mut found = Vec::new();
        for entry in folder.read_dir().map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            if file.is_file() && file.extension().is_some_and(|ending| ending == EXTENSION) {
                let name = stem(&file);
                check_name(&name)?;
                found.push(Found { name, file });
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(SearchError::NoModels { folders: listed(folders) })
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Names stand in paths, so characters that would need escaping there are refused early.
fn check_name(name: &str) -> Result<(), SearchError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 128 || !name.chars().all(fits) {
        return Err(SearchError::BadName { name: name.to_owned() });
    }
    Ok(())
}

fn listed(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folder with the committed model.
    fn models() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
    }

    #[test]
    fn a_relative_file_is_found_in_the_folders_and_named_by_its_stem() {
        let found = find(&["digits.onnx".into()], &["/nowhere".into(), models()]).unwrap();
        assert_eq!(found, [Found { name: "digits".into(), file: models().join("digits.onnx") }]);
    }

    #[test]
    fn a_name_may_be_given_and_the_same_file_served_twice() {
        let found = find(&["b=digits.onnx".into(), "a=digits.onnx".into()], &[models()]).unwrap();
        let names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn without_names_every_model_of_the_first_folder_with_any_is_served() {
        let found = find(&[], &["/nowhere".into(), models()]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "digits");
    }

    #[test]
    fn what_is_not_there_is_refused_with_the_places_searched() {
        let error = find(&["no.onnx".into()], &["/a".into(), "/b".into()]).unwrap_err();
        let sentence = "there is no model file `no.onnx`; looked in the working directory, /a, /b";
        assert_eq!(error.to_string(), sentence);
        assert!(matches!(find(&[], &["/a".into()]), Err(SearchError::NoModels { .. })));
    }

    #[test]
    fn names_that_collide_or_do_not_fit_a_path_are_refused() {
        let twice = ["digits.onnx".into(), "digits=digits.onnx".into()];
        assert!(matches!(find(&twice, &[models()]), Err(SearchError::SameName { .. })));
        for entry in ["=digits.onnx", "a/b=digits.onnx", "a b=digits.onnx"] {
            let refused = find(&[entry.into()], &[models()]);
            assert!(matches!(refused, Err(SearchError::BadName { .. })), "{entry}");
        }
    }

    #[test]
    fn a_checkout_is_seen_from_an_executable_in_its_target_folder() {
        let folders = default_folders(Some(Path::new("/src/ebb/target/debug/ebb-onnx")));
        assert_eq!(folders.first(), Some(&PathBuf::from("/src/ebb/target/debug/models")));
        assert_eq!(folders.last(), Some(&PathBuf::from("/src/ebb/examples/onnx/models")));
    }
}
