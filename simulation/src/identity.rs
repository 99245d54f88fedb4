//! Pods as those who watch them know them, and what a user may ask of them.

use std::sync::Arc;

use crate::network::Name;

/// Annotation of a Service's template: how its pods behave.
pub(crate) const HABIT: &str = "simulation.ebb.dev/habit";

/// How the pods of a revision behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// They start and serve.
    Well,
    /// They take some seconds to start.
    Slow,
    /// They never listen, and Kubernetes says so.
    Broken,
}

/// What a pod is, as its process and those who watch it know it.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: Name,
    pub(crate) uid: Arc<str>,
    pub(crate) namespace: String,
    pub(crate) service: Arc<str>,
    pub(crate) revision_uid: Arc<str>,
}
