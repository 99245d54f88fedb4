//! One candidate: what to do about the lease that is stored, and how long the lead lasts.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

/// The term of a leader: each lead has a greater one than all before it, also where the same
/// replica leads again. Never 0.
pub type Epoch = u64;

/// The write to make.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing: somebody else holds it.
    Wait,
    /// There is none yet.
    Create(Lease),
    /// Take it, or renew it. Carries the version that was read, so that of two only one wins.
    Replace(Lease),
}

/// A candidate for the lease.
#[derive(Debug)]
pub(super) struct Candidate {
    name: String,
    identity: String,
    duration: Duration,
    margin: Duration,
    /// The version last read, and when this candidate first saw it.
    seen: Option<(String, Instant)>,
    /// Most changes of the lead ever seen: a lease that was deleted goes on from there.
    transitions: Option<i32>,
    /// The lease as this candidate last wrote it, and when that lead ends.
    held: Option<(Lease, Instant)>,
}

// === impl Candidate ===

impl Candidate {
    pub(super) fn new(name: &str, identity: &str, duration: Duration, margin: Duration) -> Self {
        Self {
            name: name.to_owned(),
            identity: identity.to_owned(),
            duration,
            margin,
            seen: None,
            transitions: None,
            held: None,
        }
    }

    /// Name of the lease.
    pub(super) fn lease(&self) -> &str {
        &self.name
    }

    /// The term in which this candidate leads; `None` if it does not.
    pub(super) fn leads(&self, now: Instant) -> Option<Epoch> {
        let (lease, _) = self.held.as_ref().filter(|_| self.leads_until(now).is_some())?;
        let transitions = lease.spec.as_ref()?.lease_transitions.unwrap_or(0);
        Some(Epoch::from(transitions.unsigned_abs()) + 1)
    }

    /// When its present lead ends, unless it is prolonged; `None` if it does not lead.
    pub(super) fn leads_until(&self, now: Instant) -> Option<Instant> {
        self.held.as_ref().map(|(_, until)| *until).filter(|until| now < *until)
    }

    /// The lease to write to keep the lead; `None` if there is none to keep. Carries the version
    /// that was written last: a holder need not read what it wrote itself.
    pub(super) fn renewal(&self, now: Instant, wall: Timestamp) -> Option<Lease> {
        let (held, until) = self.held.as_ref()?;
        let mut lease = (now < *until).then(|| held.clone())?;
        lease.spec = Some(self.spec(held.spec.as_ref(), true, wall));
        Some(lease)
    }

    /// What to do about the lease as it is stored.
    pub(super) fn step(&mut self, stored: Option<Lease>, now: Instant, wall: Timestamp) -> Step {
        let Some(mut lease) = stored else {
            let mut lease = Lease::default();
            lease.metadata.name = Some(self.name.clone());
            lease.spec = Some(self.spec(None, false, wall));
            return Step::Create(lease);
        };
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        self.transitions = self.transitions.max(transitions);
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => now,
        };
        self.seen = Some((version, since));
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let is_mine = holder == self.identity;
        if !is_mine && !holder.is_empty() && now.duration_since(since) < self.lasts(&spec) {
            // The lead that this candidate may have had is another's now.
            self.held = None;
            return Step::Wait;
        }
        // The answer to a renewal may have been lost: the lead goes on, and with it the term.
        let is_renewal = is_mine && self.leads(now).is_some();
        lease.spec = Some(self.spec(Some(&spec), is_renewal, wall));
        Step::Replace(lease)
    }

    /// The lease was written by a request that began then.
    pub(super) fn acquired(&mut self, lease: Lease, began: Instant) {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        self.seen = Some((version, began));
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        self.transitions = self.transitions.max(transitions);
        self.held = Some((lease, began + self.duration - self.margin));
    }

    /// The lease to write to give it back; `None` if it is not held. Ends the lead.
    pub(super) fn release(&mut self, wall: Timestamp) -> Option<Lease> {
        let (mut lease, _) = self.held.take()?;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(wall));
        Some(lease)
    }

    /// How long a record holds; one without a duration is taken to hold as long as ours.
    fn lasts(&self, spec: &LeaseSpec) -> Duration {
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map_or(self.duration, Duration::from_secs)
    }

    /// The lease as it is to be written. If it is not a renewal it begins a new term, also where
    /// this identity held the last one: that may have been another process, or another candidate
    /// may have led in between.
    fn spec(&self, before: Option<&LeaseSpec>, is_renewal: bool, wall: Timestamp) -> LeaseSpec {
        let same_holder = before.filter(|_| is_renewal);
        let transitions = before.and_then(|before| before.lease_transitions).max(self.transitions);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX),
            ),
            acquire_time: same_holder
                .and_then(|before| before.acquire_time.clone())
                .or(Some(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(match transitions {
                Some(transitions) if !is_renewal => transitions.saturating_add(1),
                _ => transitions.unwrap_or(0),
            }),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests;
