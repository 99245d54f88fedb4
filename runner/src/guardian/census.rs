//! The processes of this machine, read from `/proc`, and which of them are condemned.
//!
//! Reading is I/O; [`condemned`] is pure. A process is identified by its number *and* its start
//! time, so that a reused number is never mistaken for the process that it once named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::mark::ProcessMark;

/// Bytes of a page where the system does not say.
const PAGE_BYTES: u64 = 4096;

/// One process as `/proc/PID/stat` and `/proc/PID/environ` tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Clock ticks after boot: with the number, a process's identity.
    pub(super) started: u64,
    pub(super) marked: bool,
    /// Pages in memory.
    pub(super) pages: u64,
}

/// One process and the memory that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessSize {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    /// Resident memory.
    pub(crate) bytes: u64,
}

/// Process groups that Ebb registered: the leader's number and its start time.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Groups(BTreeMap<i32, u64>);

// === impl Groups ===

impl Groups {
    /// A group whose leader is alive now; `None` when it ended already.
    pub fn of(leader: i32) -> Option<Self> {
        let process = read_stat(leader)?;
        Some(Self(BTreeMap::from([(leader, process.started)])))
    }

    pub(super) fn add(&mut self, leader: i32, started: u64) {
        self.0.insert(leader, started);
    }

    pub(super) fn remove(&mut self, leader: i32) {
        self.0.remove(&leader);
    }

    /// The lines that make an empty set equal to this one, each with its line end.
    pub(super) fn lines(&self) -> String {
        self.0.iter().map(|(leader, started)| added_line(*leader, *started)).collect()
    }

    /// Follows one line from the pipe. A malformed line is skipped, for a killed writer may leave a
    /// torn last line.
    pub(super) fn obey(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix('+') {
            let mut numbers = rest.split(' ');
            let leader = numbers.next().and_then(|text| text.parse().ok());
            let started = numbers.next().and_then(|text| text.parse().ok());
            if let (Some(leader), Some(started)) = (leader, started) {
                self.add(leader, started);
            }
        } else if let Some(leader) = line.strip_prefix('-').and_then(|text| text.parse().ok()) {
            self.remove(leader);
        }
    }
}

pub(super) fn added_line(leader: i32, started: u64) -> String {
    format!("+{leader} {started}\n")
}

pub(super) fn removed_line(leader: i32) -> String {
    format!("-{leader}\n")
}

/// Every process of this machine that is not a zombie. A process that cannot be read (another
/// user's) counts as unmarked.
pub(super) fn census(mark: &ProcessMark) -> Vec<Process> {
    numbers().filter_map(|pid| observe(pid, mark)).collect()
}

/// Every process of this machine that is not a zombie, with its memory.
pub(crate) fn sizes() -> Vec<ProcessSize> {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(PAGE_BYTES);
    let size = |Process { pid, parent, group, pages, .. }: Process| ProcessSize {
        pid,
        parent,
        group,
        bytes: pages.saturating_mul(page),
    };
    numbers().filter_map(read_stat).map(size).collect()
}

fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// One process now; `None` when it is gone or a zombie.
pub(super) fn observe(pid: i32, mark: &ProcessMark) -> Option<Process> {
    let mut process = read_stat(pid)?;
    process.marked =
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| mark.is_in(&environment));
    Some(process)
}

/// `/proc/PID/stat`, with `marked` false; `None` when the process is gone or a zombie.
pub(super) fn read_stat(pid: i32) -> Option<Process> {
    // Not UTF-8 by contract: a program names itself as it likes.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(pid, &String::from_utf8_lossy(&stat))
}

/// Reads the fields after the name, which stands in parentheses and may itself hold some.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    // proc(5): state is field 3, parent 4, group 5, start time 22, resident pages 24; `fields` starts
    // at field 3.
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        marked: false,
        pages: fields.get(21).and_then(|pages| pages.parse().ok()).unwrap_or(0),
    })
}

/// The processes to end: the marked ones, the members of registered groups, and every descendant of
/// either. Never `myself` and never the first process.
pub(super) fn condemned(census: &[Process], groups: &Groups, myself: i32) -> Vec<Process> {
    let started: BTreeMap<i32, u64> = census.iter().map(|p| (p.pid, p.started)).collect();
    // While a group has members, the kernel gives its number to no other process. So the number was
    // reused only if the leader is another process than the registered one.
    let is_ours = |group: i32| {
        groups
            .0
            .get(&group)
            .is_some_and(|registered| started.get(&group).is_none_or(|now| now == registered))
    };
    let spared = |process: &Process| process.pid == myself || process.pid <= 1;
    let mut chosen: BTreeSet<i32> = census
        .iter()
        .filter(|process| !spared(process) && (process.marked || is_ours(process.group)))
        .map(|process| process.pid)
        .collect();
    loop {
        let before = chosen.len();
        for process in census {
            if !spared(process) && chosen.contains(&process.parent) {
                chosen.insert(process.pid);
            }
        }
        if chosen.len() == before {
            break;
        }
    }
    census.iter().filter(|process| chosen.contains(&process.pid)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, group: i32, marked: bool) -> Process {
        Process {
            pid,
            parent,
            group,
            started: 100 + u64::try_from(pid).expect("pids are positive"),
            marked,
            pages: 0,
        }
    }

    fn pids(found: &[Process]) -> Vec<i32> {
        found.iter().map(|process| process.pid).collect()
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_parser() {
        let stat = "7 (a) b) S 3 5 5 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 77";
        let process = parse_stat(7, stat).expect("a line as the kernel writes it");
        assert_eq!((process.parent, process.group, process.started), (3, 5, 4242));
        assert_eq!(process.pages, 77);
    }

    #[test]
    fn a_zombie_is_ignored() {
        assert_eq!(parse_stat(7, "7 (x) Z 3 5 5 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 42 1"), None);
    }

    #[test]
    fn marked_processes_group_members_and_descendants_are_condemned() {
        let census = [
            process(1, 0, 1, false),
            process(10, 1, 10, true),   // marked
            process(11, 10, 11, false), // its child, with a session and an environment of its own
            process(20, 1, 20, false),  // a registered leader
            process(21, 1, 20, false),  // its group
            process(30, 1, 30, false),  // a stranger
        ];
        let mut groups = Groups::default();
        groups.add(20, 120);
        assert_eq!(pids(&condemned(&census, &groups, 99)), [10, 11, 20, 21]);
    }

    #[test]
    fn a_group_number_that_was_used_again_is_left_alone() {
        let census = [process(20, 1, 20, false)];
        let mut groups = Groups::default();
        groups.add(20, 7);
        assert!(condemned(&census, &groups, 99).is_empty());
    }

    #[test]
    fn members_of_a_group_whose_leader_is_gone_are_condemned() {
        let census = [process(21, 1, 20, false)];
        let mut groups = Groups::default();
        groups.add(20, 7);
        assert_eq!(pids(&condemned(&census, &groups, 99)), [21]);
    }

    #[test]
    fn the_sweeper_and_the_first_process_are_spared() {
        let census = [process(1, 0, 1, true), process(99, 10, 99, true)];
        assert!(condemned(&census, &Groups::default(), 99).is_empty());
    }

    #[test]
    fn lines_carry_the_groups_and_a_torn_line_is_passed_over() {
        let mut sent = Groups::default();
        sent.add(5, 50);
        sent.add(6, 60);
        let mut received = Groups::default();
        for line in sent.lines().lines() {
            received.obey(line);
        }
        assert_eq!(received, sent);
        received.obey("-5");
        received.obey("+7");
        received.obey("nonsense");
        assert_eq!(received.lines(), "+6 60\n");
    }
}
