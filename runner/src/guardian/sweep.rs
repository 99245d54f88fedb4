//! Ends marked processes: SIGTERM, a grace, SIGKILL, until none is left or the bound is reached.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::census::{Groups, Process, census, condemned, observe};
use super::mark::ProcessMark;

/// Pause between two looks at `/proc`; one look costs a few milliseconds of CPU.
const ROUND: Duration = Duration::from_millis(20);
/// Looks after the grace ended. SIGKILL needs one or two; a process in an uninterruptible wait
/// (a dead network disk) is left to the kernel, which ends it when the wait does.
const ROUNDS_AFTER_KILL: u32 = 100;
/// Looks in a row that find no process before a sweep with a grace is over: a child that Ebb was
/// about to start when it was killed carries no mark between fork and exec, and only the next look
/// sees it. A sweep without grace follows the end of one replica, all of whose processes are
/// marked.
const QUIET_ROUNDS: u32 = 2;

/// The outcome of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// Processes that were found and signalled.
    pub found: usize,
    /// Processes that were still there when the bound was reached.
    pub left: usize,
}

/// Ends every process that carries `mark`, belongs to one of `groups` or descends from such a
/// process. SIGKILL follows SIGTERM after `grace`; a zero grace sends SIGKILL at once.
///
/// Blocks the thread for at most `grace` and two seconds; in async code, call it where blocking is
/// allowed.
pub fn sweep_marked(mark: &ProcessMark, groups: &Groups, grace: Duration) -> Sweep {
    let myself = Pid::this().as_raw();
    let grace_rounds = u32::try_from(grace.as_millis() / ROUND.as_millis()).unwrap_or(u32::MAX);
    let quiet_rounds = if grace.is_zero() { 1 } else { QUIET_ROUNDS };
    let mut warned = BTreeSet::new();
    let mut quiet = 0;
    let mut left = 0;
    for round in 0..grace_rounds.saturating_add(ROUNDS_AFTER_KILL) {
        let victims = condemned(&census(mark), groups, myself);
        left = victims.len();
        quiet = if victims.is_empty() { quiet + 1 } else { 0 };
        if quiet >= quiet_rounds {
            break;
        }
        for victim in &victims {
            let first = warned.insert((victim.pid, victim.started));
            if round >= grace_rounds {
                end(victim, mark, Signal::SIGKILL);
            } else if first {
                end(victim, mark, Signal::SIGTERM);
            }
        }
        thread::sleep(ROUND);
    }
    Sweep { found: warned.len(), left }
}

/// Signals one process, after a last check that it is still the condemned one. Without a pidfd,
/// which needs unsafe code here, microseconds remain in which the number could be reused; the
/// kernel hands numbers out in turn, so that takes a whole round of them.
fn end(victim: &Process, mark: &ProcessMark, signal: Signal) {
    let is_same = observe(victim.pid, mark)
        .is_some_and(|now| now.started == victim.started && now.marked == victim.marked);
    if is_same {
        // The process may be gone by now, as is wanted.
        let _ = kill(Pid::from_raw(victim.pid), signal);
    }
}
