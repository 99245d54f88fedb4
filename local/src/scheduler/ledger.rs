//! Who holds what of this machine, and who waits for it: pure.
//!
//! Invariants: no device has two holders; a pod is placed only if all that it needs is free; one that
//! waits is overtaken only by pods that leave it what it needs, or that go before it: those of a higher
//! priority, and of models that have no replica yet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ebb_api::pod::{Amounts, MEMORY, Shortage, WAITING_FOR_ROOM, insufficient};
use ebb_runner::devices::Devices;

use self::slumber::Slumber;
use super::capacity::Capacity;

mod lasting;
mod slumber;

/// Most models whose memory is remembered; beyond it the first by name are forgotten.
const MODELS_MAX: usize = 1000;
/// Kubernetes' reason of a pod that no node will take as things are.
const UNSCHEDULABLE: &str = "Unschedulable";

/// A pod that needs room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    /// Namespace and name.
    pub(super) name: String,
    /// `None` before it is made.
    pub(super) uid: Option<String>,
    /// What it is a replica of: others of it need about as much memory.
    pub(super) model: Option<String>,
    /// What it asks for, or holds.
    pub(super) amounts: Amounts,
    pub(super) priority: i16,
    /// How many replicas its model never has less of.
    pub(super) min_scale: u32,
    /// Whether its model sleeps in it, and holds less than it will need when it wakes.
    pub(super) is_asleep: bool,
    /// Whether it is about to end.
    pub(super) is_ending: bool,
}

/// A pod that has room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) ask: Ask,
    pub(super) devices: Devices,
}

/// What to tell of a pod that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) ask: Ask,
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Whether nothing was told of this pod before.
    pub(super) is_first: bool,
}

#[derive(Debug)]
struct Queued {
    ask: Ask,
    /// The order of arrival.
    number: u64,
    told: Option<String>,
}

