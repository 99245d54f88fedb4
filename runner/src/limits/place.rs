//! Where this process may make control groups, by what Linux tells of its own.

use std::path::{Path, PathBuf};

/// The groups of this process, below which others may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Version 1: memory and processor time have a tree each, or one that they share.
    One {
        /// The group in the tree of memory.
        memory: PathBuf,
        /// The group in the tree of processor time.
        cpu: PathBuf,
    },
    /// Version 2: one tree for all.
    Two(PathBuf),
}

/// A mounted tree of control groups.
struct Tree<'a> {
    /// The group that is at the mount's path.
    root: &'a str,
    path: PathBuf,
    /// The controllers of version 1; none for version 2.
    controllers: Vec<&'a str>,
}

// === impl Place ===

impl Place {
    /// The place that `groups`, the text of `/proc/self/cgroup`, and `mounts`, that of
    /// `/proc/self/mountinfo`, tell of; `None` where no tree has memory and processor time. A machine
    /// that has both versions has these in version 1.
    pub(super) fn find(groups: &str, mounts: &str) -> Option<Self> {
        let trees: Vec<_> = mounts.lines().filter_map(Tree::parse).collect();
        let one = |controller: &str| {
            let tree = trees.iter().find(|tree| tree.controllers.contains(&controller))?;
            let group = groups.lines().find_map(|line| {
                let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
                controllers.split(',').any(|one| one == controller).then_some(group)
            })?;
            Some(tree.folder(group))
        };
        if let (Some(memory), Some(cpu)) = (one("memory"), one("cpu")) {
            return Some(Self::One { memory, cpu });
        }
        let tree = trees.iter().find(|tree| tree.controllers.is_empty())?;
        let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        Some(Self::Two(tree.folder(group)))
    }
}

// === impl Tree ===

impl<'a> Tree<'a> {
    /// Of a line such as `29 23 0:26 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory`, in
    /// which a number of fields may stand before the dash.
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, path) = (fields.next()?, fields.next()?);
        let mut fields = after.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        let controllers = match kind {
            "cgroup" => options.split(',').collect(),
            "cgroup2" => Vec::new(),
            _ => return None,
        };
        Some(Self { root, path: PathBuf::from(path), controllers })
    }

    /// The folder of a group. One that is not below the mount's own is told as seen from elsewhere, as
    /// in a container: then the mount's own is this process's.
    fn folder(&self, group: &str) -> PathBuf {
        let below = Path::new(group).strip_prefix(self.root).ok();
        let below = below.filter(|rest| rest.components().all(|part| part.as_os_str() != ".."));
        match below {
            Some(rest) if !rest.as_os_str().is_empty() => self.path.join(rest),
            _ => self.path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(groups: &str, mounts: &str, path: &str) {
        assert_eq!(Place::find(groups, mounts), Some(Place::Two(path.into())));
    }

    #[test]
    fn a_machine_with_version_1_has_a_tree_for_each() {
        let mounts = "24 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            29 24 0:26 / /sys/fs/cgroup/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            30 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            31 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = "9:name=systemd:/\n4:memory:/jobs/7\n1:cpu,cpuacct:/\n0::/\n";
        let found = Place::find(groups, mounts);
        let (memory, cpu) = ("/sys/fs/cgroup/memory/jobs/7".into(), "/sys/fs/cgroup/cpu".into());
        assert_eq!(found, Some(Place::One { memory, cpu }));
    }

    #[test]
    fn a_machine_with_version_2_has_one_tree() {
        let mounts =
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let scope = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope\n";
        two(scope, mounts, &format!("/sys/fs/cgroup{}", &scope.trim()[3..]));
        two("0::/\n", mounts, "/sys/fs/cgroup");
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_mount() {
        let mounts = "30 23 0:26 /kubepods/pod1/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        two("0::/kubepods/pod1/c1\n", mounts, "/sys/fs/cgroup");
        two("0::/kubepods/pod1/c1/a\n", mounts, "/sys/fs/cgroup/a");
        two("0::/../other\n", mounts, "/sys/fs/cgroup");
    }

    #[test]
    fn a_machine_without_these_trees_has_no_place() {
        let mounts = "24 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\nnonsense\n";
        assert_eq!(Place::find("0::/\n", mounts), None);
        let half = "30 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        assert_eq!(Place::find("4:memory:/\n1:cpu:/\n", half), None);
    }
}
