//! Readiness as a set of named tasks that are still to be done; dropping a task marks it done.
//!
//! The idea is ztunnel's: a process cannot forget to become ready, nor be ready too early.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// Whether everything that must happen before traffic has happened. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// Names of the tasks that are still open.
    pending: Arc<Mutex<BTreeSet<&'static str>>>,
}

/// One open task; readiness waits until it is dropped.
#[derive(Debug)]
#[must_use = "dropping the task marks it done"]
pub struct Task {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// Opens a task.
    pub fn task(&self, name: &'static str) -> Task {
        let new = self.pending.lock().insert(name);
        debug_assert!(new, "readiness task {name} was opened twice");
        Task { name, readiness: self.clone() }
    }

    /// Names of the tasks that are still open; none means ready.
    pub fn pending(&self) -> Vec<&'static str> {
        self.pending.lock().iter().copied().collect()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut pending = self.readiness.pending.lock();
        pending.remove(self.name);
        tracing::debug!(task = self.name, left = pending.len(), "Readiness task done");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_once_every_task_was_dropped() {
        let readiness = Readiness::default();
        let (one, two) = (readiness.task("one"), readiness.task("two"));
        drop(one);
        assert_eq!(readiness.pending(), ["two"]);
        drop(two);
        assert!(readiness.pending().is_empty());
    }
}
