//! The network between processes and pods: connections are pipes whose bytes take a while, links
//! can be cut in one direction, and processes can die or hang with their connections.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use ebb_activator::{Accept, BoxedIo, Connect};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use crate::chance::Chance;

mod pipe;

pub(crate) use pipe::Pipe;
use pipe::Wire;

/// Longest time that bytes take on a link that is well.
const DELAY_MS_MAX: u64 = 2;
/// How long a cut lasts until the kernels at both ends give the connections up.
const GIVEN_UP: Duration = Duration::from_secs(30);

/// Name of a process or pod on the network.
pub(crate) type Name = Arc<str>;

/// The network. Cheap to clone; clones are the same network.
#[derive(Clone)]
pub(crate) struct Network {
    chance: Chance,
    state: Arc<Mutex<State>>,
    /// Something was healed, resumed, bound or killed.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// By directed link.
    links: BTreeMap<(Name, Name), Link>,
    paused: BTreeMap<Name, Paused>,
    /// Machines that have lost their power or their cable: nothing comes or goes.
    lost: BTreeSet<Name>,
    listeners: BTreeMap<SocketAddr, Listening>,
    /// Who has an address now, whether or not anybody listens there.
    hosts: BTreeMap<IpAddr, Name>,
    /// Both directions of every connection there is.
    wires: Vec<Weak<Mutex<Wire>>>,
    ports: u16,
    /// Names for addresses of services.
    names: BTreeMap<String, Vec<SocketAddr>>,
}

/// A link with all the faults that are in force there: each ends by itself.
#[derive(Clone, Copy, Default)]
struct Link {
    /// Cuts in force.
    cuts: u32,
    /// How often it was closed: by a cut while none was in force.
    closed: u64,
    /// What each chunk of bytes takes in addition: all lags in force together.
    lag: Duration,
}

/// A process that is stopped.
#[derive(Default)]
struct Paused {
    /// How often it is stopped: it goes on when as many have ended.
    times: u32,
    wakers: Vec<Waker>,
}

struct Listening {
    owner: Name,
    arrivals: mpsc::UnboundedSender<(Pipe, SocketAddr)>,
}

/// A listener on the network.
pub(crate) struct Listener {
    arrivals: mpsc::UnboundedReceiver<(Pipe, SocketAddr)>,
}

/// The network as one process uses it.
pub(crate) struct Dialer {
    network: Network,
    from: Name,
    address: IpAddr,
}

impl Network {
    pub(crate) fn new(chance: Chance) -> Self {
        Self { chance, state: Arc::default(), changed: Arc::default() }
    }

    /// Gives `name` an address, which another may have had.
    pub(crate) fn host(&self, name: &Name, address: IpAddr) {
        self.state.lock().hosts.insert(address, name.clone());
    }

    /// Listens at `address` in the name of `owner` until it is killed, or the listener dropped.
    pub(crate) fn bind(&self, owner: &Name, address: SocketAddr) -> Listener {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let listening = Listening { owner: owner.clone(), arrivals: sender };
        self.state.lock().listeners.insert(address, listening);
        Listener { arrivals }
    }

    /// Sets the addresses that a name stands for.
    pub(crate) fn name(&self, name: &str, addresses: Vec<SocketAddr>) {
        self.state.lock().names.insert(name.to_owned(), addresses);
    }

    /// The network as `from` uses it, from its address.
    pub(crate) fn dialer(&self, from: &Name, address: IpAddr) -> Arc<Dialer> {
        Arc::new(Dialer { network: self.clone(), from: from.clone(), address })
    }

    /// Cuts the link from one to the other: nothing arrives until it is healed. The other direction
    /// is a link of its own.
    pub(crate) fn cut(&self, from: &Name, to: &Name) {
        let closed = {
            let mut state = self.state.lock();
            let link = state.links.entry((from.clone(), to.clone())).or_default();
            link.cuts += 1;
            if link.cuts > 1 {
                return;
            }
            link.closed += 1;
            link.closed
        };
        let (network, from, to) = (self.clone(), from.clone(), to.clone());
        tokio::spawn(async move {
            sleep(GIVEN_UP).await;
            let link = network.link(&from, &to);
            if link.cuts > 0 && link.closed == closed {
                network.sever(|wire| wire.joins(&from, &to));
            }
        });
    }

    /// Ends one cut: the link is whole when none is left.
    pub(crate) fn heal(&self, from: &Name, to: &Name) {
        if let Some(link) = self.state.lock().links.get_mut(&(from.clone(), to.clone())) {
            link.cuts = link.cuts.saturating_sub(1);
        }
        self.wake();
    }

    /// Makes the link slower than it is.
    pub(crate) fn lag(&self, from: &Name, to: &Name, lag: Duration) {
        self.state.lock().links.entry((from.clone(), to.clone())).or_default().lag += lag;
    }

    /// Ends a lag.
    pub(crate) fn quicken(&self, from: &Name, to: &Name, lag: Duration) {
        if let Some(link) = self.state.lock().links.get_mut(&(from.clone(), to.clone())) {
            link.lag = link.lag.saturating_sub(lag);
        }
    }

    /// Stops a process: its kernel goes on to take connections and bytes.
    pub(crate) fn pause(&self, name: &Name) {
        self.state.lock().paused.entry(name.clone()).or_default().times += 1;
    }

