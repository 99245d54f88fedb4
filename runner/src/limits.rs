//! Limits of memory and processor time, by control groups of Linux.
//!
//! Written by hand: the crates for it bring a client of systemd or a runtime of containers for what are
//! six files here. Nothing is asked of systemd: a group is made below Ebb's own, where that is allowed,
//! and else limits are said to be left out.

mod place;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, process};

use ebb_api::quantity;
use k8s_openapi::api::core::v1::Container;

use self::place::Place;

/// The time in which a container may have its share of the processors, in microseconds; kubelet's
/// default.
const PERIOD_US: u32 = 100_000;
/// The kernel takes no smaller share.
const QUOTA_MIN_US: u64 = 1000;
/// Beginning of the names of Ebb's groups; the number of its process follows.
const PREFIX: &str = "ebb-";
/// Most bytes of a group's own name; the file system takes 255.
const NAME_BYTES_MAX: usize = 200;
/// Most groups of dead Ebbs that are removed at a start.
const SWEPT_MAX: usize = 1024;

/// What helps where systemd has put Ebb into a group that is not its own.
const ADVICE: &str = ". Start Ebb in a group of its own, as by systemd-run --user --scope -p Delegate=yes \
                      ebb local";

/// What a container may have; nothing of what it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    memory_bytes: Option<u64>,
    /// Of [`PERIOD_US`]; more than one period for more than one processor.
    quota_us: Option<u64>,
}

/// Makes groups, where this process may.
#[derive(Debug, Clone)]
pub struct Limiter(Result<Arc<Trees>, Arc<str>>);

/// The groups of this Ebb, which those of its containers are below.
#[derive(Debug)]
struct Trees {
    folders: Vec<PathBuf>,
    is_unified: bool,
}

/// The groups of one run of a container. Removed when it is dropped, by when its processes are to have
/// ended.
#[derive(Debug)]
pub(super) struct Group {
    folders: Vec<PathBuf>,
    is_unified: bool,
    /// Kills before this run, in a group that an earlier run has left.
    kills_before: u64,
}

// === impl Limits ===

