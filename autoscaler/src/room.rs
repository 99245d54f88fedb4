//! Room for pods that find none: which replicas are let go for them.
//!
//! A pod that no node takes for want of memory, or of a device such as a GPU, makes a *claim*. Claims
//! are served in the order of their priorities and their arrival, those of models that have no pod on a
//! node first. What is let go for a claim is chosen in `choice.rs`: idle replicas, the least valuable ones,
//! none that is younger than the residency. A claim of a model that has waited for a whole turn may take
//! a replica that is in use: that one gets no new request, and goes when its last request has ended.
//!
//! The revisions that let go are held down until the claim is served, or else the next request for one
//! of them would take the room that was made. A revision is held down for `HELD_FOR` at the most once its
//! pods are gone, and a pod that does not go is given up after `DRAIN_MAX`. A claim for which replicas
//! went in vain waits before others go for it.
//!
//! Value is Greedy-Dual's (N. Young, "The k-server dual and loose competitiveness for paging", 1994; P.
//! Cao and S. Irani, "Cost-aware WWW proxy caching algorithms", 1997): at each use a model is worth the
//! clock and its start time for each unit of what it holds; what goes sets the clock to its value. So
//! the least recently used goes first among equals, a model that starts slowly stays longer, and a large
//! one goes sooner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::config::AutoscalerConfig;
use ebb_api::report::RevisionKey;
use tokio::time::Instant;

use self::choice::{Choice, choose, could_ever};
pub use self::scene::{Holder, Need, RoomScene, Tenant, Waiting};

mod choice;
mod scene;

/// How long after the room was made a claim may take to be served, where the scheduler does not say how
/// much is lacking. Kubernetes' scheduler tries a pod again within ten seconds at the most
/// (`podMaxBackoffSeconds`).
const SETTLE: Duration = Duration::from_secs(12);
/// The same where it says so: the words are new within some milliseconds.
const SETTLE_TOLD: Duration = Duration::from_secs(1);
/// How long a revision whose replicas are gone is held down for a claim that is not served: a scheduler
/// that has given the room away must not keep a model asleep.
const HELD_FOR: Duration = Duration::from_secs(30);
/// How long a pod may take to go: a stream that never ends would keep its revision from all other
/// requests, and the claim from pods that become idle meanwhile.
const DRAIN_MAX: Duration = Duration::from_mins(2);
/// How long a claim waits after replicas went for it in vain; doubled each time.
const RETRY_AFTER: Duration = Duration::from_mins(1);
/// Most doublings of it: half an hour.
const RETRIES_MAX: u32 = 5;
/// Most claims that are served at once: beyond it a cluster is too small by hundreds of pods, and the
/// first ones matter.
const CLAIMS_MAX: usize = 256;

/// What a revision lets go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cession {
    /// Most replicas that it has meanwhile.
    pub cap: u32,
    /// The pods that go first.
    pub pods: BTreeSet<Arc<str>>,
}

/// The claims there are, and what was let go for them.
#[derive(Debug, Default)]
pub struct Room {
    /// The value of what was let go last.
    clock: f64,
    /// How many claims there have been.
    count: u64,
    claims: BTreeMap<Arc<str>, Claim>,
    grants: Vec<Grant>,
    /// How many replicas were let go.
    let_go: u64,
}

#[derive(Debug)]
struct Claim {
    /// The order of arrival.
    number: u64,
    since: Instant,
    /// When room was last being made for it.
    served: Option<Instant>,
    /// How often replicas went in vain, and until when no more do.
    failures: u32,
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Grant {
    claim: Arc<str>,
    revision: Arc<RevisionKey>,
    cession: Cession,
    since: Instant,
    /// Since when all its pods are gone.
    gone: Option<Instant>,
}

/// What one node will have free, by resource, once the pods that end have ended.
type Freeing = BTreeMap<String, BTreeMap<String, u64>>;

// === impl Room ===

impl Room {
    /// Whether nobody waits, and nobody is held down.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.grants.is_empty()
    }

    /// How many replicas were let go so far.
    pub fn let_go(&self) -> u64 {
        self.let_go
    }

    /// The value of what was let go last, from which a model that is used now starts.
    pub fn clock(&self) -> f64 {
        self.clock
    }

    /// Whether something may change within a moment: room is being made, or a claim is new.
    pub fn is_busy(&self, now: Instant) -> bool {
        let is_new = |claim: &Claim| now.duration_since(claim.since) < SETTLE;
        !self.grants.is_empty() || self.claims.values().any(is_new)
    }

