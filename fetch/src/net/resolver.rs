//! Names of hosts, looked up and checked: what is checked is what is connected to.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::Allowed;

/// The system's resolver, without refused addresses.
#[derive(Debug)]
pub(super) struct CheckedResolver {
    allowed: Arc<Allowed>,
}

// === impl CheckedResolver ===

impl CheckedResolver {
    pub(super) fn new(allowed: Arc<Allowed>) -> Self {
        Self { allowed }
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut refused = None;
            let mut good = Vec::new();
            for address in found {
                match allowed.check(name.as_str(), address.ip()) {
                    Ok(()) => good.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match refused {
                Some(why) if good.is_empty() => Err(why.into()),
                _ => Ok(Box::new(good.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>
                    as Addrs),
            }
        })
    }
}
