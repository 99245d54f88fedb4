//! One run of a program: its process group, its end, its signals.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::guardian::{
    Groups, Guardian, INSTANCE_VARIABLE, ProcessMark, REPLICA_VARIABLE, Registration, sweep_marked,
};

use super::command::CommandLine;
use super::limits::Group;
use super::mounts::Entry;

/// Everything that a program is started with.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) line: CommandLine,
    /// How the program comes to see its mounts, if it has any.
    pub(super) entry: Option<Arc<Entry>>,
    pub(super) variables: BTreeMap<String, String>,
    /// The identity of this Ebb, for the guardian.
    pub(super) instance: String,
    /// Names pod and container, so that the processes that a container leaves behind can be told
    /// from others.
    pub(super) replica: String,
    /// What limits the program, if anything does. Kept for as long as the run.
    pub(super) group: Option<Arc<Group>>,
}

/// A running process and its group.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    leader: i32,
    groups: Groups,
    replica: String,
    _registration: Option<Registration>,
}

/// The output of a process, which stalls unless its output is read.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

// === impl Launch ===

impl Launch {
    /// The command, with the marks by which the processes that it starts are found again.
    pub(super) fn command(&self) -> Command {
        let mut command = if let Some(entry) = &self.entry {
            let mut command = entry.command();
            command.arg(&self.line.program);
            command
        } else {
            let mut command = std::process::Command::new(&self.line.program);
            command.current_dir(&self.line.directory);
            command
        };
        command
            .args(&self.line.args)
            .env_clear()
            .envs(&self.variables)
            // Set after the container's own variables, which must not hide it from the guardian.
            .env(INSTANCE_VARIABLE, &self.instance)
            .env(REPLICA_VARIABLE, &self.replica)
            .process_group(0)
            .stdin(Stdio::null());
        if let Some(entry) = &self.entry {
            for name in entry.plan.held.keys() {
                command.env_remove(name);
            }
            command.envs(Entry::VARIABLES);
        }
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    /// Starts the program in a process group of its own.
    ///
    /// The calling thread waits for the new program's `exec`, a fraction of a millisecond
    /// (`posix_spawn` shares memory until then): less than a change of threads would cost.
    pub(super) fn start(&self, guardian: Option<&Guardian>) -> io::Result<(Process, Output)> {
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.explain(&error))?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let (Some(leader), Some(stdout), Some(stderr)) =
            (id, child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the process ended before it was known"));
        };
        if let Some(group) = &self.group {
            group.admit(leader);
        }
        let process = Process {
            child,
            leader,
            groups: Groups::of(leader).unwrap_or_default(),
            replica: self.replica.clone(),
            _registration: guardian.and_then(|guardian| guardian.register(leader)),
        };
        Ok((process, Output { stdout, stderr }))
    }

    /// Names the working directory if it is missing, else the program; the system's error names
    /// nothing.
    fn explain(&self, error: &io::Error) -> io::Error {
        let directory = &self.line.directory;
        let program = self.line.program.display();
        let is_here = self.entry.is_none() && !directory.is_dir();
        if error.kind() == io::ErrorKind::NotFound && is_here {
            let message = format!("workingDir {} does not exist", directory.display());
            return io::Error::new(error.kind(), message);
        }
        let what = match &self.entry {
            Some(_) => format!("the ebb program, which makes the mounts of {program}"),
            None => program.to_string(),
        };
        io::Error::new(error.kind(), format!("cannot start {what}: {error}"))
    }
}

// === impl Process ===

impl Process {
    /// The number of the process, and of its group.
    pub(super) fn leader(&self) -> i32 {
        self.leader
    }

    /// Waits for the program's end. Cancel-safe: call it again.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Signals the whole group; call it only before [`wait`](Self::wait) returned: until then no
    /// other group can get its number.
    pub(super) fn signal(&self, signal: Signal) {
        // No such group means that it has ended, which `wait` will tell.
        let _ = killpg(Pid::from_raw(self.leader), signal);
    }

    /// Ends the processes that the program left behind, as in a container, whose processes end with
    /// the first. Looks through `/proc` on a thread for blocking work, some milliseconds.
    pub(super) async fn clear(self) {
        let Self { child, leader: _, groups, replica, _registration } = self;
        drop(child);
        let sweep = move || sweep_marked(&ProcessMark::replica(&replica), &groups, Duration::ZERO);
        match tokio::task::spawn_blocking(sweep).await {
            Ok(sweep) if sweep.left > 0 => {
                tracing::warn!(processes = sweep.left, "Processes of a container do not end");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "Cannot look for a container's processes"),
        }
    }
}
