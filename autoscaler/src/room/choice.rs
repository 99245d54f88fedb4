//! Which replicas go for one claim: the node where that costs least, and there the least valuable.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::pod::Amounts;
use ebb_api::report::RevisionKey;
use tokio::time::Instant;

use super::scene::{Holder, Need, RoomScene};

/// A claim, and the rules.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub(super) needs: &'a [Need],
    pub(super) priority: i16,
    pub(super) revision: &'a RevisionKey,
    /// Whether replicas in use may go as well, after their last request.
    pub(super) may_use: bool,
    /// A replica stays this long at least.
    pub(super) residency: Duration,
    /// One in use stays this long at least.
    pub(super) turn: Duration,
    /// Pods that go already.
    pub(super) taken: &'a BTreeSet<Arc<str>>,
}

/// The pods that go.
#[derive(Debug, PartialEq)]
pub(super) struct Chosen {
    pub(super) pods: Vec<(Arc<RevisionKey>, Arc<str>)>,
    /// The value of the most valuable of them.
    pub(super) worth: f64,
}

/// A pod that could go.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    holder: &'a Holder<'a>,
    is_used: bool,
    priority: i16,
    worth: f64,
    used: Option<Instant>,
}

// === impl Candidate ===

impl Candidate<'_> {
    /// What goes first comes first.
    fn compare(&self, other: &Self) -> Ordering {
        // One that sleeps goes before those that would answer at once.
        let key = |it: &Self| (it.priority, it.is_used, !it.holder.is_asleep);
        key(self)
            .cmp(&key(other))
            .then(self.worth.total_cmp(&other.worth))
            .then(self.used.cmp(&other.used))
            .then(self.holder.uid.cmp(other.holder.uid))
    }
}

/// The pods to let go: of each node as many of the least valuable as the claim needs, on the node where
/// they are worth least. `None` if no node has enough.
pub(super) fn choose(choice: &Choice<'_>, scene: &RoomScene<'_>) -> Option<Chosen> {
    let mut by_node: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
    for candidate in candidates(choice, scene) {
        by_node.entry(candidate.holder.node).or_default().push(candidate);
    }
    let spare = spare(choice, scene);
    let chosen =
        by_node.into_values().filter_map(|candidates| enough(choice, candidates, spare.clone()));
    let best = chosen.min_by(|a, b| cost(a).partial_cmp(&cost(b)).unwrap_or(Ordering::Equal))?;
    Some(Chosen {
        worth: best.iter().map(|it| it.worth).fold(0.0, f64::max),
        pods: best
            .iter()
            .map(|it| (Arc::clone(&it.holder.revision), Arc::clone(it.holder.uid)))
            .collect(),
    })
}

/// Whether the claim would be served if all that it may ever take were let go on one node.
pub(super) fn could_ever(choice: &Choice<'_>, scene: &RoomScene<'_>) -> bool {
    let mut sums: BTreeMap<&str, Amounts> = BTreeMap::new();
    for holder in &scene.holders {
        let tenant = scene.tenants.get(&holder.revision);
        let may_go = tenant.is_some_and(|it| it.priority <= choice.priority && it.floor == 0);
        if (may_go || holder.is_ending) && *holder.revision != *choice.revision {
            sums.entry(holder.node).or_default().add(holder.amounts);
        }
    }
    let is_enough = |sum: &Amounts| choice.needs.iter().all(|it| sum.of(&it.resource) >= it.amount);
    sums.values().any(is_enough)
}

fn candidates<'a>(
    choice: &'a Choice<'_>,
    scene: &'a RoomScene<'_>,
) -> impl Iterator<Item = Candidate<'a>> {
    scene.holders.iter().filter_map(|holder| {
        let tenant = scene.tenants.get(&holder.revision)?;
        let resident = holder.ready_for?;
        let held = choice.needs.iter().find(|need| holder.amounts.of(&need.resource) > 0)?;
        let is_used = !holder.is_idle || tenant.is_pressed;
        let stays = if is_used {
            tenant.turn(choice.turn).max(choice.residency)
        } else {
            tenant.residency(choice.residency)
        };
        let may_go = !holder.is_ending
            && !choice.taken.contains(holder.uid)
            && *holder.revision != *choice.revision
            && tenant.priority <= choice.priority
            && resident >= stays
            && (choice.may_use || !is_used);
        may_go.then(|| Candidate {
            holder,
            is_used,
            priority: tenant.priority,
            worth: tenant.worth(&held.resource, holder.amounts.of(&held.resource)),
            used: tenant.used,
        })
    })
}

/// How many replicas each revision may let go.
fn spare<'a>(choice: &Choice<'_>, scene: &'a RoomScene<'_>) -> BTreeMap<&'a RevisionKey, u32> {
    let tenants = scene.tenants.iter();
    let mut spare: BTreeMap<&RevisionKey, u32> = tenants
        .map(|(revision, tenant)| (&**revision, tenant.scale.saturating_sub(tenant.floor)))
        .collect();
    for going in scene.holders.iter().filter(|holder| choice.taken.contains(holder.uid)) {
        if let Some(spare) = spare.get_mut(&*going.revision) {
            *spare = spare.saturating_sub(1);
        }
    }
    spare
}

/// As many of the candidates as are enough, the least valuable first, and then none that is not needed.
/// No revision goes below its floor.
fn enough<'a>(
    choice: &Choice<'_>,
    mut candidates: Vec<Candidate<'a>>,
    mut spare: BTreeMap<&RevisionKey, u32>,
) -> Option<Vec<Candidate<'a>>> {
    candidates.sort_by(Candidate::compare);
    let mut chosen: Vec<Candidate<'a>> = Vec::new();
    for candidate in candidates {
        if covers(choice, &chosen) {
            break;
        }
        let Some(spare) = spare.get_mut(&*candidate.holder.revision).filter(|spare| **spare > 0)
        else {
            continue;
        };
        *spare -= 1;
        chosen.push(candidate);
    }
    if !covers(choice, &chosen) {
        return None;
    }
    // The large one that came last may have made a small one needless.
    for index in (0..chosen.len()).rev() {
        let one = chosen.remove(index);
        if !covers(choice, &chosen) {
            chosen.insert(index, one);
        }
    }
    Some(chosen)
}

fn covers(choice: &Choice<'_>, chosen: &[Candidate<'_>]) -> bool {
    choice.needs.iter().all(|need| {
        let held = chosen.iter().map(|it| it.holder.amounts.of(&need.resource));
        held.fold(0, u64::saturating_add) >= need.amount
    })
}

/// The cost of letting them go: replicas of a high priority, or in use, before all value.
fn cost(chosen: &[Candidate<'_>]) -> (i16, bool, f64) {
    let priority = chosen.iter().map(|it| it.priority).max().unwrap_or(i16::MIN);
    let worth = chosen.iter().map(|it| it.worth).sum();
    (priority, chosen.iter().any(|it| it.is_used), worth)
}
