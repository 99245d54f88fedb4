//! Tests that need a real Kubernetes: its kubelet, its scheduler, its quotas, and a rollout of
//! Ebb's own pods under load. Run by tests/cluster/e2e against an Ebb installed by its Helm chart.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may fail")]

mod admission;
mod alone;
mod chart;
mod doors;
mod failures;
mod inside;
mod load;
mod model_cache;
mod partition;
mod probes;
mod rights;
mod rollouts;
mod severed;
mod webhook;
