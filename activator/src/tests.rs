//! The whole activator over in-memory pipes in paused time: clients on one side, pods on the other.

mod bounds;
mod broken;
mod doors;
mod events;
mod failures;
mod fixture;
mod forwarding;
mod framing;
mod holding;
mod identity;
mod models;
mod notes;
mod pacing;
mod peers;
mod protocols;
mod relayed;
mod sleeping;
mod slow;
mod taken_back;
mod timeouts;
mod vanished;
mod wire;
