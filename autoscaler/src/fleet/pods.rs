//! The pods of all revisions, as their watch brings them.

use std::collections::HashMap;
use std::sync::Arc;

use ebb_api::report::RevisionKey;
use tokio::time::Instant;

use super::Fleet;
use super::table::{Id, Place};
use crate::event::{Action, Moment};
use crate::pods::{PODS_MAX, RevisionPod};
use crate::scaler::RevisionScaler;

impl Fleet {
    pub(super) fn on_pods(
        &mut self,
        pods: Vec<(RevisionKey, RevisionPod)>,
        now: Moment,
    ) -> Vec<Action> {
        self.are_pods_listed = true;
        self.lacking.clear();
        let before = self.table.take_pods();
        let known = before.iter().flat_map(|(_, pods)| pods.iter());
        let ready: HashMap<Arc<str>, Instant> =
            known.filter_map(|pod| Some((Arc::clone(&pod.uid), pod.ready_since?))).collect();
        for (revision, pod) in pods {
            let ready_since = ready.get(&pod.uid).copied();
            self.keep_pod(&revision, RevisionPod { ready_since, ..pod }, now);
        }
        for (key, known) in before {
            let Some(id) = self.table.id(&key) else { continue };
            let Place { revision, pods } = self.table.at_mut(id);
            let gone = known.iter().filter(|pod| !pods.contains(&pod.uid));
            if let Some(revision) = revision {
                gone.for_each(|pod| revision.lose(&pod.uid));
            }
        }
        self.visit_all(now, RevisionScaler::act)
    }

    pub(super) fn on_pod(
        &mut self,
        revision: &RevisionKey,
        pod: RevisionPod,
        now: Moment,
    ) -> Vec<Action> {
        match self.keep_pod(revision, pod, now) {
            Some(id) => self.visit(id, now, RevisionScaler::act),
            None => Vec::new(),
        }
    }

    /// Keeps the pod and returns its place; `None` if nothing about it is new, or there is no room.
    fn keep_pod(&mut self, revision: &RevisionKey, pod: RevisionPod, now: Moment) -> Option<Id> {
        let id = self.table.open(revision);
        let pods = &mut self.table.at_mut(id).pods;
        if pods.len() >= PODS_MAX && !pods.contains(&pod.uid) {
            self.faults += 1;
            return None;
        }
        let uid = Arc::clone(&pod.uid);
        let is_lacking = !pod.lacks.is_empty() && !pod.is_terminating;
        let is_new = pods.insert_at(pod, now.instant);
        self.note_lack(uid, is_lacking);
        is_new.then_some(id)
    }

    pub(super) fn on_pod_deleted(
        &mut self,
        key: &RevisionKey,
        uid: &str,
        now: Moment,
    ) -> Vec<Action> {
        let Some(id) = self.table.id(key) else {
            return Vec::new();
        };
        let Place { revision, pods } = self.table.at_mut(id);
        pods.remove(uid);
        self.lacking.remove(uid);
        if let Some(revision) = revision {
            revision.lose(uid);
        }
        let actions = self.visit(id, now, RevisionScaler::act);
        self.table.close(key);
        actions
    }
}
