//! Looks at processes through /proc, and ends those that a test started itself.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The unit of times in /proc: `USER_HZ` is 100 on every architecture that Ebb is built for.
const TICK_MS: u64 = 10;

/// Processes with the entry `marker` in their environment.
pub fn with_environment(marker: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes())
        })
        .collect()
}

/// Processes whose program has that name, of 15 bytes at the most, in whatever container.
pub fn named(name: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim_end() == name)
        })
        .collect()
}

/// Whether a process lies in a control group of that name, or in a group within.
pub fn is_in_group(pid: i32, group: &str) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().any(|line| line.split('/').any(|part| part == group))
}

/// Proportional memory (PSS) of a process in bytes: a page that several processes share counts for
/// each of them in part, so that their sum is what they take together.
pub fn proportional_bytes(pid: i32) -> Option<u64> {
    field(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:")
}

/// Resident memory (RSS) of a process in bytes: pages that it shares with others count in full.
pub fn resident_bytes(pid: i32) -> Option<u64> {
    field(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

/// Anonymous memory of a process in bytes: without the pages of its program and libraries.
pub fn own_bytes(pid: i32) -> Option<u64> {
    field(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Anonymous:")
}

/// The value of a field that is given in kB, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Processor time of a process so far, that of threads which ended included.
pub fn cpu_time(pid: i32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so the fields are counted from its end: utime and stime are the
    // 14th and the 15th of all.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * TICK_MS))
}

/// Whether a process exists and is not a zombie.
pub fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

/// Sends a signal to a process that the caller started.
pub fn signal(pid: i32, signal: Signal) {
    // A process that ended already needs no signal.
    let _ended_already = kill(Pid::from_raw(pid), signal);
}

/// Children of a process, whichever of its threads started them.
pub fn children(pid: i32) -> Vec<i32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    texts.flat_map(|text| numbers(&text)).collect()
}

fn numbers(text: &str) -> Vec<i32> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}
