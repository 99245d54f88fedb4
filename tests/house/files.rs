//! The Rust files of this house, and their code without its tests.

use std::path::{Path, PathBuf};

use ebb_tests::binaries::source;

/// Folders that hold code.
pub(crate) const FOLDERS: &[&str] = &[
    "api",
    "activator",
    "autoscaler",
    "controller",
    "daemon",
    "apiserver",
    "runner",
    "fetch",
    "local",
    "examples",
    "simulation",
    "tests",
    "fuzz",
];

/// The crates that Ebb is made of.
pub(crate) const CRATES: &[&str] = &[
    "api",
    "activator",
    "autoscaler",
    "controller",
    "daemon",
    "apiserver",
    "runner",
    "fetch",
    "local",
];

/// Every Rust file of [`FOLDERS`].
pub(crate) fn rust_files() -> Vec<PathBuf> {
    let files: Vec<_> =
        FOLDERS.iter().flat_map(|folder| files_in(&source().join(folder))).collect();
    assert!(files.len() > 50, "only {} files were found", files.len());
    files
}

/// The Rust files of a folder, without those that hold nothing but tests; each with its code, which
/// is the part before its own tests.
pub(crate) fn code_in(folder: &Path) -> Vec<(PathBuf, String)> {
    let is_code = |path: &PathBuf| {
        let inside = path.strip_prefix(folder).unwrap_or(path).with_extension("");
        !inside.iter().any(|part| part == "tests")
    };
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, code_of(&text).to_owned())
    };
    files_in(folder).into_iter().filter(is_code).map(read).collect()
}

/// The part of a file before its tests.
pub(crate) fn code_of(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
