//! Addresses for processes that are told where to listen.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below those that Linux gives to outgoing connections and to whoever binds port 0
/// (`ip_local_port_range` begins at 32768): a port from there can be taken by any connection of
/// another test, between its choice and the moment at which a process listens on it.
const FIRST: u16 = 20_000;
const PORTS: u16 = 12_000;
/// Ports by which two test programs begin apart. 97 is prime to their number, so that successive
/// process ids come around late.
const STRIDE: u16 = 97;

/// Where this program's search goes on.
static NEXT: OnceLock<AtomicU16> = OnceLock::new();

/// A loopback address that nobody listens on, and that is not given out again by this program.
///
/// # Panics
///
/// If every port of the range is taken.
pub fn free_address() -> SocketAddr {
    let start = u16::try_from(process::id() % u32::from(PORTS)).unwrap_or_default();
    let next = NEXT.get_or_init(|| AtomicU16::new(start.wrapping_mul(STRIDE) % PORTS));
    let candidate = || {
        let offset = next.fetch_add(1, Ordering::Relaxed) % PORTS;
        SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset))
    };
    let is_free = |address: &SocketAddr| TcpListener::bind(address).is_ok();
    (0..PORTS).map(|_| candidate()).find(is_free).expect("a loopback port is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_out_once_and_lies_below_the_ports_of_connections() {
        let one = free_address();
        let other = free_address();
        assert_ne!(one, other);
        assert!([one, other].iter().all(|address| address.port() < 32_768));
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let first = free_address();
        let taken: Vec<_> = (1..=3)
            .filter_map(|more| TcpListener::bind((first.ip(), first.port() + more)).ok())
            .collect();
        let next = free_address();
        assert!(taken.iter().all(|one| one.local_addr().unwrap() != next), "{next}");
    }
}