    /// Forgets all claims, as after a change of the leader.
    pub fn clear(&mut self) {
        self.claims.clear();
        self.grants.clear();
    }

    /// What each revision is to let go, all others nothing.
    pub fn plan(
        &mut self,
        scene: &RoomScene<'_>,
        rules: &AutoscalerConfig,
        now: Instant,
    ) -> BTreeMap<Arc<RevisionKey>, Cession> {
        self.follow_claims(scene, now);
        self.follow_grants(scene, now);
        if scene.may_choose {
            self.serve(scene, rules, now);
        }
        let mut cessions = self.cessions();
        if scene.may_choose {
            for waiting in scene.waiting.iter().filter(|it| it.is_wake && !it.is_wanted) {
                // Its clients have left: the next one begins a new wait.
                cessions.insert(Arc::clone(&waiting.revision), Cession::default());
            }
        }
        cessions
    }

    fn follow_claims(&mut self, scene: &RoomScene<'_>, now: Instant) {
        let waits: BTreeSet<&Arc<str>> = scene.waiting.iter().map(|waiting| &waiting.uid).collect();
        self.claims.retain(|uid, _| waits.contains(uid));
        for waiting in &scene.waiting {
            if !self.claims.contains_key(&waiting.uid) {
                self.count += 1;
                let claim = Claim {
                    number: self.count,
                    since: now,
                    served: None,
                    failures: 0,
                    retry_at: None,
                };
                self.claims.insert(Arc::clone(&waiting.uid), claim);
            }
        }
    }

    /// Ends what is no longer needed: the claim is served or gone, or the room went to others.
    fn follow_grants(&mut self, scene: &RoomScene<'_>, now: Instant) {
        let held: BTreeSet<&str> = scene.holders.iter().map(|holder| &**holder.uid).collect();
        let claims = &mut self.claims;
        self.grants.retain_mut(|grant| {
            let is_gone = !grant.cession.pods.iter().any(|uid| held.contains(&**uid));
            grant.gone = if is_gone { grant.gone.or(Some(now)) } else { None };
            let is_over = match grant.gone {
                Some(gone) => now.duration_since(gone) >= HELD_FOR,
                None => now.duration_since(grant.since) >= DRAIN_MAX,
            };
            let Some(claim) = claims.get_mut(&grant.claim) else { return false };
            if is_over {
                claim.retry_at = Some(now + RETRY_AFTER * 2_u32.pow(claim.failures));
                claim.failures = RETRIES_MAX.min(claim.failures + 1);
            }
            !is_over
        });
    }

    /// Serves the claims in their order. One that has to wait holds up those that want the same after
    /// it, unless nothing that is let go could ever be enough for it.
    fn serve(&mut self, scene: &RoomScene<'_>, rules: &AutoscalerConfig, now: Instant) {
        let mut freeing = self.freeing(scene);
        let mut blocked: BTreeSet<String> = BTreeSet::new();
        for waiting in self.ordered(scene).into_iter().take(CLAIMS_MAX) {
            let needs = &waiting.needs;
            // Room for a part of what is lacking would be made in vain.
            let is_ours = needs.iter().all(|need| rules.make_room_for.has(&need.resource));
            let Some(claim) = self.claims.get_mut(&waiting.uid).filter(|_| is_ours) else {
                continue;
            };
            let is_left = waiting.is_wake && !waiting.is_wanted;
            if is_left || needs.is_empty() || claim.retry_at.is_some_and(|at| now < at) {
                continue;
            }
            let is_blocked = needs.iter().any(|need| blocked.contains(&need.resource));
            if !is_blocked && take(&mut freeing, needs) {
                claim.served = Some(now);
                continue;
            }
            let is_settling = claim.is_settling(needs, now);
            let turn = rules.make_room_turn;
            let is_turn = !turn.is_zero() && now.duration_since(claim.since) >= turn;
            let taken = taken(&self.grants);
            let choice = Choice {
                needs,
                priority: waiting.priority,
                revision: &waiting.revision,
                // More replicas for one model are no reason to stop another that is in use.
                may_use: is_turn && waiting.is_wake,
                residency: rules.make_room_residency,
                turn,
                taken: &taken,
            };
            let chosen = (!is_blocked && !is_settling).then(|| choose(&choice, scene)).flatten();
            let Some(chosen) = chosen else {
                if could_ever(&choice, scene) {
                    blocked.extend(needs.iter().map(|need| need.resource.clone()));
                }
                continue;
            };
            claim.served = Some(now);
            self.clock = self.clock.max(chosen.worth);
            self.let_go += u64::try_from(chosen.pods.len()).unwrap_or(u64::MAX);
            self.grant(&waiting.uid, chosen.pods, scene, now);
        }
    }