impl Limits {
    /// Those of a container. Amounts that are no amounts say nothing: admission has refused them.
    pub(super) fn of(container: &Container) -> Self {
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        let amount = |name| limits.and_then(|limits| limits.get(name)).map(|amount| &*amount.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` clamps")]
        let quota = |processors: f64| (processors * f64::from(PERIOD_US)).ceil() as u64;
        // Nothing, as a limit, is no limit; to kubelet, too.
        let quota_us = amount("cpu").and_then(quantity::number).map(quota).filter(|us| *us > 0);
        Self {
            memory_bytes: amount("memory").and_then(quantity::whole).filter(|bytes| *bytes > 0),
            quota_us: quota_us.map(|quota| quota.max(QUOTA_MIN_US)),
        }
    }

    fn is_none(self) -> bool {
        self == Self::default()
    }
}

// === impl Limiter ===

impl Limiter {
    /// Makes groups nowhere, for this reason.
    pub fn none(why: &str) -> Self {
        Self(Err(why.into()))
    }

    /// Tries to make the groups of this Ebb below those that the process is in, and removes those that
    /// dead Ebbs have left there. A few files are written; a limiter that makes no groups leaves none.
    pub fn prepare() -> Self {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let place = Place::find(&read("cgroup"), &read("mountinfo"));
        let Some(place) = place else {
            return Self::none("this system has no control groups for memory and processor time");
        };
        let advice = match place {
            Place::One { .. } => "",
            Place::Two(_) => ADVICE,
        };
        match Trees::make(place) {
            Ok(trees) => Self(Ok(Arc::new(trees))),
            Err(error) => {
                Self::none(&format!("no control group can be made here: {error}{advice}"))
            }
        }
    }

    /// Why there are no limits; `None` where there are.
    pub fn obstacle(&self) -> Option<&str> {
        self.0.as_ref().err().map(|why| &**why)
    }

    /// The groups for a run of the container that this text names; `None` for one without limits, and
    /// where none are made.
    pub(super) fn group(&self, replica: &str, limits: Limits) -> io::Result<Option<Group>> {
        match &self.0 {
            Ok(trees) if !limits.is_none() => trees.group(replica, limits).map(Some),
            _ => Ok(None),
        }
    }
}

// === impl Trees ===

impl Trees {
    fn make(place: Place) -> io::Result<Self> {
        let own = format!("{PREFIX}{}", process::id());
        let (above, is_unified) = match place {
            Place::One { memory, cpu } if memory == cpu => (vec![memory], false),
            Place::One { memory, cpu } => (vec![memory, cpu], false),
            Place::Two(folder) => (vec![folder], true),
        };
        for folder in &above {
            sweep(folder);
        }
        let trees =
            Self { folders: above.iter().map(|folder| folder.join(&own)).collect(), is_unified };
        for folder in &trees.folders {
            make(folder)?;
        }
        if is_unified {
            for folder in above.iter().chain(&trees.folders) {
                delegate(folder)?;
            }
        }
        // That a group takes a limit is known once one has taken it.
        let trial = Limits { memory_bytes: Some(1 << 40), quota_us: Some(PERIOD_US.into()) };
        drop(trees.group("trial", trial)?);
        Ok(trees)
    }

    fn group(&self, replica: &str, limits: Limits) -> io::Result<Group> {
        let name: String = replica
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(NAME_BYTES_MAX)
            .collect();
        // A program whose processor time has no limit stays out of the tree for that: all groups of Ebb
        // together would weigh as much there as one other program of this machine.
        let wanted: &[bool] = match self.folders.len() {
            1 => &[true],
            _ => &[limits.memory_bytes.is_some(), limits.quota_us.is_some()],
        };
        let folders = self.folders.iter().zip(wanted).filter(|(_, is_wanted)| **is_wanted);
        let folders: Vec<_> = folders.map(|(folder, _)| folder.join(&name)).collect();
        let mut group = Group { folders, is_unified: self.is_unified, kills_before: 0 };
        for folder in &group.folders {
            make(folder)?;
        }
        let Limits { memory_bytes, quota_us } = limits;
        if let Some(bytes) = memory_bytes {
            group.limit_memory(bytes)?;
        }
        if let Some(quota) = quota_us {
            group.limit_processors(quota)?;
        }
        group.kills_before = group.kills();
        Ok(group)
    }
}

impl Drop for Trees {
    fn drop(&mut self) {
        for folder in &self.folders {
            remove(folder);
        }
    }
}

// === impl Group ===

impl Group {
    /// Puts a program that has just been started, and what it may have started itself since, into the
    /// group; what they start from then on is in it as well.
    ///
    /// Not done by a program in between that enters the group and becomes the container's: that takes
    /// milliseconds of a cold start, and this some ten microseconds, in which a program does no more than
    /// load its libraries.
    pub(super) fn admit(&self, pid: i32) {
        let children = || {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        self.enter(&pid.to_string());
        for child in children() {
            self.enter(&child);
        }
    }

    fn enter(&self, pid: &str) {
        for folder in &self.folders {
            let Err(error) = fs::write(folder.join("cgroup.procs"), pid) else { continue };
            // One that has ended needs no limits.
            if error.raw_os_error() != Some(nix::errno::Errno::ESRCH as i32) {
                let error = told(folder, &error);
                tracing::warn!(%error, process.id = pid, "A process of a container has no limits");
            }
        }
    }

    /// Whether the kernel has ended a process of this run because the group had no memory left.
    pub(super) fn has_run_out(&self) -> bool {
        self.kills() > self.kills_before
    }

    fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        let bytes = bytes.to_string();
        if self.is_unified {
            self.write("memory.max", &bytes)?;
            // Neither is there on every machine, and the limit holds without them: no swap, and all
            // processes of a container end with the one that was too large, as on Kubernetes.
            drop(self.write("memory.swap.max", "0"));
            drop(self.write("memory.oom.group", "1"));
            return Ok(());
        }
        // The limit with swap is never below that without: the one that an earlier run left is lifted.
        drop(self.write("memory.memsw.limit_in_bytes", "-1"));
        self.write("memory.limit_in_bytes", &bytes)?;
        drop(self.write("memory.memsw.limit_in_bytes", &bytes));
        Ok(())
    }

    fn limit_processors(&self, quota_us: u64) -> io::Result<()> {
        if self.is_unified {
            return self.write("cpu.max", &format!("{quota_us} {PERIOD_US}"));
        }
        self.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
        self.write("cpu.cfs_quota_us", &quota_us.to_string())
    }

    /// How often the kernel has ended a process in the group for want of memory; 0 where it does not
    /// count.
    fn kills(&self) -> u64 {
        let file = if self.is_unified { "memory.events" } else { "memory.oom_control" };
        let Some(folder) = self.folders.first() else { return 0 };
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
    }

    /// Writes to the file in the tree that has it: the first has memory, the last processor time.
    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let folder =
            if file.starts_with("cpu") { self.folders.last() } else { self.folders.first() };
        let path = folder.map(|folder| folder.join(file)).unwrap_or_default();
        // Not created: a group has the files that the kernel gives it.
        let written = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut opened| io::Write::write_all(&mut opened, text.as_bytes()));
        written.map_err(|error| told(&path, &error))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            remove(folder);
        }
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        // An earlier run's, in which a process was left.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome.map_err(|error| told(folder, &error)),
    }
}

/// Lets the groups below `folder` have limits. Version 2 does not where processes are in the group
/// itself: this one, alone, moves to a group below.
fn delegate(folder: &Path) -> io::Result<()> {
    let control = folder.join("cgroup.subtree_control");
    let enable = || fs::write(&control, "+memory +cpu");
    let Err(error) = enable() else { return Ok(()) };
    let busy = error.raw_os_error() == Some(nix::errno::Errno::EBUSY as i32);
    if !busy || !is_alone(folder) {
        return Err(told(&control, &error));
    }
    let leaf = folder.join(format!("{PREFIX}{}-self", process::id()));
    make(&leaf)?;
    let moved =
        fs::write(leaf.join("cgroup.procs"), process::id().to_string()).and_then(|()| enable());
    moved.map_err(|error| told(&control, &error))
}

/// Whether this process and those that it has started are all that are in the group.
fn is_alone(folder: &Path) -> bool {
    let inside = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    inside.lines().all(|line| line.trim() == process::id().to_string())
}

/// Removes what Ebbs that are dead have left in this group.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().take(SWEPT_MAX) {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let owner = owner.and_then(|owner| owner.trim_end_matches("-self").parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            remove(&entry.path());
        }
    }
}

/// Removes a group and those below it. One with a process inside stays, for the next start.
fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            drop(fs::remove_dir(entry.path()));
        }
    }
    drop(fs::remove_dir(folder));
}

fn told(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
