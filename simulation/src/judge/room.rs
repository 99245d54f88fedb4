//! Which revisions have a ready pod with a free slot, in truth, and since when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Judge, KNOWN_AFTER, State};

/// Since when a revision, by UID, has room for a request.
#[derive(Default)]
pub(super) struct Room(BTreeMap<Arc<str>, Duration>);

impl Room {
    /// Whether the revision had room all the time since then.
    pub(super) fn is_since(&self, revision: &str, from: Duration) -> bool {
        self.0.get(revision).is_some_and(|since| *since <= from)
    }
}

impl Judge {
    /// Looks which revisions have room. Often enough: whoever waits for seconds would have got it.
    pub(crate) fn look_at_room(&self) {
        let now = ebb_clockwork::elapsed();
        let mut state = self.state.lock();
        let with_room = state.with_room(now);
        let room = &mut state.room.0;
        room.retain(|revision, _| with_room.contains_key(revision));
        for (revision, now) in with_room {
            room.entry(revision).or_insert(now);
        }
    }
}

impl State {
    fn with_room(&self, now: Duration) -> BTreeMap<Arc<str>, Duration> {
        let has_room = |(uid, pod): &(&Arc<str>, &super::PodFacts)| {
            let is_known = pod.well.is_some_and(|well| well + KNOWN_AFTER <= now);
            let revision = &pod.identity.revision_uid;
            let limit = self.written.limit(revision);
            is_known && self.written.may_serve(uid) && (limit == 0 || pod.inside.len() < limit)
        };
        let pods = self.pods.iter().filter(has_room);
        pods.map(|(_, pod)| (pod.identity.revision_uid.clone(), now)).collect()
    }
}
