//! Signals to processes of the cluster.

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that does not run; it goes on when this is dropped.
#[derive(Debug)]
pub(super) struct Stopped(i32);

impl Stopped {
    /// Stops a process.
    pub(super) fn new(pid: i32) -> anyhow::Result<Self> {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).with_context(|| format!("process {pid}"))?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // A process that is gone needs no signal.
        kill(Pid::from_raw(self.0), Signal::SIGCONT).ok();
    }
}

/// Ends a process at once, if it is still there.
pub(super) fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
}
