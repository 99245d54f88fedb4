//! Which request goes to which pod: the decision core of one revision.
//!
//! Pure: generic over the waiter `W` (a channel in the shell, a number in tests) and the pod `P`.
//! Invariants, checked by property tests: a pod never has more in flight than the limit, no request
//! waits while a pod with a free slot accepts connections (the shell calls [`Dispatch::next`] until
//! it returns `None`), waiters are served in the order of arrival, and each gets exactly one
//! outcome.
//!
//! A backlog is not thrown at the first pod that is ready: a pod gets as many requests of the queue
//! at once as its window, which grows with each connection that it accepts.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::queue::{Overflow, Queue, QueueLimits, Ticket};

#[cfg(test)]
mod tests;

/// Queued requests that a pod is sent before it has accepted a connection. Small servers keep a
/// backlog of 5 (Python's `socketserver`), and a SYN that does not fit is sent again after 1 s.
const WINDOW_FIRST: u32 = 8;
/// Most requests of the queue on their way to one pod: below the backlog of common servers (511 in
/// Node.js, 2048 in uvicorn).
const WINDOW_MAX: u32 = 128;

/// UID of a pod: the only name of a pod that is never used again.
pub type PodUid = Arc<str>;

/// A claim on one unit of a pod; must be given back once with [`Dispatch::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is not released is lost for ever"]
pub struct Slot {
    at: usize,
    /// Whether it counts against the pod's window: its request waited, and has no connection yet.
    is_opening: bool,
}

impl Slot {
    /// Whether [`Dispatch::opened`] still has to be called for it.
    pub const fn is_opening(&self) -> bool {
        self.is_opening
    }
}

/// Queue and pods of one revision.
#[derive(Debug)]
pub struct Dispatch<W, P> {
    limit: Option<NonZeroU32>,
    queue: Queue<W>,
    /// Indexed by [`Slot`]; an entry is reused only when nothing is in flight there any more, so
    /// that a slot always means the pod that it was taken from.
    members: Vec<Option<Member<P>>>,
    /// Indices of the entries that can be used again.
    vacant: Vec<usize>,
    /// The members that are not gone.
    known: HashMap<PodUid, usize>,
    /// Indices of the members that get requests, in no order.
    open: Vec<usize>,
    /// The open members below the limit, the least loaded first and among equals the one that has
    /// been left alone for longest; empty without a limit.
    free: BTreeSet<(u32, u64, usize)>,
    /// Counts the changes of `free`.
    turns: u64,
}

#[derive(Debug)]
struct Member<P> {
    uid: PodUid,
    pod: P,
    ready: bool,
    drained: bool,
    gone: bool,
    in_flight: u32,
    /// Of these, the ones that count against the window.
    opening: u32,
    window: u32,
    /// Its index in `open`.
    place: Option<usize>,
    /// The second part of its key in `free`.
    turn: u64,
}

/// A pod as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodView<'a, P> {
    /// Its UID.
    pub uid: &'a PodUid,
    /// The shell's handle of it.
    pub pod: &'a P,
    /// Whether it can take requests.
    pub ready: bool,
    /// Whether it must not be given requests.
    pub drained: bool,
    /// Requests in flight there.
    pub in_flight: u32,
}

