//! The whole activator over in-memory pipes in paused time: clients on one side, pods on the other.

mod doors;
mod failures;
mod fixture;
mod forwarding;
mod holding;
mod identity;
mod pacing;
mod peers;
mod protocols;
mod sleeping;
mod timeouts;
