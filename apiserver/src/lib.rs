//! The embedded Kubernetes-shaped API server.
//!
//! One process, one folder, no root: enough of the Kubernetes API that the controller, the
//! autoscaler and the activator run on it through `kube::Client` as they do on a cluster, and
//! that `kubectl` finds what it expects. [`ApiServer`] is the whole of it; below it
//!
//! - `handler` turns requests into reads and writes, with Kubernetes' order of checks;
//! - `store` keeps the objects and the log of changes that watches read, `journal` keeps them
//!   through restarts, `garbage` and `upkeep` clean up;
//! - [`resources`], [`schema`], [`patch`], [`apply`], [`table`] and [`openapi`] are pure: what is
//!   served, and what Kubernetes does with values.
//!
//! Through a socket, health checks aside, only requests with one of the [`authentication::Tokens`]
//! that the server was opened with are served; every token may do everything. The server is neither
//! highly available nor open to other machines.

pub mod admission;
pub mod apply;
pub mod authentication;
pub mod certificate;
mod deletion;
pub mod failure;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
mod garbage;
mod handler;
mod journal;
mod listener;
pub mod lock;
mod measure;
mod media;
mod metadata;
mod object;
pub mod openapi;
pub mod patch;
pub mod pod_logs;
pub mod private;
mod protobuf;
mod reply;
mod request;
pub mod resources;
pub mod schema;
mod selector;
mod server;
mod store;
mod strict;
pub mod table;
mod token_review;
mod upkeep;
mod view;

#[cfg(test)]
mod tests;

pub use handler::Clock;
pub use journal::JournalError;
pub use reply::ReplyBody;
pub use server::{ApiOptions, ApiServer, ApiService, OpenError, Storage};
