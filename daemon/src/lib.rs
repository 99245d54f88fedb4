//! What every process of Ebb needs: logs, metrics, health, settings, an orderly end.

pub mod admin;
pub mod logs;
pub mod readiness;
pub mod settings;
pub mod termination;
