//! How pods live and end.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{ALL, Disturbance, Judge, PodFacts, What, concerns};
use crate::identity::Identity;
use crate::invariants::{ALIVE, EMPTY_POD};
use crate::network::Name;
use crate::parts::Ending;

/// How long an activator that ends may take its requests with it.
const LOST_WITH: Duration = Duration::from_secs(5);

/// How long after a late lower scale pods may go that are in use: until the scale is set right, and
/// the sleep before SIGTERM.
const LOST_AFTER_LATE: Duration = Duration::from_secs(15);
/// How long before its end a pod may have turned unready without a chance for anybody to see it before
/// a lower scale: the 3 s of a hook before it ends, the pause after marks, and 2 s of news.
const UNREADY_BEFORE: Duration = Duration::from_millis(5_500);

/// How long before it ends a process may have lost its lease for a fault that is over: it leads for
/// 10.5 s after its last renewal.
const UNELECTED_AFTER: Duration = Duration::from_secs(12);

impl Judge {
    /// A process of Ebb has ended in order although nobody asked it to. Only whoever no longer leads
    /// may do so, and leads no longer only because its way to the API server, or itself, was disturbed.
    pub(crate) fn ends_by_itself(&self, name: &Name, ending: Ending) {
        let now = ebb_clockwork::elapsed();
        let from = now.saturating_sub(UNELECTED_AFTER);
        let is_disturbed = self.state.lock().disturbances.any(
            &[What::Api, What::Pause],
            concerns(name),
            from,
            now,
        );
        if ending == Ending::Unelected && is_disturbed {
            self.story.tell(format!("{name} no longer leads, ends and is started again"));
        } else {
            self.story.blame(ALIVE, format!("{name} ends although nothing is wrong: {ending:?}"));
        }
    }

    /// The process of a pod has started.
    pub(crate) fn pod_runs(&self, identity: &Identity) {
        let new = || PodFacts {
            identity: identity.clone(),
            inside: BTreeSet::new(),
            free: Duration::ZERO,
            well: None,
            is_up: false,
            sick: 0,
            broken_off: 0,
        };
        let mut state = self.state.lock();
        let pod = state.pods.entry(identity.uid.clone()).or_insert_with(new);
        pod.is_up = true;
        pod.well = (pod.sick == 0).then(ebb_clockwork::elapsed);
    }

    /// The process of a pod ends by a fault.
    pub(crate) fn pod_fails(&self, identity: &Identity) {
        self.pod_is_unwell(identity);
        self.disturbed(What::Pod, identity.uid.clone());
    }

    /// The readiness probe of a pod fails.
    pub(crate) fn pod_turns_unready(&self, identity: &Identity) {
        self.disturbed(What::Unready, identity.uid.clone());
    }

    /// A pod and its machine are lost; to be ended with [`Judge::settle`] when nobody waits for it any
    /// more.
    pub(crate) fn pod_is_lost(&self, identity: &Identity) -> Disturbance {
        self.pod_is_unwell(identity);
        self.disturb(What::Pod, identity.uid.clone())
    }

    fn pod_is_unwell(&self, identity: &Identity) {
        if let Some(pod) = self.state.lock().pods.get_mut(&identity.uid) {
            (pod.well, pod.is_up) = (None, false);
            pod.inside.clear();
        }
    }

    /// A pod begins to break off requests; to be ended with [`Judge::recovers`].
    pub(crate) fn sickens(&self, identity: &Identity) -> Disturbance {
        if let Some(pod) = self.state.lock().pods.get_mut(&identity.uid) {
            pod.well = None;
            pod.sick += 1;
        }
        self.disturb(What::Pod, identity.uid.clone())
    }

    /// A pod no longer breaks off requests for this reason.
    pub(crate) fn recovers(&self, identity: &Identity, fault: Disturbance) {
        self.settle(fault);
        if let Some(pod) = self.state.lock().pods.get_mut(&identity.uid) {
            pod.sick -= 1;
            if pod.sick == 0 {
                pod.well = pod.is_up.then(ebb_clockwork::elapsed);
                pod.broken_off = 0;
            }
        }
    }

    /// The process of a pod is ended because the pod was deleted.
    pub(crate) fn pod_ends(&self, identity: &Identity) {
        let mut state = self.state.lock();
        let now = ebb_clockwork::elapsed();
        let Some(pod) = state.pods.get_mut(&identity.uid) else { return };
        let inside: Vec<u64> = std::mem::take(&mut pod.inside).into_iter().collect();
        (pod.well, pod.is_up) = (None, false);
        // It excuses what breaks at this moment, and nothing that comes later.
        state.disturbances.instant(What::Pod, identity.uid.clone(), now);
        let alive: Vec<u64> = inside
            .into_iter()
            .filter(|number| state.requests.get(number).is_some_and(|request| !request.is_over))
            .collect();
        if alive.is_empty() {
            return;
        }
        // A Service that was deleted takes its pods with it, and an activator that ends loses its
        // requests in a moment. No other fault is an excuse: drains exist for them.
        let is_wanted = state.written.lives(&identity.revision_uid);
        // Others know nothing of a lower scale that is still on its way, and nobody knows
        // which pods go while no process hears of pods.
        let from = now.saturating_sub(LOST_AFTER_LATE);
        let own = |whom: &str| whom == ALL || *whom == *identity.revision_uid;
        let unknown = [What::LateScale, What::Blindness];
        let is_late = state.disturbances.any(&unknown, own, from, now);
        let from = now.saturating_sub(UNREADY_BEFORE);
        let is_it = |whom: &str| *whom == *identity.uid;
        let is_unready = state.disturbances.any(&[What::Unready], is_it, from, now);
        let is_well = state.disturbances.are_activators_calm(&[What::Activator], now, LOST_WITH);
        let how = format!(
            "pod {} ends with {} inside (wanted: {is_wanted}, well: {is_well})",
            identity.name,
            list(&alive),
        );
        drop(state);
        if is_wanted && is_well && !is_late && !is_unready {
            self.story.blame(EMPTY_POD, how);
        } else {
            self.story.tell(how);
        }
    }
}

fn list(numbers: &[u64]) -> String {
    let words: Vec<_> = numbers.iter().map(|number| format!("request {number}")).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::Story;

    #[test]
    fn a_pod_that_was_taken_away_excuses_nothing_that_comes_later() {
        let judge = Judge::new(&Story::default(), "example.com");
        let pod = Identity {
            name: "pod".into(),
            uid: "1".into(),
            namespace: "default".to_owned(),
            service: "service".into(),
            revision_uid: "2".into(),
        };
        judge.pod_runs(&pod);
        judge.pod_ends(&pod);
        let later = Duration::from_secs(1);
        let state = judge.state.lock();
        assert!(state.disturbances.any(&[What::Pod], |_| true, Duration::ZERO, later));
        assert!(!state.disturbances.any(&[What::Pod], |_| true, later, later));
    }
}
