//! The resident memory of the processes that containers run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::guardian::{ProcessSize, sizes};

/// How often a container's memory is measured. A model that loads grows for seconds, and a look at all
/// processes of a machine takes some milliseconds.
pub(super) const MEASURED_EVERY: Duration = Duration::from_secs(2);
/// How long one look at all processes serves every container.
const LOOK_AGE_MAX: Duration = Duration::from_secs(1);
/// A changed size is told if it differs by more than this part of the one that was told, and by
/// [`BYTES_STEP`]: each is a write to the API.
const PART_STEP: u64 = 8;
/// Less is no news.
const BYTES_STEP: u64 = 16 << 20;
/// Sizes are told in mebibytes.
const MEBIBYTE: u64 = 1 << 20;

/// Measures containers; one look at the machine serves all of them.
#[derive(Debug, Default)]
pub(super) struct MemoryGauge(Mutex<Option<(Instant, Arc<Vec<ProcessSize>>)>>);

// === impl MemoryGauge ===

impl MemoryGauge {
    /// Bytes that the process with this number, its group and its descendants have in memory. Reads
    /// `/proc` on a thread for blocking work.
    pub(super) async fn of(&self, leader: i32) -> u64 {
        let mut last = self.0.lock().await;
        let known = last.as_ref().filter(|(at, _)| at.elapsed() < LOOK_AGE_MAX);
        let processes = if let Some((_, processes)) = known {
            Arc::clone(processes)
        } else {
            let read = tokio::task::spawn_blocking(sizes).await.unwrap_or_default();
            let processes = Arc::new(read);
            *last = Some((Instant::now(), Arc::clone(&processes)));
            processes
        };
        drop(last);
        sum(&processes, leader)
    }
}

/// The size of a group and of all that descends from it. What several share counts for each.
fn sum(processes: &[ProcessSize], leader: i32) -> u64 {
    let is_own = |it: &&ProcessSize| it.pid == leader || it.group == leader;
    let mut own: BTreeSet<i32> = processes.iter().filter(is_own).map(|it| it.pid).collect();
    loop {
        let before = own.len();
        let children = processes.iter().filter(|it| own.contains(&it.parent)).map(|it| it.pid);
        let children: Vec<_> = children.collect();
        own.extend(children);
        if own.len() == before {
            break;
        }
    }
    processes.iter().filter(|it| own.contains(&it.pid)).map(|it| it.bytes).sum()
}

/// The size to tell, where `told` is not good enough any more.
pub(super) fn news(told: Option<u64>, bytes: u64) -> Option<u64> {
    let known = told.unwrap_or(0);
    let is_news = bytes.abs_diff(known) > (known / PART_STEP).max(BYTES_STEP);
    is_news.then(|| bytes.next_multiple_of(MEBIBYTE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_its_group_and_all_that_descends_from_it() {
        let process = |pid, parent, group, bytes| ProcessSize { pid, parent, group, bytes };
        let all = [
            process(10, 1, 10, 100),
            process(11, 10, 10, 20),
            // It has a group of its own, and a child.
            process(12, 10, 12, 3),
            process(13, 12, 13, 4),
            process(20, 1, 20, 5000),
            // Its parent has ended, its group has not.
            process(14, 1, 10, 500),
        ];
        assert_eq!((sum(&all, 10), sum(&all, 20), sum(&all, 99)), (627, 5000, 0));
    }

    #[test]
    fn small_changes_are_no_news() {
        let mib = |number: u64| number << 20;
        assert_eq!(news(None, mib(16)), None);
        assert_eq!(news(None, mib(17) + 1), Some(mib(18)));
        assert_eq!(news(Some(mib(800)), mib(899)), None);
        assert_eq!(news(Some(mib(800)), mib(901)), Some(mib(901)));
        assert_eq!(
            news(Some(mib(200)), mib(58)),
            Some(mib(58)),
            "a model that has put itself to sleep"
        );
    }

    #[tokio::test]
    async fn this_process_has_a_size() {
        let own = i32::try_from(std::process::id()).expect("a number");
        let bytes = MemoryGauge::default().of(own).await;
        assert!(bytes > 1 << 20, "{bytes}");
    }
}