    /// Lets pods go: one grant for each of their revisions.
    fn grant(
        &mut self,
        claim: &Arc<str>,
        pods: Vec<(Arc<RevisionKey>, Arc<str>)>,
        scene: &RoomScene<'_>,
        now: Instant,
    ) {
        let mut by_revision: BTreeMap<Arc<RevisionKey>, BTreeSet<Arc<str>>> = BTreeMap::new();
        for (revision, uid) in pods {
            by_revision.entry(revision).or_default().insert(uid);
        }
        for (revision, pods) in by_revision {
            let scale = scene.tenants.get(&revision).map_or(0, |tenant| tenant.scale);
            // What it has let go already comes off as well.
            let earlier = self.grants.iter().filter(|grant| grant.revision == revision);
            let scale = earlier.map(|grant| grant.cession.cap).fold(scale, u32::min);
            let cap = scale.saturating_sub(u32::try_from(pods.len()).unwrap_or(u32::MAX));
            let (claim, cession) = (Arc::clone(claim), Cession { cap, pods });
            self.grants.push(Grant { claim, revision, cession, since: now, gone: None });
        }
    }

    /// The claims in the order in which they are served.
    fn ordered<'a>(&self, scene: &'a RoomScene<'_>) -> Vec<&'a Waiting> {
        let mut ordered: Vec<_> = scene.waiting.iter().collect();
        ordered.sort_by_key(|waiting| {
            let number = self.claims.get(&waiting.uid).map_or(u64::MAX, |claim| claim.number);
            (-waiting.priority, !waiting.is_wake, number)
        });
        ordered
    }

    /// What will be free soon: the pods that end, and those that are being let go.
    fn freeing(&self, scene: &RoomScene<'_>) -> Freeing {
        let taken = taken(&self.grants);
        let mut freeing = Freeing::new();
        for holder in &scene.holders {
            if !holder.is_ending && !taken.contains(&**holder.uid) {
                continue;
            }
            let node = freeing.entry(holder.node.to_owned()).or_default();
            for (resource, amount) in &holder.amounts.0 {
                let sum = node.entry(resource.clone()).or_default();
                *sum = sum.saturating_add(*amount);
            }
        }
        freeing
    }

    fn cessions(&self) -> BTreeMap<Arc<RevisionKey>, Cession> {
        let mut all: BTreeMap<Arc<RevisionKey>, Cession> = BTreeMap::new();
        for Grant { revision, cession, .. } in &self.grants {
            let whole = all.entry(Arc::clone(revision)).or_insert_with(|| cession.clone());
            whole.cap = whole.cap.min(cession.cap);
            whole.pods.extend(cession.pods.iter().cloned());
        }
        all
    }
}

// === impl Claim ===

impl Claim {
    /// Whether the scheduler may yet act on the room that was made.
    fn is_settling(&self, needs: &[Need], now: Instant) -> bool {
        let is_told = needs.iter().all(|need| need.is_lack);
        let settle = if is_told { SETTLE_TOLD } else { SETTLE };
        self.served.is_some_and(|at| now.duration_since(at) < settle)
    }
}

/// The pods that are let go already.
fn taken(grants: &[Grant]) -> BTreeSet<Arc<str>> {
    grants.iter().flat_map(|grant| grant.cession.pods.iter().cloned()).collect()
}

/// Takes what is needed out of what one node frees; false if none frees enough.
fn take(freeing: &mut Freeing, needs: &[Need]) -> bool {
    let has = |node: &BTreeMap<String, u64>, need: &Need| {
        node.get(&need.resource).is_some_and(|amount| *amount >= need.amount)
    };
    let Some(node) = freeing.values_mut().find(|node| needs.iter().all(|need| has(node, need)))
    else {
        return false;
    };
    for need in needs {
        if let Some(amount) = node.get_mut(&need.resource) {
            *amount -= need.amount;
        }
    }
    true
}

#[cfg(test)]
mod tests;
