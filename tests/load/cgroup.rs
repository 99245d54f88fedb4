//! A control group of memory for one process and what it starts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

const ROOT: &str = "/sys/fs/cgroup";

/// A control group; dropping it removes the group, once no process is inside.
#[derive(Debug)]
pub(crate) struct Cgroup {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

// === impl Cgroup ===

impl Cgroup {
    /// A group whose memory is limited to `bytes`; with version 2 of cgroups it gets no swap. An
    /// error where this machine or user cannot make one.
    pub(crate) fn make(bytes: u64) -> anyhow::Result<Self> {
        let one = Path::new(ROOT).join("memory");
        let (root, version) = if one.join("memory.limit_in_bytes").exists() {
            (one, Version::One)
        } else {
            (PathBuf::from(ROOT), Version::Two)
        };
        let folder = root.join(format!("ebb-load-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let group = Self { folder, version };
        match version {
            Version::One => group.write("memory.limit_in_bytes", bytes)?,
            Version::Two => {
                group.write("memory.max", bytes)?;
                // Without swap there is no such file, and nothing to forbid.
                drop(group.write("memory.swap.max", 0));
            }
        }
        Ok(group)
    }

    /// The same command, inside the group from its first instruction on.
    pub(crate) fn wrap(&self, command: &Command) -> Command {
        let command = command.as_std();
        let mut wrapped = Command::new("sh");
        wrapped
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&self.folder)
            .arg(command.get_program())
            .args(command.get_args());
        wrapped
    }

    /// How often the kernel ended a process because the group had no memory left.
    pub(crate) fn kills(&self) -> anyhow::Result<u64> {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = fs::read_to_string(self.folder.join(file))?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.context("the kernel does not count its kills")?.parse().context("oom_kill")
    }

    /// The most memory that the group ever had, in bytes, pages that the kernel could have dropped
    /// included.
    pub(crate) fn peak(&self) -> Option<u64> {
        let file = match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    fn write(&self, file: &str, value: u64) -> anyhow::Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value.to_string())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The processes inside were told to end, and may take a moment.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
