//! All parts of the platform in one process on the embedded API, in paused time, from a seed.
//!
//! Controller, autoscaler, activator and the Deployment stand-in are the real ones. Simulated are
//! the machines that pods run on, the network to them, and the time that the API takes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may fail")]

mod kubelet;
mod latency;
mod partition;
mod seed;
mod world;
mod zero;
