//! The real program against real servers on loopback: what it fetches, resumes, refuses and says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod addresses;
mod archives;
mod bucket;
mod cache;
mod hub;
mod interruptions;
mod process;
mod secure;
mod server;
mod web;
