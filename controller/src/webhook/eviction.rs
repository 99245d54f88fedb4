//! Which connections stay when there are too many: pure decisions.
//!
//! Every pod can connect, and the API server must get through. So a new connection always gets a
//! place, and the connection that is closed for it is one that would be missed least. An address with
//! more connections than an API server keeps is a flood, and makes room first, answered or not: any
//! pod can send reviews of its own. Below that number a crowd says nothing, for an API server has
//! one, too; then a connection makes room of which no review was ever answered. Pods on several
//! addresses that send reviews and stay below that number each can still make an API server connect
//! anew.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Connections at once. Each takes some 50 KiB for TLS and up to [`super::server`]'s windows: 80 MiB
/// at the most. An API server keeps up to 25 that are idle for each of Ebb's three webhooks, so there
/// is room for those of three.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// Connections that one API server keeps idle.
const CROWD_MAX: usize = 75;

/// The open connections.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    last: u64,
    held: HashMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    address: IpAddr,
    /// Reviews that were read whole and are not answered yet.
    asked: u32,
    /// Whether a review was ever answered.
    is_known: bool,
    /// When the connection came, or had its last answer.
    since: Instant,
    close: CancellationToken,
}

/// The place of a new connection.
pub(super) struct Taken {
    /// Number of the connection.
    pub(super) id: u64,
    /// Fires when the connection must make room.
    pub(super) close: CancellationToken,
    /// Whether another connection had to make room for this one.
    pub(super) has_evicted: bool,
}

// === impl Places ===

impl Places {
    /// No connection yet, and never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, last: 0, held: HashMap::new() }
    }

    /// Gives a place to a new connection, if need be that of another.
    pub(super) fn take(&mut self, address: IpAddr, now: Instant) -> Taken {
        let loser = (self.held.len() >= self.most).then(|| self.least()).flatten();
        if let Some(loser) = loser.and_then(|id| self.held.remove(&id)) {
            loser.close.cancel();
        }
        self.last += 1;
        let close = CancellationToken::new();
        let held = Held { address, asked: 0, is_known: false, since: now, close: close.clone() };
        self.held.insert(self.last, held);
        Taken { id: self.last, close, has_evicted: loser.is_some() }
    }

    /// A whole review has come.
    pub(super) fn asked(&mut self, id: u64) {
        if let Some(held) = self.held.get_mut(&id) {
            held.asked += 1;
        }
    }

    /// A review was answered.
    pub(super) fn answered(&mut self, id: u64, now: Instant) {
        if let Some(held) = self.held.get_mut(&id) {
            held.asked = held.asked.saturating_sub(1);
            held.is_known = true;
            held.since = now;
        }
    }

    /// The client no longer waits for the answer to a review.
    pub(super) fn gave_up(&mut self, id: u64) {
        if let Some(held) = self.held.get_mut(&id) {
            held.asked = held.asked.saturating_sub(1);
        }
    }

    /// The connection has ended.
    pub(super) fn leave(&mut self, id: u64) {
        self.held.remove(&id);
    }

    /// Number of the connection's reviews that are not answered.
    #[cfg(test)]
    pub(super) fn waiting(&self, id: u64) -> u32 {
        self.held.get(&id).map_or(0, |held| held.asked)
    }

    /// The connection to close: one that waits for no answer, if there is any; of those, one of an
    /// address with more than [`CROWD_MAX`]; of those, one that was never answered; of those, one of
    /// the address with the most connections; of those, the oldest.
    fn least(&self) -> Option<u64> {
        let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
        for held in self.held.values() {
            *crowds.entry(held.address).or_default() += 1;
        }
        let rank = |(id, held): &(&u64, &Held)| {
            let crowd = crowds.get(&held.address).copied().unwrap_or_default();
            (held.asked > 0, crowd <= CROWD_MAX, held.is_known, Reverse(crowd), held.since, **id)
        };
        self.held.iter().min_by_key(rank).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// The API server's connection outlives any number of idle ones.
    #[test]
    fn a_flood_makes_room_for_itself_and_not_at_the_cost_of_others() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut places = Places::new(4);
        let server = places.take(address(1), at(0));
        let fresh = places.take(address(2), at(1));
        let flood: Vec<_> = (0..10).map(|n| places.take(address(9), at(2 + n))).collect();
        assert!(!server.close.is_cancelled() && !fresh.close.is_cancelled());
        let closed = flood.iter().filter(|taken| taken.close.is_cancelled()).count();
        assert_eq!((closed, places.held.len()), (8, 4));
        assert_eq!(flood.iter().filter(|taken| taken.has_evicted).count(), 8);
        // The older connections of the flood went first.
        assert!(!flood[9].close.is_cancelled() && !flood[8].close.is_cancelled());
    }

    /// Formerly the largest crowd made room first, which may be an API server's: a write failed each
    /// time that the API server sent a review just then.
    #[test]
    fn an_api_server_with_many_connections_keeps_them_beside_a_flood_from_many_addresses() {
        let now = Instant::now();
        let mut places = Places::new(20);
        let known: Vec<_> = (0..8).map(|_| places.take(address(1), now)).collect();
        for taken in &known {
            places.asked(taken.id);
            places.answered(taken.id, now);
        }
        for pod in 2..8 {
            let later = now + Duration::from_secs(pod.into());
            (0..4).for_each(|_| drop(places.take(address(pod), later)));
        }
        assert!(known.iter().all(|taken| !taken.close.is_cancelled()));
    }

    /// A pod whose reviews were answered takes the places of its own connections, and not those of
    /// whoever has just connected.
    #[test]
    fn a_flood_that_was_answered_makes_room_before_a_newcomer() {
        let now = Instant::now();
        let mut places = Places::new(CROWD_MAX + 2);
        for _ in 0..=CROWD_MAX {
            let flood = places.take(address(9), now);
            places.asked(flood.id);
            places.answered(flood.id, now);
        }
        let newcomer = places.take(address(1), now);
        assert!(!newcomer.has_evicted);
        assert!(places.take(address(9), now).has_evicted && !newcomer.close.is_cancelled());
    }

    #[test]
    fn of_one_address_those_stay_that_were_answered_and_those_that_wait_for_it() {
        let start = Instant::now();
        let mut places = Places::new(3);
        let known = places.take(address(1), start);
        places.asked(known.id);
        places.answered(known.id, start);
        let waiting = places.take(address(1), start);
        places.asked(waiting.id);
        let idle = places.take(address(1), start + Duration::from_secs(1));
        let next = places.take(address(1), start + Duration::from_secs(2));
        assert!(idle.close.is_cancelled() && next.has_evicted);
        places.leave(next.id);
        let again = places.take(address(1), start + Duration::from_secs(3));
        assert!(!again.has_evicted && !known.close.is_cancelled());
        // A connection that waits for an answer is closed only if all do.
        places.take(address(1), start + Duration::from_secs(4));
        assert!(again.close.is_cancelled() && !waiting.close.is_cancelled());
    }
}
