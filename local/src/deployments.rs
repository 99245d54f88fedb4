//! The stand-in for Kubernetes' Deployment controller: keeps as many pods of a Deployment's
//! template as the Deployment asks for, and reports the progress in its status.
//!
//! Pods belong to the Deployment itself, there are no ReplicaSets: a pod's `pod-template-hash`
//! label tells which template it was made from, and a superseded template needs no history here.
//! The decisions are pure ([`plan()`] and [`observe()`]); the shell below feeds them from two
//! watches. It waits for nothing between a change of scale and the pod: a cold start pays for
//! each step.

mod cache;
mod plan;
mod shell;
mod status;
mod template;
#[cfg(test)]
mod tests;
mod writes;

pub use plan::{Actions, Victim, plan};
pub use shell::{DeploymentOptions, run};
pub use status::observe;
pub use template::{POD_TEMPLATE_HASH, template_hash};
