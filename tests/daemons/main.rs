//! Activator, autoscaler and controller as the processes that a cluster runs, each on its own.
//!
//! They meet only through the API server and the report stream. The API server is the embedded
//! one, on loopback; its stand-ins for Kubernetes' controllers run in the test.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may fail")]

mod alone;
mod bed;
mod failover;
mod impostor;
mod ring;
mod serving;
