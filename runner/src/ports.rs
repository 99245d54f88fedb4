//! Loopback ports for pods, one number to one pod.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

/// Tries for a number that no pod has. The kernel picks at random out of some 28,000, so a second
/// try is rare and this many fail only when the machine has no ports left.
const TRIES: usize = 64;

/// The numbers that live pods have. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    taken: Arc<Mutex<HashSet<u16>>>,
}

/// A number that no other pod gets while this value lives.
#[derive(Debug)]
pub struct PortReservation {
    port: u16,
    taken: Arc<Mutex<HashSet<u16>>>,
}

// === impl Ports ===

impl Ports {
    /// A free number.
    ///
    /// The kernel is asked for one by binding, and the socket is closed at once: the pod binds the
    /// number later itself. If Linux hands the number to another reservation in between, that is
    /// noticed (it is in the set) and another one is tried. An outgoing connection hardly gets it,
    /// since `connect` prefers even numbers and `bind` odd ones.
    ///
    /// Fails when the machine has no free port.
    pub fn reserve(&self) -> io::Result<PortReservation> {
        for _ in 0..TRIES {
            let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = socket.local_addr()?.port();
            if self.taken.lock().insert(port) {
                return Ok(PortReservation { port, taken: Arc::clone(&self.taken) });
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "no free loopback port: lower the number of replicas, or widen \
             net.ipv4.ip_local_port_range",
        ))
    }
}

// === impl PortReservation ===

impl PortReservation {
    /// The number.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortReservation {
    fn drop(&mut self) {
        self.taken.lock().remove(&self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_reservations_are_distinct_and_end_with_their_value() {
        let ports = Ports::default();
        let held: Vec<_> = (0..200).map(|_| ports.reserve().expect("a port")).collect();
        let numbers: HashSet<u16> = held.iter().map(PortReservation::port).collect();
        assert_eq!(numbers.len(), 200);
        drop(held);
        assert!(ports.taken.lock().is_empty());
    }
}
