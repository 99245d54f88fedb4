//! The listeners, bound before anything else happens: a port in use ends the start at once.

use std::net::SocketAddr;

use ebb_daemon::listener::{bind, require_loopback};
use tokio::net::TcpListener;

use crate::cli::Local;
use crate::scheduler::Capacity;
use crate::terminal::TerminalEvent;

/// Everything that listens.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) gateway: TcpListener,
    pub(super) inner: TcpListener,
    pub(super) api: TcpListener,
    pub(super) admin: Option<TcpListener>,
    gateway_address: SocketAddr,
    inner_address: SocketAddr,
    api_address: SocketAddr,
}

impl Listeners {
    /// Binds all of them, or says which flag names an address that cannot be had.
    pub(super) fn bind(options: &Local) -> anyhow::Result<Self> {
        require_loopback("--api", options.api, "commands are run through the API")?;
        require_loopback("--inner", options.inner, "private services answer there")?;
        let gateway = bind("--listen", options.listen)?;
        let inner = bind("--inner", options.inner)?;
        let api = bind("--api", options.api)?;
        let admin = match options.admin {
            Some(address) => Some(bind("--admin", address)?),
            None => None,
        };
        Ok(Self {
            gateway_address: gateway.local_addr()?,
            inner_address: inner.local_addr()?,
            api_address: api.local_addr()?,
            gateway,
            inner,
            api,
            admin,
        })
    }

    /// Where requests go.
    pub(super) fn gateway_address(&self) -> SocketAddr {
        self.gateway_address
    }

    /// Where `kubectl` goes.
    pub(super) fn api_address(&self) -> SocketAddr {
        self.api_address
    }

    /// The event that tells these addresses, and how many files and connections may be open.
    pub(super) fn started(
        &self,
        options: &Local,
        (files, connections): (u64, usize),
        capacity: &Capacity,
    ) -> TerminalEvent {
        TerminalEvent::Started {
            gateway: format!("http://{}", self.gateway_address),
            inner: format!("http://{}", self.inner_address),
            api: format!("https://{}", self.api_address),
            files,
            connections,
            memory: capacity.memory,
            devices: capacity.devices.clone(),
            kubeconfig: options.kubeconfig_file().display().to_string(),
        }
    }
}
