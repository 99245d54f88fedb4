//! The whole activator over in-memory pipes in paused time: clients on one side, pods on the other.

mod failures;
mod fixture;
mod forwarding;
mod holding;
mod peers;
mod protocols;
