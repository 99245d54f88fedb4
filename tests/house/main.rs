//! The rules of this house that no linter knows, checked on every file.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may fail")]

mod chart;
mod circles;
mod defects;
mod files;
mod locks;
mod names;
mod reference;
mod tasks;
mod version;

use std::path::Path;

use ebb_tests::binaries::source;
use regex::Regex;

use files::{FOLDERS, rust_files};

/// Lines of the longest file: one that needs more has two subjects.
const FILE_LINES_MAX: usize = 400;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc", "manager"];

/// The files that break a rule, one a line.
fn breaking(rule: impl Fn(&Path, &str) -> Option<String>) -> String {
    let broken = rust_files().into_iter().filter_map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(source()).unwrap().display().to_string();
        rule(&path, &text).map(|problem| format!("{name}: {problem}\n"))
    });
    broken.collect()
}

#[test]
fn no_file_is_longer_than_its_subject() {
    let broken = breaking(|_, text| {
        let lines = text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{lines} lines, at most {FILE_LINES_MAX}"))
    });
    assert_eq!(broken, "");
}

#[test]
fn every_module_says_what_it_is_for() {
    let broken = breaking(|path, text| {
        // The module that declares a file of tests has said what they are about.
        let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
        (!is_tests && !text.starts_with("//!")).then(|| "does not begin with //!".to_owned())
    });
    assert_eq!(broken, "");
}

#[test]
fn modules_have_plain_names_and_lie_beside_their_folder() {
    let broken = breaking(|path, _| {
        let stem = path.file_stem()?.to_str()?;
        (stem == "mod" || EMPTY_NAMES.contains(&stem)).then(|| format!("is named {stem}"))
    });
    assert_eq!(broken, "");
}

/// The braces of an import hold names of one module: each line then says where its names are from,
/// and two people who add one rarely touch the same line.
#[test]
fn an_import_names_one_module() {
    let import = Regex::new(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?use [^;{]*\{([^;]*)\};").unwrap();
    let broken = breaking(|_, text| {
        let mut imports = import.captures_iter(text);
        let nested = imports.find(|import| import[1].contains("::"))?;
        Some(format!("imports from two modules at once: {{{}}}", nested[1].trim()))
    });
    assert_eq!(broken, "");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|parts| parts.concat());
    let broken = breaking(|_, text| {
        marks.iter().find(|mark| text.contains(mark.as_str())).map(|mark| format!("has {mark}"))
    });
    assert_eq!(broken, "");
}

#[test]
fn the_libraries_of_the_platform_do_not_know_of_local_mode() {
    for folder in ["api", "activator", "autoscaler", "controller", "daemon"] {
        let manifest = std::fs::read_to_string(source().join(folder).join("Cargo.toml")).unwrap();
        for part in ["ebb-apiserver", "ebb-runner", "ebb-local"] {
            assert!(!manifest.contains(part), "{folder} depends on {part}");
        }
    }
    let fetch = std::fs::read_to_string(source().join("fetch/Cargo.toml")).unwrap();
    assert_eq!(
        fetch.matches("ebb-").count(),
        2,
        "it depends on more of Ebb than its types: {fetch}"
    );
    let apiserver = std::fs::read_to_string(source().join("apiserver/Cargo.toml")).unwrap();
    let (apiserver, _) = apiserver.split_once("[dev-dependencies]").unwrap();
    assert_eq!(apiserver.matches("ebb-").count(), 1, "it depends on a part of Ebb: {apiserver}");
}

#[test]
fn the_architecture_fits_two_screens_and_names_every_folder() {
    let text = std::fs::read_to_string(source().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() <= 120, "{} lines", text.lines().count());
    for folder in FOLDERS {
        assert!(text.contains(&format!("`{folder}/`")), "{folder}/ is not in ARCHITECTURE.md");
    }
}
