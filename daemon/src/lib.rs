//! What every process of Ebb needs: logs, metrics, health, settings, leases, an orderly end;
//! and the one write that two of them make.

pub mod admin;
pub mod client;
pub mod desired;
pub mod identity;
pub mod lease;
pub mod listener;
pub mod logging;
pub mod pauses;
pub mod process;
pub mod readiness;
pub mod settings;
pub mod tasks;
pub mod termination;
