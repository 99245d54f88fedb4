//! The mounts of a container: its volumes, each at a path of its own.
//!
//! A program of local mode sees this machine's files, so a mount is made in a mount namespace that
//! only the program and its children have. The `ebb` program makes it: started in the model's place
//! with a plan, it enters the namespace, makes the mounts and becomes the model ([`main`]).
//! Not done by the runner itself, whose other threads would be in the way of a namespace of users,
//! and not by a setting of the child's `fork`, which takes unsafe code.

mod enter;
mod mounter;
mod space;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::command;

pub use enter::main;
pub(super) use mounter::{Entry, Mounter};

/// Most mounts of one container: their paths have to fit into one word of a command line (128 KiB).
pub(super) const MOUNTS_MAX: usize = 64;

/// Most bytes of a path in a mount.
pub(super) const PATH_BYTES_MAX: usize = 512;

/// Beginnings of the names of variables that the loader of programs and the allocator of the C library
/// read.
const HELD_PREFIXES: [&str; 3] = ["LD_", "GLIBC_", "MALLOC_"];

/// A file or folder of this machine that a program sees at another path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mount {
    /// The volume's name, for messages.
    pub(super) volume: String,
    pub(super) source: PathBuf,
    /// Absolute and without `.` and `..`.
    pub(super) target: PathBuf,
    pub(super) is_read_only: bool,
}

/// What the program that becomes a model has to do before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The working directory, which may lie in a mount.
    pub(super) directory: PathBuf,
    /// The container's variables that are for its program alone: they would change how the ebb program
    /// starts, or which libraries it has.
    pub(super) held: BTreeMap<String, String>,
    /// A program of a container that runs already: its mounts are joined, and none are made.
    pub(super) joins: Option<i32>,
    /// In the order of their making: what lies in another's target comes after it.
    pub(super) mounts: Vec<Mount>,
}

// === impl Mount ===

impl Mount {
    /// Whether both sides are one path, so that the program sees the volume without a mount.
    pub(super) fn is_in_place(&self) -> bool {
        self.source == self.target
    }
}

// === impl Plan ===

impl Plan {
    /// `variables` are those of the container.
    pub(super) fn of(
        directory: PathBuf,
        mut mounts: Vec<Mount>,
        variables: &BTreeMap<String, String>,
    ) -> Self {
        mounts.sort_by_key(|mount| mount.target.components().count());
        let is_held = |name: &str| {
            HELD_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                || name == mounter::ALLOCATOR
        };
        let held = variables.iter().filter(|(name, _)| is_held(name));
        let held = held.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { directory, held, joins: None, mounts }
    }

    /// The plan of another program of a container that runs: `leader` is its first process.
    pub(super) fn joining(&self, leader: i32) -> Self {
        Self { joins: Some(leader), ..self.clone() }
    }

    /// The file of this machine that a program of this plan sees at `path`, which is absolute.
    pub(super) fn on_machine(&self, path: &Path) -> PathBuf {
        if self.mounts.is_empty() {
            return path.to_path_buf();
        }
        let path = clean(path);
        // The last of those that fit lies deepest, and hides the others.
        let found = self.mounts.iter().rev().find_map(|mount| {
            let rest = path.strip_prefix(&mount.target).ok()?;
            // A file has nothing below it, and joining nothing would make a folder of its path.
            let is_target = rest.as_os_str().is_empty();
            Some(if is_target { mount.source.clone() } else { mount.source.join(rest) })
        });
        found.unwrap_or(path)
    }
}

/// Whether a program of `plan` finds a program at `path`. What lies in a volume is believed to be one: a
/// link there leads to where it leads among the mounts, which only a program with them can follow.
pub(super) fn is_program(plan: &Plan, path: &Path) -> bool {
    let found = plan.on_machine(path);
    let is_linked = || found.ancestors().any(Path::is_symlink);
    command::is_program(&found) || (found != path && is_linked())
}

/// The path without `.` and `..`, as Kubernetes reads the paths of mounts: by its words, whatever
/// links there are.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, target: &str) -> Mount {
        Mount {
            volume: "v".to_owned(),
            source: source.into(),
            target: target.into(),
            is_read_only: false,
        }
    }

    #[test]
    fn variables_of_the_loader_wait_for_the_program() {
        let variables = ["LD_PRELOAD", "_RJEM_MALLOC_CONF", "PATH"];
        let variables = variables.map(|name| (name.to_owned(), "x".to_owned())).into();
        let plan = Plan::of("/".into(), Vec::new(), &variables);
        let held: Vec<_> = plan.held.keys().collect();
        assert_eq!(held, ["LD_PRELOAD", "_RJEM_MALLOC_CONF"]);
    }

    #[test]
    fn a_link_in_a_volume_is_followed_by_the_program_alone() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let link = scratch.path().join("current");
        // It leads to a folder among the mounts, which this machine does not have.
        std::os::unix::fs::symlink("/models/v1", link).expect("made");
        let source = scratch.path().display().to_string();
        let plan = Plan::of("/".into(), vec![mount(&source, "/models")], &BTreeMap::new());
        assert!(is_program(&plan, Path::new("/models/current/run")));
        assert!(!is_program(&plan, Path::new("/models/other/run")));
        assert!(!is_program(&plan, Path::new("/elsewhere/current/run")));
    }

    #[test]
    fn a_program_in_a_mount_is_found_on_the_machine() {
        let mounts = vec![mount("/v/inner", "/models/own"), mount("/v/outer", "/models")];
        let plan = Plan::of("/".into(), mounts, &BTreeMap::new());
        let found = |path: &str| plan.on_machine(Path::new(path)).display().to_string();
        assert_eq!(found("/models/run"), "/v/outer/run");
        assert_eq!(found("/models/own/run"), "/v/inner/run");
        assert_eq!(found("/models/own"), "/v/inner");
        assert_eq!(found("/models-too/run"), "/models-too/run");
        assert_eq!(found("/x/../models/./run"), "/v/outer/run");
    }
}
