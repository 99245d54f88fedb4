//! The version stands once, in the workspace's Cargo.toml; files that cannot read it there agree
//! with it.

use std::path::Path;

use ebb_tests::binaries::source;
use serde_json::Value;

/// The version of every crate of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(source().join(path)).unwrap()
}

#[test]
fn the_chart_has_the_version_of_the_workspace() {
    let chart: Value = serde_saphyr::from_str(&read("deploy/helm/ebb/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], VERSION);
    assert_eq!(chart["appVersion"], VERSION);
}

/// The chart pulls images of its version: instructions that push others end in ErrImagePull.
#[test]
fn every_tag_of_an_image_is_this_version() {
    let files = [
        "README.md",
        "deploy/ebb.yaml",
        "deploy/helm/ebb/README.md",
        "deploy/helm/ebb/values.yaml",
        "deploy/images/Dockerfile",
    ];
    for file in files {
        let text = read(file);
        let tags: Vec<&str> = text.split("ebb-activator:").skip(1).collect();
        let is_tag = |after: &&&str| after.starts_with(|first: char| first.is_ascii_digit());
        let tags: Vec<&str> = tags.iter().filter(is_tag).copied().collect();
        assert!(!tags.is_empty(), "{file} has no tag");
        for after in tags {
            let tag = after.split(|letter: char| !letter.is_ascii_digit() && letter != '.').next();
            assert_eq!(tag.map(|tag| tag.trim_end_matches('.')), Some(VERSION), "{file}");
        }
    }
}

#[test]
fn every_crate_takes_its_version_from_the_workspace() {
    let workspace = read("Cargo.toml");
    let (_, members) = workspace.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 5, "only {members:?} were found");
    for member in members {
        let manifest = read(Path::new(member).join("Cargo.toml"));
        assert!(manifest.contains("\nversion.workspace = true\n"), "{member} has its own version");
    }
}

#[test]
fn the_changelog_lists_unreleased_changes_above_this_version() {
    let changelog = read("CHANGELOG.md");
    let unreleased = changelog.find("\n## [Unreleased]\n").unwrap();
    let this = changelog.find(&format!("\n## [{VERSION}]")).unwrap();
    assert!(unreleased < this, "the newest does not come first");
}
