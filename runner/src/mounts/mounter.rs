//! Whether this machine lets programs have mounts, found out when the first one needs them.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::{Mount, Plan};

/// Longest trial: it makes one mount, some milliseconds.
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
    /// Why it does not work here; tried once.
    obstacle: OnceCell<Option<String>>,
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
        Self { program, obstacle: OnceCell::new() }
    }

    /// Why no program can have mounts here; `None` if it can.
    pub(crate) async fn obstacle(&self) -> Option<&str> {
        self.obstacle.get_or_init(|| self.trial()).await.as_deref()
    }

    /// How a program with these mounts is started; `None` where nothing makes mounts.
    pub(crate) fn entry(&self, plan: Plan) -> Option<Entry> {
        Some(Entry {
            program: self.program.clone()?,
            words: serde_json::to_string(&plan).ok()?,
            plan,
        })
    }

    /// A mount at a path that no machine has takes all steps that there are.
    async fn trial(&self) -> Option<String> {
        let mount = Mount {
            volume: "trial".to_owned(),
            source: PathBuf::from("/tmp"),
            target: PathBuf::from("/ebb-trial/of-mounts"),
            is_read_only: true,
        };
        let Some(entry) = self.entry(Plan::new(PathBuf::from("/"), vec![mount])) else {
            return Some("this Ebb was built into a program that makes no mounts".to_owned());
        };
        let mut command = Command::from(entry.command());
        command.envs(Entry::VARIABLES).stdin(Stdio::null()).kill_on_drop(true);
        match timeout(TRIAL_MAX, command.output()).await {
            Ok(Ok(output)) if output.status.success() => None,
            Ok(Ok(output)) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Ok(Err(error)) => Some(format!("the ebb program does not start: {error}")),
            Err(_) => Some("a mount was tried and did not end".to_owned()),
        }
    }
}
