//! Which revisions have a ready pod with a free slot, in truth, and since when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{ALL, Judge, KNOWN_AFTER, PodFacts, State, What};

/// What is known of the revisions' pods, by the revision's UID.
#[derive(Default)]
pub(super) struct Room {
    /// Since when a revision has room for a request.
    free: BTreeMap<Arc<str>, Duration>,
    /// When it was last seen with a pod whose process serves as it should, known or not.
    served: BTreeMap<Arc<str>, Duration>,
}

impl Room {
    /// Whether the revision had room all the time since then.
    pub(super) fn is_since(&self, revision: &str, from: Duration) -> bool {
        self.free.get(revision).is_some_and(|since| *since <= from)
    }

    /// Whether the revision has had a pod that serves at any time since then.
    pub(super) fn had_pod(&self, revision: &str, from: Duration) -> bool {
        self.served.get(revision).is_some_and(|last| *last >= from)
    }
}

impl Judge {
    /// Looks which revisions have room. Often enough: whoever waits for seconds would have got it.
    pub(crate) fn look_at_room(&self) {
        let now = ebb_clockwork::elapsed();
        let mut locked = self.state.lock();
        let state = &mut *locked;
        let with_room = state.with_room(now);
        let serve = state.pods.values().filter(|pod| pod.well.is_some());
        let serve = serve.map(|pod| (pod.identity.revision_uid.clone(), now));
        state.room.served.extend(serve);
        let free = &mut state.room.free;
        free.retain(|revision, _| with_room.contains_key(revision));
        for (revision, now) in with_room {
            free.entry(revision).or_insert(now);
        }
    }
}

/// How long nobody uses a pod that a lower scale was to take, although it stands
/// (`UNCONFIRMED_FOR` in `autoscaler/src/drain.rs`), and the next decision after that.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(14);
/// What keeps a controller from making a lower scale come true at once.
const HINDRANCES: &[What] = &[What::Api, What::Stall, What::Pause, What::Control];

impl State {
    /// Whether pods of the revision stand that a lower scale was to take, and may yet: it was written a
    /// while ago, and a controller that hears or writes nothing has not acted on it. Ebb leaves them
    /// alone, whatever has been written since.
    pub(super) fn may_be_on_its_way_out(&self, revision: &str, now: Duration) -> bool {
        let Some(lowered) = self.written.lowered(revision) else { return false };
        let is_controller = |whom: &str| whom == ALL || whom.starts_with("controller");
        now.saturating_sub(lowered) < LEFT_ALONE_FOR
            && self.disturbances.any(HINDRANCES, is_controller, lowered, now)
    }

    fn with_room(&self, now: Duration) -> BTreeMap<Arc<str>, Duration> {
        let is_open = |(uid, pod): &(&Arc<str>, &PodFacts)| {
            self.open_since(uid, pod).is_some_and(|at| at <= now)
        };
        self.pods
            .iter()
            .filter(is_open)
            .map(|(_, pod)| (pod.identity.revision_uid.clone(), now))
            .collect()
    }

    /// Since when every activator that is well must know that a pod is ready and has a free slot;
    /// nothing if it has none.
    pub(super) fn open_since(&self, uid: &str, pod: &PodFacts) -> Option<Duration> {
        let limit = self.written.limit(&pod.identity.revision_uid);
        let is_free = limit == 0 || pod.inside.len() < limit;
        let known = pod.well?.max(self.written.serves_since(uid)?) + KNOWN_AFTER;
        is_free.then(|| known.max(pod.free))
    }
}
