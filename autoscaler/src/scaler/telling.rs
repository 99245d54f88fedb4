//! What a revision tells: people by notices, and metrics by numbers.

use std::sync::Arc;

use super::{RevisionScaler, Surroundings};
use crate::event::{Action, Measures, RevisionNotice};
use crate::hold::Obstacle;
use crate::pods::PodCounts;

/// Reason of the Event about a scale that is held up.
const HELD: &str = "ScaleDownHeld";

impl RevisionScaler {
    /// The notice to people, if one is due.
    pub(super) fn notice(&mut self, around: &Surroundings<'_>) -> Option<Action> {
        let now = around.now.instant;
        let unheard = self.hold.is_held().then(|| around.activators.unheard(now)).flatten();
        let (hold, why) = match unheard {
            Some(unheard) => (&mut self.hold, Obstacle::Unheard(unheard)),
            None if self.blind.is_held() => (&mut self.blind, Obstacle::UnseenPods),
            None => return None,
        };
        let current = self.current.unwrap_or(0);
        hold.is_to_be_told(around.patience, now).then(|| {
            Action::Notice(Box::new(RevisionNotice {
                key: (*self.target.key).clone(),
                uid: self.target.uid.clone(),
                reason: HELD,
                note: hold.explain(current, &why),
            }))
        })
    }

    /// Shows the numbers for the metrics.
    pub fn measure(&self, pods: PodCounts) -> Action {
        let measures = Measures {
            metric: self.spec.metric,
            target: self.spec.target,
            desired: self.decided.map(|(_, decision)| decision.desired),
            requested: self.current.unwrap_or(0),
            averages: self.decided.map(|(averages, _)| averages),
            excess_burst: self.decided.map(|(_, decision)| decision.excess_burst),
            is_panicking: self.decided.is_some_and(|(_, decision)| decision.panicking),
            pods,
        };
        Action::Measure(Arc::clone(&self.target.key), measures)
    }
}
