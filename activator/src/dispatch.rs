//! Which request goes to which pod: the decision core of one revision.
//!
//! Pure: generic over the waiter `W` (a channel in the shell, a number in tests) and the pod `P`.
//! Invariants, checked by property tests: a pod never has more in flight than the limit, nobody
//! waits while a slot is free (the shell calls [`Dispatch::next`] until it has nothing), waiters
//! are served in the order of arrival, and each gets exactly one outcome.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::queue::{Overflow, Queue, QueueLimits, Ticket};

#[cfg(test)]
mod tests;

/// UID of a pod: the only name of a pod that is never used again.
pub type PodUid = Arc<str>;

/// A claim on one unit of a pod; must be given back once with [`Dispatch::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is not released is lost for ever"]
pub struct Slot(usize);

/// Queue and pods of one revision.
#[derive(Debug)]
pub struct Dispatch<W, P> {
    limit: Option<NonZeroU32>,
    queue: Queue<W>,
    /// Indexed by [`Slot`]; an entry is reused only when nothing is in flight there any more, so
    /// that a slot always means the pod that it was taken from.
    members: Vec<Option<Member<P>>>,
    /// Indices of the members that get requests.
    open: Vec<usize>,
}

#[derive(Debug)]
struct Member<P> {
    uid: PodUid,
    pod: P,
    ready: bool,
    drained: bool,
    gone: bool,
    in_flight: u32,
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
    /// Whether it must not be given any.
    pub drained: bool,
    /// Requests in flight there.
    pub in_flight: u32,
}

impl<W, P: Clone> Dispatch<W, P> {
    /// No pods, nobody waiting.
    pub const fn new(limits: QueueLimits) -> Self {
        Self { limit: None, queue: Queue::new(limits), members: Vec::new(), open: Vec::new() }
    }

    /// Sets the hard limit of requests at once in one pod; none means no limit.
    pub const fn set_limit(&mut self, limit: Option<NonZeroU32>) {
        self.limit = limit;
    }

    /// The place in the order of arrival of a request that arrives now.
    pub const fn ticket(&mut self) -> Ticket {
        self.queue.ticket()
    }

    /// A slot for a request that arrives now, unless it has to wait.
    pub fn start(&mut self, random: u64) -> Option<(Slot, P)> {
        // Who arrives does not pass who waits.
        if self.queue.is_empty() { self.claim(random) } else { None }
    }

    /// Lets a request wait.
    pub fn wait(&mut self, ticket: Ticket, waiter: W, bytes: usize) -> Result<(), Overflow> {
        self.queue.push(ticket, waiter, bytes)
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
        let (slot, pod) = self.claim(random)?;
        if let Some((_, waiter)) = self.queue.pop() {
            Some((waiter, slot, pod))
        } else {
            self.release(slot);
            None
        }
    }

    /// Takes the longest waiting request out without a pod, to be refused.
    pub fn refuse(&mut self) -> Option<W> {
        self.queue.pop().map(|(_, waiter)| waiter)
    }

    /// Gives a slot back.
    #[expect(clippy::needless_pass_by_value, reason = "a slot can be given back only once")]
    pub fn release(&mut self, slot: Slot) {
        let Slot(at) = slot;
        if let Some(member) = self.members.get_mut(at).and_then(Option::as_mut) {
            member.in_flight = member.in_flight.saturating_sub(1);
            if member.gone && member.in_flight == 0 {
                self.members[at] = None;
            }
        }
    }

    /// Adds a pod, or says anew whether it can take requests.
    pub fn set_pod(&mut self, uid: &PodUid, pod: P, ready: bool, drained: bool) {
        if let Some(member) = self.member(uid) {
            member.pod = pod;
            member.ready = ready;
            member.drained = drained;
        } else {
            let uid = Arc::clone(uid);
            let member = Member { uid, pod, ready, drained, gone: false, in_flight: 0 };
            match self.members.iter().position(Option::is_none) {
                Some(free) => self.members[free] = Some(member),
                None => self.members.push(Some(member)),
            }
        }
        self.reopen();
    }

    /// Forgets a pod. What is in flight there goes on and is given back as usual.
    pub fn remove_pod(&mut self, uid: &str) {
        for entry in &mut self.members {
            if let Some(member) = entry.as_mut().filter(|m| !m.gone && &*m.uid == uid) {
                member.gone = true;
                if member.in_flight == 0 {
                    *entry = None;
                }
            }
        }
        self.reopen();
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether any pod can take requests at all, be it full.
    pub const fn has_open_pod(&self) -> bool {
        !self.open.is_empty()
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

    fn member(&mut self, uid: &str) -> Option<&mut Member<P>> {
        self.members.iter_mut().flatten().find(|m| !m.gone && &*m.uid == uid)
    }

    fn reopen(&mut self) {
        self.open.clear();
        self.open.extend(self.members.iter().enumerate().filter_map(|(at, entry)| {
            let member = entry.as_ref()?;
            (member.ready && !member.drained && !member.gone).then_some(at)
        }));
    }

    fn claim(&mut self, random: u64) -> Option<(Slot, P)> {
        let at = match self.limit {
            None => self.less_loaded_of_two(random)?,
            Some(limit) => self.least_loaded(limit.get(), random)?,
        };
        let member = self.members[at].as_mut()?;
        member.in_flight += 1;
        Some((Slot(at), member.pod.clone()))
    }

    fn in_flight(&self, at: usize) -> u32 {
        self.members[at].as_ref().map_or(u32::MAX, |member| member.in_flight)
    }

    /// Power of two choices: as good as least loaded when load is not the only difference between
    /// pods, and constant in their number.
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

    /// Starts at a random pod, so that equals share.
    fn least_loaded(&self, limit: u32, random: u64) -> Option<usize> {
        let count = self.open.len();
        let start = index_below(count, random)?;
        (0..count)
            .map(|step| self.open[(start + step) % count])
            .filter(|at| self.in_flight(*at) < limit)
            .min_by_key(|at| self.in_flight(*at))
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
