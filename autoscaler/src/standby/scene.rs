//! What a step of the last replica depends on, and what follows from it.

use std::sync::Arc;

use ebb_api::standby::Standby;
use tokio::time::Instant;

use super::order::StandbyOrder;
use crate::pods::Pods;

/// The inputs of a step.
#[derive(Clone, Copy, Debug)]
pub struct RestScene<'a> {
    /// Replicas to aim at without standby.
    pub want: u32,
    /// Replicas that the load asks for: `want` may be more, for a part of the load is not known.
    pub needed: u32,
    /// Replicas asked for now.
    pub current: u32,
    /// Most replicas that it may have.
    pub max: u32,
    /// Whether anything asks for a replica that serves.
    pub is_wanted: bool,
    /// Whether a scale may be lowered: all activators and pods are known.
    pub is_known: bool,
    /// How the last replica sleeps, if it does.
    pub standby: Option<&'a Standby>,
    /// Whether it may sleep now: requests may come, and its room is not for others.
    pub may_rest: bool,
    /// The revision's pods.
    pub pods: &'a Pods,
    /// The present.
    pub now: Instant,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestPlan {
    /// Replicas to aim at.
    pub want: u32,
    /// The pod that gets no requests and stays.
    pub rests: Option<Arc<str>>,
    /// The pod that goes before all others that are ready.
    pub goes: Option<Arc<str>>,
    /// The call to make.
    pub call: Option<(Arc<str>, StandbyOrder)>,
}
