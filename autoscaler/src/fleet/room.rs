//! Room for pods that find none: what the fleet knows of it, and what follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ebb_api::pod::Shortage;
use ebb_api::report::RevisionKey;
use tokio::time::Instant;

use super::Fleet;
use super::table::Place;
use crate::event::{Action, Moment};
use crate::pods::RevisionPod;
use crate::room::{Cession, Holder, Need, RoomScene, Waiting};
use crate::scaler::RevisionScaler;

/// Time from one look to the next while room is being made. A look takes in all pods.
const LOOK_SOON: Duration = Duration::from_millis(100);
/// The same while nothing can be done but wait for a replica to become idle.
const LOOK_LATER: Duration = Duration::from_secs(1);

impl Fleet {
    /// How many pods wait for room.
    pub fn lacking(&self) -> usize {
        self.lacking.len()
    }

    /// How many replicas were let go for others.
    pub fn let_go(&self) -> u64 {
        self.room.let_go()
    }

    /// Takes note of whether a pod finds no node for want of something.
    pub(super) fn note_lack(&mut self, uid: Arc<str>, is_lacking: bool) {
        if !is_lacking {
            self.lacking.remove(&uid);
        } else if self.lacking.insert(uid) {
            self.room_due = None;
        }
    }

    /// Forgets who is held down; the revisions start over themselves.
    pub(super) fn forget_room(&mut self) {
        self.room.clear();
        self.ceding.clear();
        self.room_due = None;
    }

    /// Chooses what is let go, and lets those revisions act for which that is new.
    pub(super) fn make_room(&mut self, now: Moment) -> Vec<Action> {
        let is_idle = self.lacking.is_empty() && self.room.is_empty();
        if self.leads.is_none() || is_idle {
            self.room_due = None;
            return Vec::new();
        }
        if self.room_due.is_some_and(|due| now.instant < due) {
            return Vec::new();
        }
        let mut room = std::mem::take(&mut self.room);
        let cessions =
            room.plan(&self.room_scene(now.instant), &self.config.autoscaler, now.instant);
        let pause = if room.is_busy(now.instant) { LOOK_SOON } else { LOOK_LATER };
        self.room = room;
        self.room_due = Some(now.instant + pause);
        self.apply(cessions, now)
    }

    fn apply(
        &mut self,
        mut cessions: BTreeMap<Arc<RevisionKey>, Cession>,
        now: Moment,
    ) -> Vec<Action> {
        let before = std::mem::take(&mut self.ceding);
        let ceding = cessions.keys().cloned().collect();
        let mut actions = Vec::new();
        for key in before.union(&ceding) {
            let Some(id) = self.table.id(key) else { continue };
            let Some(revision) = &mut self.table.at_mut(id).revision else { continue };
            if revision.cede(cessions.remove(key)) {
                actions.extend(self.visit(id, now, RevisionScaler::act));
            }
        }
        self.ceding = ceding;
        actions
    }

    fn room_scene(&self, now: Instant) -> RoomScene<'_> {
        let may_choose = self.are_pods_listed && self.activators.complete_age(now).is_some();
        let mut scene = RoomScene { may_choose, ..RoomScene::default() };
        let unknown = Arc::new(RevisionKey::default());
        for Place { revision, pods } in self.table.places().filter(|it| !it.pods.is_empty()) {
            let Some(revision) = revision else {
                // What ends of a revision that is gone gives room all the same.
                let ending = pods.iter().filter(|pod| pod.is_terminating);
                scene.holders.extend(ending.filter_map(|pod| holder(pod, &unknown, None, now)));
                continue;
            };
            let key = &revision.target().key;
            let mut is_wake = !pods.iter().any(|pod| pod.node.is_some() && !pod.is_terminating);
            for pod in pods.iter() {
                if is_lacking(pod) {
                    scene.waiting.push(Waiting {
                        uid: Arc::clone(&pod.uid),
                        revision: Arc::clone(key),
                        priority: revision.target().priority,
                        is_wake,
                        is_wanted: revision.is_wanted(now),
                        needs: needs(pod),
                    });
                    // The others are more replicas of it.
                    is_wake = false;
                } else {
                    scene.holders.extend(holder(pod, key, Some(revision), now));
                }
            }
            let is_pressed = pods.iter().any(is_lacking);
            scene.tenants.insert(Arc::clone(key), revision.tenant(is_pressed));
        }
        scene
    }
}

/// The pod as one that holds something; `None` if it has no node, or holds nothing.
fn holder<'a>(
    pod: &'a RevisionPod,
    key: &Arc<RevisionKey>,
    revision: Option<&RevisionScaler>,
    now: Instant,
) -> Option<Holder<'a>> {
    let node = pod.node.as_deref().filter(|_| !pod.holds.0.is_empty())?;
    Some(Holder {
        revision: Arc::clone(key),
        uid: &pod.uid,
        node,
        amounts: &pod.holds,
        is_ending: pod.is_terminating || revision.is_some_and(|it| it.is_leaving(&pod.uid)),
        ready_for: pod.ready_since.map(|since| now.duration_since(since)),
        is_idle: revision.is_none_or(|it| it.is_idle(&pod.uid)),
        is_asleep: revision.is_some_and(|it| it.is_in_standby(&pod.uid)),
    })
}

fn is_lacking(pod: &RevisionPod) -> bool {
    !pod.lacks.is_empty() && !pod.is_terminating
}

/// What it lacks. CPU is among it, with an amount of 0, so that no room is made for a pod that lacks
/// something else as well.
fn needs(pod: &RevisionPod) -> Vec<Need> {
    let need = |shortage: &Shortage| Need {
        resource: shortage.resource.clone(),
        amount: shortage.lack.unwrap_or_else(|| pod.holds.of(&shortage.resource)),
        is_lack: shortage.lack.is_some(),
    };
    pod.lacks.iter().map(need).collect()
}
