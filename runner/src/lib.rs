//! The stand-in for kubelet: runs each pod's containers as processes of this machine.
//!
//! A container is a process group. Its image is a label that is never pulled: the program that runs
//! is `command` with `args`. A pod has its own port on loopback instead of its own address.
//! Everything else works as in kubelet and is reported in the pod's status: probes, restarts with
//! back-off, termination with grace, logs. A feature that needs real containers is refused in the
//! status, with a message that says what to do.
//!
//! Starting is on the path of a waiting request. So a pod is started from the watch event that
//! shows it, with no write before the process and one after it.

mod backoff;
mod command;
mod container;
pub mod devices;
mod environment;
mod expansion;
pub mod guardian;
mod limits;
mod logs;
mod memory;
pub mod mounts;
mod omissions;
mod pod;
mod ports;
mod probe;
mod process;
mod refusal;
mod shell;
mod state;
mod status;
mod tasks;
mod volumes;

pub use limits::Limiter;
pub use logs::Logs;
pub use omissions::left_out;
pub use ports::{PortReservation, Ports};
pub use shell::{DRAINED, RunnerOptions, clear_stale_pods, run};
