//! Listening on the addresses that options give.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted. As many as Linux allows by itself
/// (`net.core.somaxconn`): with tokio's 1,024 some of a thousand clients that come at once are
/// reset.
const BACKLOG: u32 = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Other machines can reach the address.
    #[error("{option} {address}: {why}; give a loopback address")]
    Public {
        /// The option that gave it.
        option: String,
        /// The address.
        address: SocketAddr,
        /// Why that must not be.
        why: String,
    },
    /// The system refuses it.
    #[error("{option} {address} cannot be listened on; free it or name another address")]
    Bind {
        /// The option that gave it.
        option: String,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
}

/// Refuses an address that other machines can reach; `why` is the reason, for the error.
///
/// # Errors
///
/// The option and the address, with what to do.
pub fn require_loopback(option: &str, address: SocketAddr, why: &str) -> Result<(), ListenError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(ListenError::Public { option: option.to_owned(), address, why: why.to_owned() })
}

/// Listens on an address that the option gave. Must be called within a Tokio runtime.
///
/// # Errors
///
/// The option and the address, with what to do.
pub fn bind(option: &str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    listen(address).map_err(|source| ListenError::Bind {
        option: option.to_owned(),
        address,
        source,
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a new process may listen where connections of the one before are still ending.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    /// More than tokio's own backlog has room for.
    const CLIENTS: u32 = 1200;

    /// Nothing is accepted here: all clients wait in the kernel's backlog. The kernel leaves a
    /// client beyond the backlog without an answer, so that its connect goes on until the timeout.
    #[tokio::test]
    async fn a_thousand_clients_that_come_at_once_are_all_connected() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(hard > 2 * u64::from(CLIENTS), "this machine allows {hard} open files");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        let machine = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let room = machine.trim().parse::<u32>().unwrap();
        assert!(room > CLIENTS, "this machine lets {room} connections wait: raise somaxconn");
        let listener = bind("--listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for number in 1..=CLIENTS {
            let connecting = timeout(Duration::from_secs(10), TcpStream::connect(address)).await;
            clients.push(connecting.unwrap_or_else(|_| panic!("client {number}")).unwrap());
        }
    }
}