    /// Ends one stop of a process: it goes on when none is left.
    pub(crate) fn resume(&self, name: &Name) {
        let wakers = {
            let mut state = self.state.lock();
            let Some(paused) = state.paused.get_mut(name) else { return };
            paused.times = paused.times.saturating_sub(1);
            if paused.times > 0 {
                return;
            }
            state.paused.remove(name)
        };
        wakers.into_iter().flat_map(|paused| paused.wakers).for_each(Waker::wake);
        self.wake();
    }

    /// Whether the process is stopped; it is woken when it goes on.
    pub(crate) fn is_paused(&self, name: &Name, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        let Some(paused) = state.paused.get_mut(name) else { return false };
        if !paused.wakers.iter().any(|known| known.will_wake(waker)) {
            paused.wakers.push(waker.clone());
        }
        true
    }

    /// Ends a process without mercy: its listeners are gone and its connections reset.
    pub(crate) fn kill(&self, name: &Name) {
        self.state.lock().listeners.retain(|_, listening| listening.owner != *name);
        self.sever(|wire| wire.touches(name));
        self.wake();
    }

    /// Loses a process with its machine: no byte comes or goes, and nobody is told.
    pub(crate) fn lose(&self, name: &Name) {
        self.state.lock().lost.insert(name.clone());
    }

    /// Takes an address back.
    pub(crate) fn unhost(&self, name: &Name) {
        self.state.lock().hosts.retain(|_, owner| owner != name);
    }

    fn link(&self, from: &Name, to: &Name) -> Link {
        self.state.lock().links.get(&(from.clone(), to.clone())).copied().unwrap_or_default()
    }

    fn delay(&self, from: &Name, to: &Name) -> Duration {
        self.link(from, to).lag + self.chance.between(0, DELAY_MS_MAX)
    }

    /// Whether bytes arrive now.
    fn is_open(&self, from: &Name, to: &Name) -> bool {
        let state = self.state.lock();
        // Most links are well most of the time, and bytes come often.
        if state.links.is_empty() && state.lost.is_empty() {
            return true;
        }
        let is_cut = |link: &Link| link.cuts > 0;
        let is_lost = state.lost.contains(from) || state.lost.contains(to);
        !is_lost && !state.links.get(&(from.clone(), to.clone())).is_some_and(is_cut)
    }

    fn sever(&self, concerned: impl Fn(&Wire) -> bool) {
        let wires: Vec<_> = self.state.lock().wires.iter().filter_map(Weak::upgrade).collect();
        for wire in wires {
            let mut wire = wire.lock();
            if concerned(&wire) {
                wire.reset();
            }
        }
    }

    fn wake(&self) {
        let mut state = self.state.lock();
        state.wires.retain(|wire| wire.strong_count() > 0);
        let wires: Vec<_> = state.wires.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        for wire in wires {
            wire.lock().wake();
        }
        self.changed.notify_waiters();
    }

    async fn connect(self, from: Name, own: IpAddr, address: SocketAddr) -> io::Result<BoxedIo> {
        loop {
            let changed = self.changed.notified();
            let owner = self.state.lock().hosts.get(&address.ip()).cloned();
            // Nobody answers for an address that nobody has; the caller has a timeout.
            let Some(to) = owner.filter(|to| self.is_open(&from, to) && self.is_open(to, &from))
            else {
                changed.await;
                continue;
            };
            drop(changed);
            sleep(self.delay(&from, &to) + self.delay(&to, &from)).await;
            let mut state = self.state.lock();
            let arrivals = state.listeners.get(&address).map(|there| there.arrivals.clone());
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let arrivals = arrivals.ok_or_else(refused)?;
            state.ports = state.ports.wrapping_add(1).max(1024);
            let source = SocketAddr::new(own, state.ports);
            let (near, far) = pipe::pair(&self, &from, &to);
            state.wires.extend([near.incoming(), far.incoming()]);
            drop(state);
            arrivals.send((far, source)).map_err(|_| refused())?;
            return Ok(Box::new(near));
        }
    }
}

impl Connect for Dialer {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>> {
        Box::pin(self.network.clone().connect(self.from.clone(), self.address, address))
    }

    fn lookup(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let found = self.network.state.lock().names.get(host).cloned();
        Box::pin(async move { found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)) })
    }
}

impl Accept for Listener {
    type Io = Pipe;

    async fn accept(&mut self) -> io::Result<(Pipe, SocketAddr)> {
        match self.arrivals.recv().await {
            Some(arrival) => Ok(arrival),
            // Killed: its owner ends, too.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn network() -> (Network, Name, Name) {
        (Network::new(Chance::new(1, 1)), "a".into(), "b".into())
    }

    #[tokio::test]
    async fn a_link_is_whole_when_its_last_cut_has_ended() {
        let (network, a, b) = network();
        network.cut(&a, &b);
        network.cut(&a, &b);
        network.heal(&a, &b);
        assert!(!network.is_open(&a, &b));
        network.heal(&a, &b);
        assert!(network.is_open(&a, &b));
    }

    #[test]
    fn a_lag_ends_alone() {
        let (network, a, b) = network();
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(1));
        network.lag(&a, &b, long);
        network.lag(&a, &b, short);
        network.quicken(&a, &b, long);
        assert_eq!(network.link(&a, &b).lag, short);
    }

    #[test]
    fn a_process_goes_on_when_its_last_stop_has_ended() {
        let (network, a, _) = network();
        network.pause(&a);
        network.pause(&a);
        network.resume(&a);
        assert!(network.is_paused(&a, Waker::noop()));
        network.resume(&a);
        assert!(!network.is_paused(&a, Waker::noop()));
    }
}
