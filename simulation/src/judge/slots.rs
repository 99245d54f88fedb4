//! Looks into the activators again and again: does a request wait beside a free slot?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ebb_activator::{PodStanding, RevisionStanding};

use super::{AGREED_AFTER, DISAGREEMENTS, Judge, PodFacts, State};
use crate::invariants::NO_IDLE_SLOT;
use crate::network::Name;

/// How long a request may wait beside a free slot: the time that a wakeup takes, many times over.
const BESIDE_MAX: Duration = Duration::from_millis(50);

/// Since when an activator lets a request of a revision wait beside a free slot: one that it knows
/// of, or, of the second kind, one that is free in truth.
#[derive(Default)]
pub(super) struct Waits(BTreeMap<(Name, String, Slot), Duration>);

/// Who says that a slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// The activator itself.
    Known,
    /// The pod, which every activator has to know by now: whoever counts requests there that have
    /// ended, or has missed the pod, does not say so.
    True,
}

impl Judge {
    /// Whether any request is under way; if none is, none waits.
    pub(crate) fn is_asked(&self) -> bool {
        let mut state = self.state.lock();
        if state.open == 0 {
            state.waits.0.clear();
        }
        state.open > 0
    }

    /// How the revisions stand at an activator that runs.
    pub(crate) fn standing(&self, activator: &Name, all: &[RevisionStanding]) {
        let now = ebb_clockwork::elapsed();
        let mut broken = Vec::new();
        let mut state = self.state.lock();
        let is_calm = state.disturbances.are_activators_calm(DISAGREEMENTS, now, AGREED_AFTER);
        for standing in all {
            let name = format!("{}/{}", standing.revision.namespace, standing.revision.name);
            let may_wait = standing.queued == 0 || !is_calm;
            for slot in [Slot::Known, Slot::True] {
                let key = (activator.clone(), name.clone(), slot);
                let free = match slot {
                    _ if may_wait => None,
                    Slot::Known => state.known_slot(standing, &name),
                    Slot::True => state.true_slot(standing, &name, now),
                };
                let Some(pod) = free else {
                    state.waits.0.remove(&key);
                    continue;
                };
                let since = *state.waits.0.entry(key.clone()).or_insert(now);
                let before = now.saturating_sub(BESIDE_MAX);
                // The slot may have been taken and become free between two looks.
                let is_open =
                    slot == Slot::Known || state.true_slot(standing, &name, before).is_some();
                if since < before && is_open {
                    broken.push(format!(
                        "{} of {name} wait at {activator} while pod {pod} has room: {standing:?}",
                        standing.queued,
                    ));
                    state.waits.0.insert(key, now);
                }
            }
        }
        drop(state);
        for how in broken {
            self.story.blame(NO_IDLE_SLOT, how);
        }
    }
}

impl State {
    /// A pod that has room as the activator has it.
    fn known_slot(&self, standing: &RevisionStanding, name: &str) -> Option<String> {
        let limit = self.written.limit_of(name);
        let has_room = |pod: &&PodStanding| {
            let in_flight = usize::try_from(pod.in_flight).unwrap_or(usize::MAX);
            pod.ready && !pod.drained && (limit == 0 || in_flight < limit)
        };
        standing.pods.iter().find(has_room).map(|pod| pod.uid.clone())
    }

    /// A pod that has had room in truth since then, and that no drain order names.
    fn true_slot(&self, standing: &RevisionStanding, name: &str, then: Duration) -> Option<String> {
        let revision = self.written.newest(name)?;
        let is_drained = |uid: &str| standing.pods.iter().any(|pod| pod.drained && pod.uid == *uid);
        let has_room = |(uid, pod): &(&Arc<str>, &PodFacts)| {
            pod.identity.revision_uid == *revision
                && !is_drained(uid)
                && self.open_since(uid, pod).is_some_and(|open| open <= then)
        };
        self.pods.iter().find(has_room).map(|(uid, _)| format!("{uid}, in truth,"))
    }
}
