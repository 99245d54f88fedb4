//! Ebb on one machine: the whole platform in one process, no Kubernetes needed.
//!
//! [`api`] stands in for kube-apiserver, [`deployments`] for the Deployment controller, [`runner`]
//! for kubelet; [`guardian`] makes sure that no replica outlives Ebb. [`platform`] puts the real
//! controller, autoscaler and activator on top of them, unchanged.

pub mod api;
pub mod certificate;
pub mod cli;
pub mod deployments;
pub mod guardian;
pub mod kubeconfig;
mod lock;
mod manifests;
mod news;
pub mod platform;
mod private;
pub mod runner;
pub mod terminal;
pub mod token;