/// All pods of this machine.
#[derive(Debug)]
pub(super) struct Ledger {
    capacity: Capacity,
    held: BTreeMap<String, Holding>,
    queue: Vec<Queued>,
    arrivals: u64,
    /// Bytes that the latest replica of a model had at the most.
    measured: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Holding {
    placed: Placed,
    /// Whether the watch has shown the pod: one that is being made is in no list yet.
    is_seen: bool,
    /// The most memory that it has had.
    peak: u64,
    slumber: Slumber,
    /// Whether it was ever measured with its model loaded.
    is_measured: bool,
}

/// What is left of each resource.
type Left = BTreeMap<String, u64>;

// === impl Ledger ===

impl Ledger {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            held: BTreeMap::new(),
            queue: Vec::new(),
            arrivals: 0,
            measured: BTreeMap::new(),
        }
    }

    /// Places a pod if there is room beside what those need who wait and go before it.
    pub(super) fn place(&mut self, ask: &Ask) -> Option<Placed> {
        let needed = self.needed(ask);
        let mut left = Left::new();
        let running = self.running();
        for index in self.ordered() {
            let queued = &self.queue[index];
            if rank(&queued.ask, &running) <= rank(ask, &running) {
                self.reserve(&self.needed(&queued.ask), &mut left);
            }
        }
        self.fits(&needed, &left).then(|| self.settle(ask.clone(), &needed)).flatten()
    }

    /// Takes in a pod that waits.
    pub(super) fn queue(&mut self, ask: Ask) {
        if self.held.contains_key(&ask.name) {
            // The watch is behind: it has been placed meanwhile.
            return;
        }
        if self.queue.iter().all(|queued| queued.ask.name != ask.name) {
            self.arrivals += 1;
            self.queue.push(Queued { ask, number: self.arrivals, told: None });
        }
    }

    /// Takes in a pod that has a node: what it holds now. While that is not `is_measured`, what it had
    /// before, or an earlier replica, is kept free for it.
    pub(super) fn follow(&mut self, mut placed: Placed, is_measured: bool) {
        self.queue.retain(|queued| queued.ask.name != placed.ask.name);
        let known = self.held.remove(&placed.ask.name);
        let slumber = known.as_ref().map(|known| known.slumber).unwrap_or_default();
        let now = placed.ask.amounts.of(MEMORY);
        let peak = known.as_ref().map_or(now, |known| known.peak.max(now));
        let was_measured = known.as_ref().is_some_and(|known| known.is_measured);
        // One that loads, for the first time or after its container ended, has a part of what it will
        // have.
        if let Some(known) = known.filter(|_| !is_measured && !placed.ask.is_asleep) {
            placed.ask.amounts.raise(&known.placed.ask.amounts);
        }
        let is_measured = is_measured || was_measured;
        let name = placed.ask.name.clone();
        let slumber = slumber.next(placed.ask.amounts.of(MEMORY), placed.ask.is_asleep);
        placed.ask.amounts.raise(&Amounts([(MEMORY.to_owned(), slumber.counted())].into()));
        self.held.insert(name, Holding { placed, is_seen: true, peak, slumber, is_measured });
    }

    /// Takes note that a pod is gone.
    pub(super) fn release(&mut self, name: &str) {
        self.queue.retain(|queued| queued.ask.name != name);
        let Some(holding) = self.held.remove(name) else { return };
        let Holding { placed, peak, is_measured, .. } = holding;
        if let Some(model) = placed.ask.model.filter(|_| peak > 0) {
            // One that ended while it loaded says only that there is no less.
            let known = self.measured.get(&model).copied().filter(|_| !is_measured);
            self.measured.insert(model, known.map_or(peak, |known| known.max(peak)));
            if self.measured.len() > MODELS_MAX {
                self.measured.pop_first();
            }
        }
    }

    /// The pods whose models sleep and could not wake: others have the room that they gave up. The
    /// largest goes first, and only as many as it takes for the rest to wake one at a time.
    pub(super) fn crowded(&self) -> Vec<Ask> {
        if self.capacity.memory.is_none() {
            return Vec::new();
        }
        // What ends is free in a moment: others need not go for it.
        let ending = self.held.values().filter(|it| it.placed.ask.is_ending);
        let ending = ending.map(|it| it.placed.ask.amounts.of(MEMORY));
        let mut free = ending.fold(self.free(MEMORY), u64::saturating_add);
        let mut asleep: Vec<_> = self
            .held
            .values()
            .filter(|it| it.placed.ask.is_asleep && !it.placed.ask.is_ending)
            .filter(|it| it.placed.ask.uid.is_some())
            // Requests wait for one that wakes.
            .filter(|it| !it.slumber.is_waking)
            .map(|it| (it.slumber.awake, it.placed.ask.amounts.of(MEMORY), &it.placed.ask))
            .collect();
        asleep.sort_by_key(|(awake, now, ask)| (Reverse(awake.saturating_sub(*now)), &ask.name));
        let mut crowded = Vec::new();
        for (awake, now, ask) in asleep {
            if awake.saturating_sub(now) > free {
                free = free.saturating_add(now);
                crowded.push(ask.clone());
            }
        }
        crowded
    }

    /// Forgets all pods but these, as after a new list.
    pub(super) fn keep_only(&mut self, listed: &BTreeSet<String>) {
        let gone = |(name, holding): (&String, &Holding)| {
            (holding.is_seen && !listed.contains(name)).then(|| name.clone())
        };
        let gone: Vec<_> = self.held.iter().filter_map(gone).collect();
        for name in gone {
            self.release(&name);
        }
        self.queue.retain(|queued| listed.contains(&queued.ask.name));
    }

    /// Places the next pod that waits, if its turn has come.
    pub(super) fn next(&mut self) -> Option<Placed> {
        let mut left = Left::new();
        for index in self.ordered() {
            let ask = self.queue[index].ask.clone();
            let needed = self.needed(&ask);
            if self.fits(&needed, &left)
                && let Some(placed) = self.settle(ask, &needed)
            {
                self.queue.remove(index);
                return Some(placed);
            }
            self.reserve(&needed, &mut left);
        }
        None
    }

    /// The places of the queue in the order in which they have their turn.
    fn ordered(&self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.queue.len()).collect();
        let running = self.running();
        order.sort_by_key(|index| {
            let queued = &self.queue[*index];
            (rank(&queued.ask, &running), queued.number)
        });
        order
    }

    /// The models that have a replica.
    fn running(&self) -> BTreeSet<&str> {
        self.held.values().filter_map(|it| it.placed.ask.model.as_deref()).collect()
    }

    /// Whether all that is needed is left.
    fn fits(&self, needed: &Amounts, left: &Left) -> bool {
        needed
            .0
            .iter()
            .all(|(it, amount)| left.get(it).copied().unwrap_or_else(|| self.free(it)) >= *amount)
    }

    /// Takes what a pod that waits needs out of what is left for those after it; nothing for one that
    /// cannot be placed whatever of the others goes.
    fn reserve(&self, needed: &Amounts, left: &mut Left) {
        if !self.is_within_reach(needed) {
            return;
        }
        for (resource, amount) in &needed.0 {
            let free = left.entry(resource.clone()).or_insert_with(|| self.free(resource));
            *free = free.saturating_sub(*amount);
        }
    }

    /// Takes back a place that could not be written: the pod is the next again.
    pub(super) fn put_back(&mut self, placed: &Placed) {
        self.held.remove(&placed.ask.name);
        self.queue.insert(0, Queued { ask: placed.ask.clone(), number: 0, told: None });
    }

    /// What is new to tell of those that wait. Each is told how much it lacks if those before it get
    /// what they need.
    pub(super) fn verdicts(&mut self) -> Vec<Verdict> {
        let mut left = Left::new();
        let mut verdicts = Vec::new();
        for index in self.ordered() {
            let needed = self.needed(&self.queue[index].ask);
            let (reason, message) = match self.lasting(&needed) {
                Some(message) => (UNSCHEDULABLE, message),
                None if self.is_within_reach(&needed) => {
                    (WAITING_FOR_ROOM, self.lacking(&needed, &mut left))
                }
                None => (WAITING_FOR_ROOM, self.lacking(&needed, &mut left.clone())),
            };
            let queued = &mut self.queue[index];
            let is_first = queued.told.is_none();
            if queued.told.as_ref() != Some(&message) {
                queued.told = Some(message.clone());
                verdicts.push(Verdict { ask: queued.ask.clone(), reason, message, is_first });
            }
        }
        verdicts
    }

    /// Lets the verdict about a pod count as not told.
    pub(super) fn forget_told(&mut self, name: &str) {
        if let Some(queued) = self.queue.iter_mut().find(|queued| queued.ask.name == name) {
            queued.told = None;
        }
    }

    /// What a pod needs: what it asks for, and the memory that a replica like it had.
    fn needed(&self, ask: &Ask) -> Amounts {
        let mut needed = ask.amounts.clone();
        let measured = ask.model.as_ref().and_then(|model| self.measured.get(model)).copied();
        if let Some(measured) = measured {
            // What was more than there is ran all the same.
            let most = measured.min(self.capacity.memory.unwrap_or(u64::MAX));
            needed.raise(&Amounts([(MEMORY.to_owned(), most)].into()));
        }
        if self.capacity.memory.is_none() {
            needed.0.remove(MEMORY);
        }
        needed
    }

    /// What is lacking of that much, and what is left `free` after it. Something is: what fits is
    /// placed before anything is told.
    fn lacking(&self, needed: &Amounts, free: &mut Left) -> String {
        let mut shortages = Vec::new();
        for (resource, amount) in &needed.0 {
            let left = free.entry(resource.clone()).or_insert_with(|| self.free(resource));
            let lack = amount.saturating_sub(*left);
            *left = left.saturating_sub(*amount);
            if lack > 0 {
                shortages.push(Shortage { resource: resource.clone(), lack: Some(lack) });
            }
        }
        insufficient(&shortages)
    }

    /// Gives a pod what it needs, if all of it is free.
    fn settle(&mut self, mut ask: Ask, needed: &Amounts) -> Option<Placed> {
        if needed.0.iter().any(|(resource, amount)| self.free(resource) < *amount) {
            return None;
        }
        let mut devices = Devices::default();
        for (resource, amount) in needed.0.iter().filter(|(resource, _)| *resource != MEMORY) {
            let taken = self.held.values().flat_map(|it| it.placed.devices.of(resource));
            let taken: BTreeSet<u64> = taken.copied().collect();
            let free = (0..self.capacity(resource)).filter(|index| !taken.contains(index));
            let count = usize::try_from(*amount).unwrap_or(usize::MAX);
            devices.0.insert(resource.clone(), free.take(count).collect());
        }
        ask.amounts = needed.clone();
        let placed = Placed { ask, devices };
        let is_seen = placed.ask.uid.is_some();
        let slumber = Slumber::default().next(placed.ask.amounts.of(MEMORY), false);
        let holding =
            Holding { placed: placed.clone(), is_seen, peak: 0, slumber, is_measured: false };
        self.held.insert(placed.ask.name.clone(), holding);
        Some(placed)
    }

    fn free(&self, resource: &str) -> u64 {
        let held = self.held.values().map(|it| it.placed.ask.amounts.of(resource));
        self.capacity(resource).saturating_sub(held.fold(0, u64::saturating_add))
    }
}

/// Who goes first: the higher priority, and a model without a replica before more replicas of one that
/// is `running`.
fn rank(ask: &Ask, running: &BTreeSet<&str>) -> (Reverse<i16>, bool) {
    let is_extra = ask.model.as_deref().is_some_and(|model| running.contains(model));
    (Reverse(ask.priority), is_extra)
}

#[cfg(test)]
mod tests;
