//! Looks into the activators again and again: does a request wait beside a free slot?

use std::collections::BTreeMap;
use std::time::Duration;

use ebb_activator::{PodStanding, RevisionStanding};

use super::{Judge, What};
use crate::invariants::NO_IDLE_SLOT;
use crate::network::Name;

/// How long a request may wait beside a free slot: the time that a wakeup takes, many times over.
const BESIDE_MAX: Duration = Duration::from_millis(50);
/// How long the members may disagree about who owns a revision after a disturbance.
const AGREED_AFTER: Duration = Duration::from_secs(10);

/// Since when an activator lets a request of a revision wait beside a free slot.
#[derive(Default)]
pub(super) struct Waits(BTreeMap<(Name, String), Duration>);

impl Judge {
    /// How the revisions stand at an activator that runs.
    pub(crate) fn standing(&self, activator: &Name, all: &[RevisionStanding]) {
        let now = ebb_clockwork::elapsed();
        let mut broken = Vec::new();
        let mut state = self.state.lock();
        let kinds = [What::Activator, What::Link, What::Api, What::PodWatch, What::Pause];
        let is_calm = state.disturbances.are_activators_calm(&kinds, now, AGREED_AFTER);
        for standing in all {
            let name = format!("{}/{}", standing.revision.namespace, standing.revision.name);
            let limit = state.written.limit_of(&name);
            let has_room = |pod: &&PodStanding| {
                let in_flight = usize::try_from(pod.in_flight).unwrap_or(usize::MAX);
                pod.ready && !pod.drained && (limit == 0 || in_flight < limit)
            };
            let key = (activator.clone(), name);
            let free = standing.pods.iter().find(has_room);
            let (Some(pod), true, true) = (free, standing.queued > 0, is_calm) else {
                state.waits.0.remove(&key);
                continue;
            };
            let since = *state.waits.0.entry(key.clone()).or_insert(now);
            if ebb_clockwork::since(since) > BESIDE_MAX {
                broken.push(format!(
                    "{} of {} wait at {activator} while pod {} has room: {standing:?}",
                    standing.queued, key.1, pod.uid,
                ));
                state.waits.0.insert(key, now);
            }
        }
        drop(state);
        for how in broken {
            self.story.blame(NO_IDLE_SLOT, how);
        }
    }
}
