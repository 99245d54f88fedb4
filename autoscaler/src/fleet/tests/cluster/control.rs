//! The parts of the cluster beside the autoscaler: Kubernetes' controllers, the pods, the controller of
//! Revisions.

use std::time::Duration;

use super::{Cluster, Marks, RevisionPod, ScaleTarget};
use crate::event::FleetEvent;
use crate::standby::{StandbyAnswer, StandbyCall, StandbyOrder, StandbyOutcome};

impl Cluster {
    /// Acts as Kubernetes' controllers: towards the newest scale, unready pods and cheap pods
    /// first.
    pub(in super::super) fn control(&mut self) {
        let ready: Vec<_> = self
            .pods
            .values()
            .filter(|pod| !pod.is_ready && self.born[&*pod.uid] + self.ready_after <= self.now)
            .map(|pod| RevisionPod { is_ready: true, is_pending: false, ..pod.clone() })
            .collect();
        for pod in ready {
            self.set_pod(pod);
        }
        if !self.is_controlled {
            return;
        }
        self.tell();
        self.delete_terminated();
        self.scaled_to = self.desired();
        let want = usize::try_from(self.scaled_to).unwrap();
        let mut standing: Vec<_> =
            self.pods.values().filter(|pod| !pod.is_terminating).cloned().collect();
        for _ in standing.len()..want {
            self.make_pod();
        }
        let cost = |pod: &RevisionPod| self.costs.get(&*pod.name).copied().unwrap_or(0);
        standing.sort_by_key(|pod| (pod.is_ready, cost(pod), pod.uid.clone()));
        let surplus = standing.len().saturating_sub(want);
        for pod in standing.into_iter().take(surplus) {
            self.check_deletion(&pod.uid);
            self.set_pod(RevisionPod { is_terminating: true, ..pod });
        }
    }

    /// Writes the Revision's status as the controller does.
    fn tell(&mut self) {
        let desired = self.desired();
        let is_up = desired > 0 && self.ready() >= usize::try_from(desired).unwrap();
        let told = ScaleTarget {
            desired: Some(desired),
            is_initialized: self.target.is_initialized || is_up,
            ..self.target.clone()
        };
        if told != self.target && !self.is_lagging {
            self.target = ScaleTarget { version: told.version + 1, ..told };
            self.step(FleetEvent::TargetApplied(Box::new(self.target.clone())));
        }
    }

    /// A pod is never deleted while an activator may still send a request to it.
    fn check_deletion(&self, uid: &str) {
        for activator in self.activators.iter().filter(|one| !one.is_dead) {
            assert!(activator.holds(uid), "{uid} is deleted while {activator:?} uses it");
        }
    }

    fn make_pod(&mut self) {
        self.pods_made += 1;
        let uid = format!("pod-{:04}", self.pods_made);
        self.born.insert(uid.clone(), self.now);
        self.set_pod(RevisionPod {
            name: format!("name-of-{uid}").into(),
            uid: uid.into(),
            is_pending: true,
            address: Some(([127, 0, 0, 1], 8080).into()),
            ..RevisionPod::default()
        });
    }

    fn delete_terminated(&mut self) {
        let gone: Vec<_> = self.pods.extract_if(.., |_, pod| pod.is_terminating).collect();
        for (uid, _) in gone {
            let revision = (*self.target.key).clone();
            self.step(FleetEvent::PodDeleted { revision, uid });
        }
    }

    /// A call to a pod: its mark follows, and its answer.
    pub(super) fn call(&mut self, call: StandbyCall) {
        let StandbyCall { key, uid, order, .. } = call.clone();
        self.calls.push(call);
        let is_marked = match order {
            StandbyOrder::Sleep => Some(true),
            StandbyOrder::Unmark => Some(false),
            StandbyOrder::SleepAgain | StandbyOrder::Stay | StandbyOrder::Wake => None,
        };
        let outcome = if is_marked.is_some() && self.marks == Marks::Refused {
            StandbyOutcome::NotTold
        } else if is_marked != Some(false) && !self.do_calls_succeed {
            StandbyOutcome::Failed("status 404".into())
        } else {
            StandbyOutcome::Done
        };
        if order.is_to_sleep() {
            let is_held = |one: &super::Activator| one.is_dead || one.holds(&uid);
            assert!(self.activators.iter().all(is_held), "{uid} is told to sleep in use");
        }
        if let (Some(is_asleep), Some(pod)) = (is_marked, self.pods.get(&*uid).cloned())
            && self.marks != Marks::Refused
        {
            let (is_asleep, slept) = (is_asleep && self.marks == Marks::Seen, Duration::ZERO);
            self.set_pod(RevisionPod { is_asleep, slept, ..pod });
        }
        if order != StandbyOrder::Stay {
            self.step(FleetEvent::Answered(StandbyAnswer { key, uid, order, outcome }));
        }
    }
}
