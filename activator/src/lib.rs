//! The data plane of Ebb: gateway, buffer, load balancer, concurrency limiter and meter in one hop.
//!
//! A request's host and the door that it came through select a revision ([`route`]). The request
//! waits until a pod of that revision is ready and free ([`queue`], [`dispatch`]); it is then
//! forwarded as it is, and the response is streamed back. Meanwhile the load is reported to the
//! autoscaler, at once when a first request finds no pod ([`ReportSink`]; over the network:
//! [`streams`]). Among several activators one owns each revision with a concurrency limit
//! ([`ring`]), and the others forward to it.
//!
//! The cores only decide: [`route`], [`queue`], [`dispatch`], [`load`], [`failure`], [`health`],
//! [`pod`], [`ring`], [`settings`], and `keys` and `usage` of the models host. Everything else carries out their decisions.

pub mod admin;
pub mod arrivals;
pub mod cli;
pub mod connect;
mod directory;
pub mod dispatch;
pub mod error;
pub mod failure;
pub mod health;
pub mod load;
mod observer;
pub mod pod;
pub mod queue;
pub mod ring;
pub mod route;
pub mod settings;
pub mod streams;

mod account;
mod activator;
mod body;
mod budget;
mod epochs;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod greeting;
mod guard;
mod headers;
mod keys;
mod limits;
mod machine;
mod meters;
mod models;
mod pace;
mod peers;
mod places;
mod probe;
mod progress;
mod proxy;
mod revision;
mod server;
mod sockets;
mod standstill;
mod synced;
mod tunnel;
mod upload;
mod upstream;
mod usage;
mod visit;
mod wake;
mod watch;

pub use activator::{Activator, ActivatorOptions};
pub use body::{BodyError, ProxyBody};
pub use connect::{Accept, BoxedIo, Connect, Io, TcpConnect};
pub use directory::WatchChange;
pub use error::RequestError;
pub use limits::Limits;
pub use machine::Machine;
pub use observer::{Event, Observer, ReportSink};
pub use peers::{PORT_NAME as PEER_PORT_NAME, PeerOptions};
pub use probe::ProbePlan;
pub use revision::{PodStanding, RevisionStanding};

#[cfg(test)]
mod tests;
