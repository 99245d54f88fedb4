//! Places that are taken one at a time: connections, and the tunnels among them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

/// A number of places of one kind. Two `Places` with the same gauge count together, each up to its
/// own limit; the places of one address are counted apart.
#[derive(Debug)]
pub(crate) struct Places {
    limit: i64,
    /// Most places of one address; as a rule `None`, because behind a load balancer all clients
    /// have the same few addresses.
    per_address: Option<NonZeroUsize>,
    /// The places that are taken: one atomic number, which is also the metric.
    taken: Gauge,
    /// Bounded by the number of places. Empty without a limit per address.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

/// A place, free again when dropped.
#[derive(Debug)]
#[must_use = "a place is free again when it is dropped"]
pub(crate) struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All are taken.
    Places,
    /// The address has as many as it may.
    Address,
}

// === impl Places ===

impl Places {
    /// `limit` places; `taken` shows how many are taken.
    pub(crate) fn new(limit: usize, per_address: Option<NonZeroUsize>, taken: Gauge) -> Arc<Self> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Arc::new(Self { limit, per_address, taken, addresses: Mutex::default() })
    }

    /// A place for a client at `address`.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let mut place = self.take_any().ok_or(Full::Places)?;
        if let Some(most) = self.per_address {
            let address = address.to_canonical();
            let mut addresses = self.addresses.lock();
            let count = addresses.entry(address).or_default();
            if *count >= most.get() {
                return Err(Full::Address);
            }
            *count += 1;
            place.address = Some(address);
        }
        Ok(place)
    }

    /// A place that does not count for any address.
    pub(crate) fn take_any(self: &Arc<Self>) -> Option<Place> {
        let before = self.taken.inc();
        let place = Place { places: Arc::clone(self), address: None };
        (before < self.limit).then_some(place)
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.dec();
        if let Some(address) = self.address {
            let mut addresses = self.places.addresses.lock();
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_together_and_for_each_address() {
        let places = Places::new(3, NonZeroUsize::new(2), Gauge::default());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = places.take(one).unwrap();
        let second = places.take("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(places.take(one).unwrap_err(), Full::Address);
        let third = places.take(other).unwrap();
        assert_eq!(places.take(other).unwrap_err(), Full::Places);
        drop(first);
        let again = places.take(one).unwrap();
        drop((second, third, again));
        assert!(places.addresses.lock().is_empty(), "nothing is kept of addresses that left");
        assert_eq!(places.taken.get(), 0);
    }
}
