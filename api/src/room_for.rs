//! The resources for which room is made: `make-room-for` in `config-autoscaler`.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::pod::{MEMORY, is_extended};

/// The word for all resources that a cluster's owner added.
const EXTENDED: &str = "extended";
/// The word for no resource.
const NONE: &str = "none";

/// Resources for which idle replicas are let go when a pod finds none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomFor {
    /// Whether all extended resources are among them.
    is_extended: bool,
    /// The others, by name.
    named: BTreeSet<String>,
}

/// What is wrong with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no resource that room can be made for: use \"none\", or \"extended\", \"memory\" and \
     names such as nvidia.com/gpu, separated by commas"
)]
pub struct RoomForError(String);

// === impl RoomFor ===

impl Default for RoomFor {
    /// Devices: nothing else is as scarce, and a node has no way to share them. Memory is left out,
    /// for clusters that add nodes for it would lose replicas that need not go.
    fn default() -> Self {
        Self { is_extended: true, named: BTreeSet::new() }
    }
}

impl RoomFor {
    /// Memory and all devices, for a machine that gets no larger.
    pub fn all() -> Self {
        Self { is_extended: true, named: BTreeSet::from([MEMORY.to_owned()]) }
    }

    /// Whether room is made for that resource.
    pub fn has(&self, resource: &str) -> bool {
        (self.is_extended && is_extended(resource)) || self.named.contains(resource)
    }
}

impl FromStr for RoomFor {
    type Err = RoomForError;

    fn from_str(text: &str) -> Result<Self, RoomForError> {
        let mut read = Self { is_extended: false, named: BTreeSet::new() };
        if text.trim() == NONE {
            return Ok(read);
        }
        for name in text.split(',').map(str::trim) {
            match name {
                EXTENDED => read.is_extended = true,
                name if name == MEMORY || is_extended(name) => {
                    read.named.insert(name.to_owned());
                }
                _ => return Err(RoomForError(name.to_owned())),
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_resources_or_all_devices() {
        let read = |text: &str| text.parse::<RoomFor>().unwrap();
        let has = |text: &str| ["memory", "nvidia.com/gpu", "a.b/c"].map(|it| read(text).has(it));
        assert_eq!(has("none"), [false; 3]);
        assert_eq!(has("extended"), [false, true, true]);
        assert_eq!(has("memory, extended"), [true; 3]);
        assert_eq!(has("nvidia.com/gpu"), [false, true, false]);
        assert_eq!(
            (RoomFor::default(), RoomFor::all()),
            (read("extended"), read("memory,extended"))
        );
        for text in ["", "gpu", "cpu", "memory,", "none, memory"] {
            assert!(text.parse::<RoomFor>().is_err(), "{text}");
        }
    }
}
