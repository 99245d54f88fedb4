//! End to end: the real `ebb` binary, real sockets, real processes and the real `kubectl`.
//!
//! Every test starts an Ebb of its own on free ports with a state folder of its own. The same
//! tests run on a cluster that Ebb is installed on (tests/cluster/e2e), each in a namespace of its
//! own; only those in `local` are about the process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may fail")]

mod bad_input;
mod kubectl;
mod llm;
mod local;
mod model_files;
mod models;
mod protocols;
mod rollout;
mod scaling;
mod scarce;
mod standby;
