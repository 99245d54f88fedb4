//! End to end: the real `ebb` binary, real sockets, real processes and the real `kubectl`.
//!
//! Every test starts an Ebb of its own on free ports with a state folder of its own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may fail")]

mod bad_input;
mod crash;
mod kubectl;
mod models;
mod protocols;
mod rollout;
mod scaling;
mod startup;
