//! What a revision lets go for others, and what it is worth.

use std::time::Duration;

use tokio::time::Instant;

use super::{RevisionScaler, Surroundings};
use crate::bounds::Bounds;
use crate::room::{Cession, Tenant};

/// How long after a request another one counts as the same client's: it may have been told to come back,
/// as the waiting page does every few seconds.
const ASKED_AGAIN: Duration = Duration::from_secs(15);

impl RevisionScaler {
    /// Takes note of what it is to let go; true if that is new.
    pub fn cede(&mut self, cession: Option<Cession>) -> bool {
        let is_new = self.cession != cession;
        // The load that the windows remember is no reason to wake it again.
        self.is_let_go |= cession.as_ref().is_some_and(|cession| cession.cap == 0);
        if cession.is_none() && self.current > Some(0) {
            // It has kept them in the end.
            self.is_let_go = false;
        }
        self.cession = cession;
        is_new
    }

    /// Takes note of whether the last report shows a use, at this value of the clock of
    /// [`crate::room::Room`].
    pub fn note_use(&mut self, clock: f64, now: Instant) {
        if self.load.is_demanded() {
            (self.level, self.used) = (clock, Some(now));
            self.is_let_go = false;
        }
    }

    /// Whether no activator has a request in that pod, as far as the last reports say.
    pub fn is_idle(&self, uid: &str) -> bool {
        self.load.in_flight(uid) == 0
    }

    /// Whether that pod sleeps, as far as is known.
    pub fn is_in_standby(&self, uid: &str) -> bool {
        self.rest.is_asleep(uid)
    }

    /// Whether a pod goes already, by a lower scale.
    pub fn is_leaving(&self, uid: &str) -> bool {
        self.drain.is_condemned(uid)
    }

    /// Whether anybody wants it to have pods: a request, a client that may ask again, or its lower
    /// bounds.
    pub fn is_wanted(&self, now: Instant) -> bool {
        let is_recent = self.used.is_some_and(|at| now.duration_since(at) < ASKED_AGAIN);
        self.load.is_demanded() || is_recent || self.floor() > 0
    }

    /// Replicas that it keeps whatever the load.
    pub(super) fn floor(&self) -> u32 {
        let least = u32::from(!self.spec.to_zero);
        Bounds::of(&self.spec, self.stage).min.max(least)
    }

    /// The revision as one that may let replicas go; `waits_itself` says whether a pod of it waits for
    /// room.
    pub fn tenant(&self, waits_itself: bool) -> Tenant {
        Tenant {
            priority: self.target.priority,
            scale: self.current.unwrap_or(0),
            floor: self.floor(),
            is_pressed: waits_itself || self.load.is_queued(),
            level: self.level,
            used: self.used,
            start: self.target.start,
        }
    }

    /// The scale, no higher than what it is to let go leaves. Waiting requests do not count here: they
    /// came after those that room is made for.
    pub(super) fn within_cession(&self, want: u32, around: &Surroundings<'_>) -> u32 {
        let is_known = around.is_listed && around.complete_age.is_some();
        match &self.cession {
            // The bounds may have risen meanwhile.
            Some(cession) if is_known => want.min(cession.cap.max(self.floor())),
            _ => want,
        }
    }
}
