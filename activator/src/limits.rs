//! How much an activator takes on, and how that follows from the machine that it runs on.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::queue::QueueLimits;

/// Connections at once where neither memory nor open files allow fewer.
const CONNECTIONS_MAX: usize = 50_000;
/// Bytes that requests may hold where no memory limit is set: a quarter of the chart's 1 GiB.
const HELD_BYTES: usize = 256 * 1024 * 1024;
/// The part of a memory limit that requests may hold: one in so many. As much again is for
/// connections; the other half is for code, tables, bytes on their way between client and pod, and
/// the kernel's buffers of sockets, which count against the same limit.
const HELD_PART: u64 = 4;
/// The part of a memory limit that is for connections: one in so many.
const CONNECTIONS_PART: u64 = 4;
/// Memory of an idle connection, HTTP/2's larger buffers included: 22 KiB were measured for each of
/// 8,000 HTTP/1 connections that held a request.
const CONNECTION_BYTES: u64 = 16 * 1024;
/// Files that are open for other reasons than connections: watches, reports, probes, listeners.
const OTHER_FILES: u64 = 256;
/// One connection in so many may be a tunnel: a tunnel lasts for up to a day, and requests must
/// find a place all the same.
const TUNNEL_PART: usize = 2;
/// Longest orderly end: the grace period of Knative's activator.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(10);

/// Limits of an activator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How much may wait for one revision.
    pub queue: QueueLimits,
    /// Bytes that the requests of all revisions may hold in this process.
    pub held_bytes: usize,
    /// Client connections at once over both doors, of which the outer door leaves some to the inner
    /// one; further connections are told so and closed. Other activators may have as many besides.
    pub connections: usize,
    /// Client connections at once from one address at each door; `None` means no limit of its
    /// own, which is right behind a load balancer.
    pub connections_per_address: Option<NonZeroUsize>,
    /// Connections that may be upgraded (WebSockets) at once.
    pub tunnels: usize,
    /// How long requests in flight may take to end after a shutdown has begun.
    pub drain: Duration,
}

// === impl Limits ===

impl Limits {
    /// The limits that fit into `memory` bytes, if that is limited, and into `files` open files.
    pub fn within(memory: Option<u64>, files: u64) -> Self {
        // As a rule a client's connection leads to one to a pod.
        let by_files = size(files.saturating_sub(OTHER_FILES) / 2).max(1);
        let by_memory = memory
            .map_or(usize::MAX, |bytes| size(bytes / CONNECTIONS_PART / CONNECTION_BYTES).max(1));
        let connections = CONNECTIONS_MAX.min(by_files).min(by_memory);
        Self {
            held_bytes: memory.map_or(HELD_BYTES, |bytes| size(bytes / HELD_PART)),
            connections,
            tunnels: connections.div_ceil(TUNNEL_PART),
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: QueueLimits::default(),
            held_bytes: HELD_BYTES,
            connections: CONNECTIONS_MAX,
            connections_per_address: None,
            tunnels: CONNECTIONS_MAX / TUNNEL_PART,
            drain: DRAIN_TIMEOUT,
        }
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_small_machine_takes_less_on() {
        let chart = Limits::within(Some(1024 * MIB), 1_048_576);
        assert_eq!((chart.held_bytes >> 20, chart.connections), (256, 16_384));
        let small = Limits::within(Some(128 * MIB), 1_048_576);
        assert_eq!((small.held_bytes >> 20, small.connections, small.tunnels), (32, 2048, 1024));
        let few_files = Limits::within(None, 1024);
        assert_eq!((few_files.held_bytes >> 20, few_files.connections), (256, 384));
        assert_eq!(Limits::within(None, u64::MAX), Limits::default());
    }
}
