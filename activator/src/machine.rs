//! What the machine gives this process: memory and open files.
//!
//! The memory limit is read by hand: of the crates that read it, some know only the root of the
//! mount, which is right in a container and wrong in a systemd slice, and others bring a whole
//! library of system information for one number.

use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::limits::Limits;

const CGROUPS: &str = "/sys/fs/cgroup";
/// A limit above this means no limit: version 1 of control groups writes "no limit" as 2^63 less a
/// page.
const UNLIMITED: u64 = 1 << 60;
/// Linux's own default, for a machine that does not say.
const FILES_DEFAULT: u64 = 1024;

/// What the machine gives this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory that the control group allows; `None` where it sets no limit.
    pub memory: Option<u64>,
    /// Files that may be open at once.
    pub files: u64,
}

// === impl Machine ===

impl Machine {
    /// Raises the limit of open files to what is allowed (a soft limit of 1,024 is common, and
    /// would be 400 connections), reads the limits of this process, and logs them.
    pub fn prepare() -> Self {
        let files = raise_files().unwrap_or_else(|error| {
            tracing::warn!(%error, "The limit of open files could not be raised");
            getrlimit(Resource::RLIMIT_NOFILE).map_or(FILES_DEFAULT, |(soft, _)| soft)
        });
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let memory = memory_limit(&own, |path| std::fs::read_to_string(path).ok());
        let machine = Self { memory, files };
        let limits = machine.limits();
        tracing::info!(
            files,
            memory_bytes = memory,
            connections = limits.connections,
            tunnels = limits.tunnels,
            held_bytes = limits.held_bytes,
            "Limits of this process"
        );
        machine
    }

    /// The limits of an activator that has this machine to itself.
    pub fn limits(self) -> Limits {
        Limits::within(self.memory, self.files)
    }
}

fn raise_files() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// The least memory limit of the control groups in `own`, the text of `/proc/self/cgroup`.
fn memory_limit(own: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    own.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            match controllers {
                "" => Some((PathBuf::from(CGROUPS), path, "memory.max")),
                "memory" => {
                    Some((Path::new(CGROUPS).join("memory"), path, "memory.limit_in_bytes"))
                }
                _ => None,
            }
        })
        .flat_map(|(root, path, file)| {
            // In a container the path may be the host's. The root of the mount is then the
            // container's own group.
            let below = root.join(path.trim_start_matches('/'));
            let up: Vec<_> = below
                .ancestors()
                .take_while(|folder| folder.starts_with(&root))
                .map(|folder| folder.join(file))
                .collect();
            up
        })
        .filter_map(|file| read(&file)?.trim().parse().ok())
        .filter(|limit| *limit < UNLIMITED)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(own: &str, files: &[(&str, &str)]) -> Option<u64> {
        memory_limit(own, |path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts_in_both_versions_of_control_groups() {
        let two = [
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "134217728\n"),
        ];
        assert_eq!(limit("0::/a/b\n", &two), Some(134_217_728));
        let one = [
            ("/sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "1048576\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(limit("5:cpu:/\n4:memory:/pod\n0::/\n", &one), Some(1_048_576));
        assert_eq!(limit("4:memory:/other\n", &one), None);
        let container = [("/sys/fs/cgroup/memory.max", "4096")];
        assert_eq!(limit("0::/kubepods/of/the/host\n", &container), Some(4096));
        assert_eq!(limit("", &[]), None);
    }
}
