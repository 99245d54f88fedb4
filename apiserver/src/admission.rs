//! Where the platform's own rules meet a write: the in-process form of an admission webhook.

use serde_json::Value;

/// What a request does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionOperation {
    /// The object is new.
    Create,
    /// The object, or a subresource of it, changes.
    Update,
    /// The object is deleted.
    Delete,
}

/// Which of the two rounds of admission this is. The schema is checked between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The object may be changed (defaults).
    Mutate,
    /// The object is final; a changed object in the verdict is ignored.
    Validate,
}

/// A write to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Review<'a> {
    /// Round of admission.
    pub phase: Phase,
    /// Group of the kind, empty for core.
    pub group: &'a str,
    /// Version of the kind.
    pub version: &'a str,
    /// Kind of the object.
    pub kind: &'a str,
    /// What is done.
    pub operation: AdmissionOperation,
    /// `status` or `scale`; `None` for the object itself.
    pub subresource: Option<&'a str>,
    /// Namespace, empty for a cluster-wide object.
    pub namespace: &'a str,
    /// Name; empty for a create whose name is still to be generated.
    pub name: &'a str,
    /// The object as it shall be; `None` for a delete.
    pub object: Option<&'a Value>,
    /// The object as it is; `None` for a create.
    pub old: Option<&'a Value>,
    /// User who makes the request.
    pub user: &'a str,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// The judgement of a [`Review`].
#[derive(Debug, Clone, PartialEq)]
pub enum AdmissionVerdict {
    /// The write goes on.
    Allowed {
        /// The object with the changes of admission; `None` leaves it as it is.
        object: Option<Value>,
        /// Shown to the user by `kubectl`.
        warnings: Vec<String>,
    },
    /// The write is refused.
    Denied {
        /// HTTP status: 400 for an invalid object, 403 for a forbidden write.
        code: u16,
        /// The whole message, with the envelope in which users know it.
        message: String,
    },
}

/// Judges writes before they are stored. Called on the path of every write: it must not block.
pub trait Admission: Send + Sync {
    /// Judges one write.
    fn review(&self, review: &Review<'_>) -> AdmissionVerdict;
}

/// Allows everything as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

// === impl AdmissionVerdict ===

impl AdmissionVerdict {
    /// The write goes on as it is.
    pub fn allowed() -> Self {
        Self::Allowed { object: None, warnings: Vec::new() }
    }
}

// === impl AllowAll ===

impl Admission for AllowAll {
    fn review(&self, _: &Review<'_>) -> AdmissionVerdict {
        AdmissionVerdict::allowed()
    }
}
