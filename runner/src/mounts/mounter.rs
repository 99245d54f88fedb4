//! Whether this machine lets programs have mounts, found out when the first one needs them.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::Plan;

/// Longest trial: it takes some milliseconds.
const TRIAL_MAX: Duration = Duration::from_secs(10);

/// The word by which the `ebb` program is told to make mounts.
const COMMAND: &str = "mounted";

/// The variable with settings of the ebb program's allocator, which has a thread of its own without them.
pub(super) const ALLOCATOR: &str = "_RJEM_MALLOC_CONF";
/// No thread.
const SINGLE: &str = "background_thread:false";

/// The program that makes mounts and becomes another one.
#[derive(Debug, Default)]
pub(crate) struct Mounter {
    program: Option<PathBuf>,
    /// Whether it is known to work here.
    works: OnceCell<()>,
}

/// The program that makes the mounts of a plan and becomes the container's.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) plan: Plan,
    program: PathBuf,
    /// The plan, as it is handed over.
    words: String,
}

// === impl Entry ===

impl Entry {
    fn of(program: PathBuf, plan: Plan) -> Option<Self> {
        Some(Self { words: serde_json::to_string(&plan).ok()?, program, plan })
    }

    /// The entry of another program of a container that runs: `leader` is its first process.
    pub(crate) fn joining(&self, leader: i32) -> Option<Self> {
        Self::of(self.program.clone(), self.plan.joining(leader))
    }

    /// The command that becomes another one, whose own words come next. The working directory is the
    /// plan's: it may lie in a mount.
    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args([COMMAND, &self.words, "--"]);
        command
    }

    /// Variables that the command needs, over all others.
    pub(crate) const VARIABLES: [(&str, &str); 1] = [(ALLOCATOR, SINGLE)];
}

// === impl Mounter ===

impl Mounter {
    /// `program` is that of `ebb`; without one there are no mounts.
    pub(crate) fn new(program: Option<PathBuf>) -> Self {
        Self { program, works: OnceCell::new() }
    }

    /// Why no program can have mounts here; `None` if it can. Tried until it works: a person may change
    /// the setting that forbids it.
    pub(crate) async fn obstacle(&self) -> Option<String> {
        self.works.get_or_try_init(|| self.trial()).await.err()
    }

    /// How a program with these mounts is started; `None` where nothing makes mounts, and for paths
    /// that are not text.
    pub(crate) fn entry(&self, plan: Plan) -> Option<Entry> {
        Entry::of(self.program.clone()?, plan)
    }

    /// Enters a namespace and does nothing in it.
    async fn trial(&self) -> Result<(), String> {
        let Some(entry) = self.entry(Plan::default()) else {
            return Err("this Ebb was built into a program that makes no mounts".to_owned());
        };
        let mut command = Command::from(entry.command());
        command.envs(Entry::VARIABLES).stdin(Stdio::null()).kill_on_drop(true);
        match timeout(TRIAL_MAX, command.output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Ok(Err(error)) => Err(format!("the ebb program does not start: {error}")),
            Err(_) => Err("a namespace was tried and did not come".to_owned()),
        }
    }
}
