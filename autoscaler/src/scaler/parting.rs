//! The end of a revision here, and how much is kept of one until then.

use super::{RevisionScaler, Surroundings};
use crate::event::Action;
use crate::sizes::FleetSizes;

impl RevisionScaler {
    /// The action that ends a revision that is gone. Its last order stays in force: an activator
    /// whose watches are behind must not send requests to pods that end, or whose addresses others
    /// have by now.
    pub fn dismiss(self) -> Action {
        Action::Forget((*self.target.key).clone())
    }

    /// Gives a revision up that exists on under another autoscaler. Its pods would be drained for
    /// ever, for nobody gives another order.
    pub fn give_up(&mut self, around: &Surroundings<'_>) -> Vec<Action> {
        let is_drained = self.load.drained().next().is_some();
        if self.drain.order().1.is_empty() && !is_drained {
            return Vec::new();
        }
        self.drain.release(around.pods, around.order);
        vec![self.order()]
    }

    /// Adds what is kept of the revision.
    pub fn measure_size(&self, sizes: &mut FleetSizes) {
        sizes.reports += self.load.reports();
        sizes.named += self.load.named();
        let (leaving, gone) = self.drain.sizes();
        sizes.leaving += leaving;
        sizes.gone += gone;
    }
}
