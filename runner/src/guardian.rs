//! No replica outlives Ebb, not even after `kill -9` of Ebb.
//!
//! A replica is a process on this machine and nothing ends it when Ebb dies: there is no container
//! and no cgroup to take down. So Ebb starts one small process beside itself, the guardian, which
//! reads a pipe whose write end only Ebb holds. When Ebb ends, in whatever way, the kernel closes
//! that end, the guardian reads end-of-file and ends the remaining processes. A death signal set in
//! the child (`PR_SET_PDEATHSIG`) was rejected: it needs unsafe code between fork and exec, does
//! not reach grandchildren, and fires when the *thread* that forked ends.
//!
//! Three facts decide which processes it ends, and none of them can name a stranger's process: an
//! environment that carries [`INSTANCE_VARIABLE`] with this instance's identity (inherited by every
//! descendant, `setsid` or not), membership of a process group that Ebb registered (covers programs
//! such as `setproctitle` users, which overwrite their environment), and descent from one of those.

mod census;
mod instance;
mod link;
mod mark;
mod sweep;
#[cfg(test)]
mod tests;

use std::io::{BufRead, BufReader};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::SigSet;

pub use census::Groups;
pub(crate) use census::{ProcessSize, sizes};
pub use instance::{Instance, InstanceError};
pub use link::{Guardian, GuardianError, Registration};
pub use mark::ProcessMark;
pub use sweep::{Sweep, sweep_marked};

/// The variable in every replica's environment whose value is the identity of its Ebb.
pub const INSTANCE_VARIABLE: &str = "EBB_INSTANCE";
/// The variable in every replica's environment that names its pod and container.
pub const REPLICA_VARIABLE: &str = "EBB_REPLICA";

/// Time between SIGTERM and SIGKILL when Ebb is gone already: long enough for a program to remove
/// its scratch files, short enough that a restarted Ebb finds the memory and ports free.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(1);

/// The body of the hidden subcommand `ebb guardian`.
///
/// Blocks until the pipe on standard input ends, then ends the remaining processes of the instance,
/// which takes at most a few seconds. The guardian starts no runtime and no thread of its own.
/// Signals that a terminal sends are blocked: Ctrl-C is for Ebb, and the guardian must outlive it.
/// The allocator's threads block all signals themselves.
pub fn main() -> ExitCode {
    // Blocked and never unblocked is as good as ignored, and unlike a handler needs no unsafe code.
    // SIGKILL and SIGSTOP stay; no other process has a reason to signal this one.
    if SigSet::all().thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    // Fails only for a process group leader, and nothing that starts the guardian makes it one.
    let _ = nix::unistd::setsid();
    let mut input = BufReader::new(std::io::stdin().lock());
    let mut identity = String::new();
    if input.read_line(&mut identity).is_err() {
        return ExitCode::FAILURE;
    }
    let identity = identity.trim();
    if identity.is_empty() {
        return ExitCode::FAILURE;
    }
    let mut groups = Groups::default();
    // A read error is the end as well: without the pipe there is nothing to wait for.
    for line in input.lines().map_while(Result::ok) {
        groups.obey(&line);
    }
    let outcome = sweep_marked(&ProcessMark::instance(identity), &groups, ORPHAN_GRACE);
    if outcome.left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ends every process of instance `identity`; blocks for at most a few seconds.
pub fn sweep(identity: &str) -> Sweep {
    sweep_marked(&ProcessMark::instance(identity), &Groups::default(), ORPHAN_GRACE)
}
