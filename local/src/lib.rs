//! Ebb on one machine: the whole platform in one process, no Kubernetes needed.
//!
//! [`ebb_apiserver`] stands in for kube-apiserver, [`deployments`] for the Deployment controller,
//! [`ebb_runner`] for kubelet; its guardian makes sure that no replica outlives Ebb. [`platform`]
//! puts the real controller, autoscaler and activator on top of them, unchanged.

pub mod cli;
pub mod deployments;
mod fetches;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
pub mod kubeconfig;
mod manifests;
mod news;
pub mod platform;
pub mod scheduler;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod token;
