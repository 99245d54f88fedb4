//! The mark of Ebb's processes: a variable in their environment, which children inherit.

use super::{INSTANCE_VARIABLE, REPLICA_VARIABLE};

/// The entry in its environment that marks a process to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessMark(String);

// === impl ProcessMark ===

impl ProcessMark {
    /// Every replica of one Ebb.
    pub fn instance(identity: &str) -> Self {
        Self(format!("{INSTANCE_VARIABLE}={identity}"))
    }

    /// Every process of one container.
    pub fn replica(replica: &str) -> Self {
        Self(format!("{REPLICA_VARIABLE}={replica}"))
    }

    pub(super) fn is_in(&self, environment: &[u8]) -> bool {
        environment.split(|byte| *byte == 0).any(|entry| entry == self.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_matches_a_whole_entry_only() {
        let mark = ProcessMark::instance("abc");
        assert!(mark.is_in(b"PATH=/bin\0EBB_INSTANCE=abc\0"));
        assert!(!mark.is_in(b"EBB_INSTANCE=abcd\0"));
        assert!(!mark.is_in(b"NOTE=EBB_INSTANCE=abc\0"));
        assert!(!mark.is_in(b""));
    }
}
