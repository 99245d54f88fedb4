//! The two doors.

/// The listener that a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The one that the world reaches. It knows the external hosts of Routes that are not private.
    Outer,
    /// The one that pods of the cluster reach, and nobody else. It knows every host.
    Inner,
}
