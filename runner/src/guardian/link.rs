//! Ebb's end of the pipe to the guardian.

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

use super::census::{Groups, added_line, read_stat, removed_line};

/// Why there is no guardian.
#[derive(Debug, thiserror::Error)]
pub enum GuardianError {
    /// The guardian process could not be started.
    #[error("the guardian process {program} cannot be started")]
    Start {
        /// The program that was started.
        program: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// A running guardian. Dropping the last clone, like the end of Ebb, makes it end the remaining
/// processes.
#[derive(Debug, Clone)]
pub struct Guardian {
    link: Arc<Mutex<Link>>,
}

/// A process group that the guardian knows of, until this value is dropped.
#[derive(Debug)]
pub struct Registration {
    link: Arc<Mutex<Link>>,
    leader: i32,
}

#[derive(Debug)]
struct Link {
    command: Command,
    identity: String,
    child: Child,
    groups: Groups,
}

// === impl Guardian ===

impl Guardian {
    /// Starts `exe guardian` for the instance `identity`.
    pub fn start(identity: &str, exe: &Path) -> Result<Self, GuardianError> {
        let mut command = Command::new(exe);
        command.arg("guardian");
        Self::start_with(command, identity)
    }

    /// Starts the guardian through `command`, which must run [`main`](super::main).
    pub(super) fn start_with(mut command: Command, identity: &str) -> Result<Self, GuardianError> {
        // Rust opens pipes with CLOEXEC, so replicas never hold the write end.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let program = command.get_program().to_string_lossy().into_owned();
        let groups = Groups::default();
        let child = launch(&mut command, identity, &groups)
            .map_err(|source| GuardianError::Start { program, source })?;
        let link = Link { command, identity: identity.to_owned(), child, groups };
        Ok(Self { link: Arc::new(Mutex::new(link)) })
    }

    /// Tells the guardian of a process group by the number of its leader. `None` when the leader
    /// has ended already; the caller then has to end its group itself.
    ///
    /// One small write to a pipe that is always read: microseconds.
    pub fn register(&self, leader: i32) -> Option<Registration> {
        let started = read_stat(leader)?.started;
        let mut link = self.link.lock();
        link.groups.add(leader, started);
        link.send(&added_line(leader, started));
        drop(link);
        Some(Registration { link: Arc::clone(&self.link), leader })
    }

    /// The guardian's process number.
    pub fn pid(&self) -> u32 {
        self.link.lock().child.id()
    }

    /// Closes the pipe and waits for the guardian's end: for an orderly shutdown, after the last
    /// replica ended. Blocks the thread.
    pub fn close(self) -> bool {
        let mut link = self.link.lock();
        drop(link.child.stdin.take());
        link.child.wait().is_ok_and(|status| status.success())
    }
}

// === impl Registration ===

impl Drop for Registration {
    fn drop(&mut self) {
        let mut link = self.link.lock();
        link.groups.remove(self.leader);
        link.send(&removed_line(self.leader));
    }
}

// === impl Link ===

impl Link {
    /// Sends one line; when the guardian is gone (killed by hand or for memory), starts another and
    /// tells it the identity and all groups.
    fn send(&mut self, line: &str) {
        let Some(pipe) = self.child.stdin.as_mut() else {
            return;
        };
        if pipe.write_all(line.as_bytes()).is_ok() {
            return;
        }
        let status = self.child.try_wait().ok().flatten();
        let signal = status.and_then(|status| status.signal());
        match launch(&mut self.command, &self.identity, &self.groups) {
            Ok(child) => {
                self.child = child;
                tracing::warn!(signal, "The guardian process ended and was started again");
            }
            Err(error) => tracing::error!(
                %error,
                signal,
                "The guardian process ended and cannot be started: replicas outlive a killed ebb"
            ),
        }
    }
}

fn launch(command: &mut Command, identity: &str, groups: &Groups) -> io::Result<Child> {
    let mut child = command.spawn()?;
    let greeting = format!("{identity}\n{}", groups.lines());
    if let Some(pipe) = child.stdin.as_mut() {
        pipe.write_all(greeting.as_bytes())?;
    }
    Ok(child)
}
