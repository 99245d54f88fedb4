//! Which addresses a fetch connects to.
//!
//! A source is written by whoever may write a Service, and a server redirects where it likes; the
//! fetch runs inside the cluster's network. So addresses that mean "this machine" or that hand out
//! credentials are refused. Private ranges are not: mirrors live there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Services of clouds outside 169.254.0.0/16 that tell a machine about itself, or configure it:
/// Alibaba Cloud, Oracle Cloud, Azure.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
/// The same over IPv6: of AWS (instance, time, DNS, pod identity: fd00:ec2::/32) and Google Cloud.
const METADATA_V6: [(Ipv6Addr, u32); 2] = [
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128),
];

/// Where RFC 6052 puts the octets of an IPv4 address behind prefixes of 48, 56, 64 and 96 bits.
const NAT64_PLACES: [[usize; 4]; 4] =
    [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];

/// Networks that are allowed although the rule refuses them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed(Vec<IpNet>);

/// An address that no connection is made to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedAddress {
    /// The host that has it.
    pub(crate) host: String,
    pub(crate) address: IpAddr,
    pub(crate) kind: &'static str,
}

// === impl Allowed ===

impl Allowed {
    pub(crate) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether a connection for `host` may go to the address.
    pub(crate) fn check(&self, host: &str, address: IpAddr) -> Result<(), RefusedAddress> {
        let allows = |inner: &IpAddr| {
            self.0.iter().any(|network| network.contains(&address) || network.contains(inner))
        };
        // All that it may mean must be allowed.
        let meanings =
            std::iter::once(address).chain(embedded(address).into_iter().map(IpAddr::V4));
        let refused = meanings.filter_map(|inner| Some((inner, refused(inner)?)));
        match { refused }.find(|(inner, _)| !allows(inner)) {
            Some((_, kind)) => Err(RefusedAddress { host: host.to_owned(), address, kind }),
            None => Ok(()),
        }
    }
}

// === impl RefusedAddress ===

impl std::error::Error for RefusedAddress {}

impl fmt::Display for RefusedAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address, kind } = self;
        write!(
            formatter,
            "{host} is at {address}, {kind}, which models are not fetched from: name another host, \
             or allow it with --allow-network {address}/{}",
            if address.is_ipv4() { 32 } else { 128 }
        )
    }
}

/// What kind of refused address it is; `None` for one that may be connected to.
fn refused(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refused_v4(address),
        IpAddr::V6(address) => refused_v6(address),
    }
}

fn refused_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.octets()[0] == 0 {
        // All of 0.0.0.0/8: Linux takes connections to 0.0.0.0 to this machine.
        Some("an unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_link_local() {
        Some("a link-local address")
    } else if address.is_multicast() || address.is_broadcast() {
        Some("an address of many machines")
    } else if METADATA_V4.contains(&address) {
        Some("a cloud's metadata service")
    } else {
        None
    }
}

fn refused_v6(address: Ipv6Addr) -> Option<&'static str> {
    let is_metadata = METADATA_V6.iter().any(|(network, bits)| {
        let shift = 128 - bits;
        u128::from(address) >> shift == u128::from(*network) >> shift
    });
    if address.is_unspecified() {
        Some("an unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if address.is_multicast() {
        Some("an address of many machines")
    } else if is_metadata {
        Some("a cloud's metadata service")
    } else {
        None
    }
}

/// The IPv4 addresses that an IPv6 one may mean: mapped (`::ffff:0:0/96`), compatible (`::/96`), of
/// NAT64 (`64:ff9b::/96`), of 6to4 (`2002::/16`), or of NAT64 in a network of one's own
/// (`64:ff9b:1::/48`), where the length of the prefix, and so the place of the address, is anybody's
/// guess.
fn embedded(address: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return Vec::new() };
    let octets = address.octets();
    let segments = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        vec![Ipv4Addr::new(a, b, c, d)]
    };
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            of(high, low)
        }
        [0x2002, high, low, ..] => of(high, low),
        [0x64, 0xff9b, 1, ..] => {
            let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
            let places = NAT64_PLACES.map(at);
            // Where another prefix has its zeros, no address stands; no translator leads to 0.0.0.0/8.
            places.into_iter().filter(|address| address.octets()[0] != 0).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(allowed: &[&str], address: &str) -> bool {
        let networks = allowed.iter().map(|network| network.parse().unwrap()).collect();
        Allowed::new(networks).check("a.example", address.parse().unwrap()).is_err()
    }

    #[test]
    fn this_machine_and_metadata_are_refused_in_every_spelling() {
        for address in [
            "127.0.0.1",
            "127.8.9.10",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.23",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
        ] {
            assert!(is_refused(&[], address), "{address}");
        }
    }

    #[test]
    fn public_and_private_addresses_are_not() {
        for address in [
            "8.8.8.8",
            "10.1.2.3",
            "192.168.1.1",
            "172.16.0.1",
            "fd12::1",
            "2001:db8::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "64:ff9b:1:a00:0:100::",
        ] {
            assert!(!is_refused(&[], address), "{address}");
        }
    }

    #[test]
    fn an_allowed_network_holds_in_every_spelling_and_no_further() {
        assert!(!is_refused(&["127.0.0.0/8"], "127.0.0.1"));
        assert!(!is_refused(&["127.0.0.0/8"], "::ffff:127.0.0.1"));
        assert!(is_refused(&["127.0.0.0/8"], "::1"));
        assert!(is_refused(&["127.0.0.0/8", "::1/128"], "169.254.169.254"));
        assert!(!is_refused(&["169.254.170.23/32"], "169.254.170.23"));
        assert!(!is_refused(&["64:ff9b:1::/96"], "64:ff9b:1::a9fe:a9fe"));
        assert!(!is_refused(&["169.254.169.254/32"], "64:ff9b:1::a9fe:a9fe"));
    }
}