impl<W, P: Clone> Dispatch<W, P> {
    /// No pods and no waiting requests.
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limit: None,
            queue: Queue::new(limits),
            members: Vec::new(),
            vacant: Vec::new(),
            known: HashMap::new(),
            open: Vec::new(),
            free: BTreeSet::new(),
            turns: 0,
        }
    }

    /// Sets the hard limit of requests at once in one pod; `None` means no limit.
    pub fn set_limit(&mut self, limit: Option<NonZeroU32>) {
        self.limit = limit;
        self.free.clear();
        for at in self.open.clone() {
            self.offer(at);
        }
    }

    /// The place in the order of arrival of a request that arrives now.
    pub const fn ticket(&mut self) -> Ticket {
        self.queue.ticket()
    }

    /// A slot for a request that arrives now, unless it has to wait.
    pub fn start(&mut self, random: u64) -> Option<(Slot, P)> {
        // A new request never overtakes a queued one.
        if !self.queue.is_empty() {
            return None;
        }
        let at = match self.limit {
            None => self.less_loaded_of_two(random)?,
            Some(_) => self.free.first()?.2,
        };
        self.claim(at, false)
    }

    /// Lets a request wait.
    pub fn wait(&mut self, ticket: Ticket, waiter: W, bytes: usize) -> Result<(), Overflow> {
        self.queue.push(ticket, waiter, bytes)
    }

    /// Lets a request wait again at its old place: it was given a slot, and was not sent.
    pub fn wait_again(&mut self, ticket: Ticket, waiter: W, bytes: usize) {
        self.queue.push_back(ticket, waiter, bytes);
    }

    /// Takes a waiting request out; false when it does not wait (any more).
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.queue.cancel(ticket)
    }

    /// The next waiting request and its slot, if there is a free one.
    pub fn next(&mut self, random: u64) -> Option<(W, Slot, P)> {
        if self.queue.is_empty() {
            return None;
        }
        let at = self.willing(random)?;
        let (_, waiter) = self.queue.pop()?;
        let (slot, pod) = self.claim(at, true)?;
        Some((waiter, slot, pod))
    }

    /// Takes the longest waiting request out without a pod, to be refused.
    pub fn refuse(&mut self) -> Option<W> {
        self.queue.pop().map(|(_, waiter)| waiter)
    }

    /// The request of a slot has its connection. True when the pod can now be sent more queued
    /// requests.
    pub fn opened(&mut self, slot: &mut Slot) -> bool {
        if !std::mem::take(&mut slot.is_opening) {
            return false;
        }
        if let Some(member) = self.members.get_mut(slot.at).and_then(Option::as_mut) {
            member.opening = member.opening.saturating_sub(1);
            member.window = (member.window + 1).min(WINDOW_MAX);
        }
        true
    }

    /// Gives a slot back.
    #[expect(clippy::needless_pass_by_value, reason = "a slot can be given back only once")]
    pub fn release(&mut self, slot: Slot) {
        let Slot { at, is_opening } = slot;
        self.withdraw(at);
        let Some(member) = self.members.get_mut(at).and_then(Option::as_mut) else {
            return;
        };
        member.in_flight = member.in_flight.saturating_sub(1);
        member.opening = member.opening.saturating_sub(u32::from(is_opening));
        if member.gone && member.in_flight == 0 {
            self.members[at] = None;
            self.vacant.push(at);
        } else {
            self.offer(at);
        }
    }

    /// Adds a pod, or updates whether it can take requests.
    pub fn set_pod(&mut self, uid: &PodUid, pod: P, ready: bool, drained: bool) {
        if let Some(at) = self.known.get(uid).copied() {
            if let Some(member) = self.members[at].as_mut() {
                member.pod = pod;
                if ready && !member.ready {
                    // It has started anew, or was out of reach.
                    member.window = WINDOW_FIRST;
                }
                member.ready = ready;
                member.drained = drained;
            }
            self.reopen(at);
            return;
        }
        let member = Member {
            uid: Arc::clone(uid),
            pod,
            ready,
            drained,
            gone: false,
            in_flight: 0,
            opening: 0,
            window: WINDOW_FIRST,
            place: None,
            turn: 0,
        };
        let at = self.vacant.pop().unwrap_or(self.members.len());
        if at == self.members.len() {
            self.members.push(None);
        }
        self.members[at] = Some(member);
        self.known.insert(Arc::clone(uid), at);
        self.reopen(at);
    }

    /// Forgets a pod. Its requests in flight go on, and their slots are given back as usual.
    pub fn remove_pod(&mut self, uid: &str) {
        let Some(at) = self.known.remove(uid) else {
            return;
        };
        if let Some(member) = self.members[at].as_mut() {
            member.gone = true;
        }
        self.reopen(at);
        if self.in_flight(at) == 0 {
            self.members[at] = None;
            self.vacant.push(at);
        }
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether any pod, even a full one, can take requests at all.
    pub const fn has_open_pod(&self) -> bool {
        !self.open.is_empty()
    }

    /// How many pods can take requests at all.
    pub const fn open_pods(&self) -> usize {
        self.open.len()
    }

    /// The pods that are not gone.
    pub fn pods(&self) -> impl Iterator<Item = PodView<'_, P>> {
        self.members.iter().flatten().filter(|member| !member.gone).map(|member| PodView {
            uid: &member.uid,
            pod: &member.pod,
            ready: member.ready,
            drained: member.drained,
            in_flight: member.in_flight,
        })
    }

    /// Puts a member into `open` and `free`, or takes it out, as it stands now.
    fn reopen(&mut self, at: usize) {
        self.withdraw(at);
        let Some(member) = self.members[at].as_mut() else {
            return;
        };
        let is_open = member.ready && !member.drained && !member.gone;
        match member.place {
            None if is_open => {
                member.place = Some(self.open.len());
                self.open.push(at);
            }
            Some(place) if !is_open => {
                member.place = None;
                self.open.swap_remove(place);
                if let Some(moved) = self.open.get(place).copied()
                    && let Some(member) = self.members[moved].as_mut()
                {
                    member.place = Some(place);
                }
            }
            None | Some(_) => {}
        }
        self.offer(at);
    }

    /// Takes a member out of `free` before its load changes.
    fn withdraw(&mut self, at: usize) {
        if let Some(member) = self.members.get(at).and_then(Option::as_ref) {
            self.free.remove(&(member.in_flight, member.turn, at));
        }
    }

    /// Puts a member into `free` if it belongs there.
    fn offer(&mut self, at: usize) {
        let Some(limit) = self.limit else {
            return;
        };
        if let Some(member) = self.members[at].as_mut()
            && member.place.is_some()
            && member.in_flight < limit.get()
        {
            self.turns += 1;
            member.turn = self.turns;
            self.free.insert((member.in_flight, member.turn, at));
        }
    }

    fn claim(&mut self, at: usize, is_opening: bool) -> Option<(Slot, P)> {
        self.withdraw(at);
        let member = self.members[at].as_mut()?;
        member.in_flight += 1;
        member.opening += u32::from(is_opening);
        let pod = member.pod.clone();
        self.offer(at);
        Some((Slot { at, is_opening }, pod))
    }

    /// A pod for the next queued request: below its limit, and within its window.
    fn willing(&self, random: u64) -> Option<usize> {
        if self.limit.is_some() {
            return self.free.iter().map(|(_, _, at)| *at).find(|at| self.accepts(*at));
        }
        self.less_loaded_of_two(random).filter(|at| self.accepts(*at)).or_else(|| {
            let accepting = self.open.iter().copied().filter(|at| self.accepts(*at));
            accepting.min_by_key(|at| self.in_flight(*at))
        })
    }

    /// Whether the window of a pod has room.
    fn accepts(&self, at: usize) -> bool {
        self.members[at].as_ref().is_some_and(|member| member.opening < member.window)
    }

    fn in_flight(&self, at: usize) -> u32 {
        self.members[at].as_ref().map_or(u32::MAX, |member| member.in_flight)
    }

    /// Power of two choices: as good as least loaded when load is not the only difference between
    /// pods, at a cost that does not grow with their number.
    fn less_loaded_of_two(&self, random: u64) -> Option<usize> {
        let count = self.open.len();
        match count {
            0 => None,
            1 => Some(self.open[0]),
            _ => {
                let [first, second] = two_of(count, random);
                let (first, second) = (self.open[first], self.open[second]);
                Some(if self.in_flight(second) < self.in_flight(first) { second } else { first })
            }
        }
    }
}

/// An index below `count`, if there is any.
fn index_below(count: usize, random: u64) -> Option<usize> {
    let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
    usize::try_from(random % count).ok()
}

/// Two different indices below `count`, which is at least two; each half of `random` picks one.
fn two_of(count: usize, random: u64) -> [usize; 2] {
    let first = index_below(count, random >> 32).unwrap_or(0);
    let step = index_below(count - 1, random & 0xffff_ffff).unwrap_or(0);
    [first, (first + 1 + step) % count]
}
