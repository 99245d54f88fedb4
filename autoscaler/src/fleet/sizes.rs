//! How much is kept of all revisions.

use super::Fleet;
use crate::sizes::FleetSizes;

impl Fleet {
    /// How much is kept here. `writing` stays 0: the writer knows it, and is not a part of this.
    pub fn sizes(&self) -> FleetSizes {
        let mut sizes = FleetSizes {
            revisions: self.table.len(),
            reporters: self.activators.len(),
            ..FleetSizes::default()
        };
        for place in self.table.places() {
            sizes.names += 1;
            sizes.pods += place.pods.len();
            if let Some(revision) = &place.revision {
                revision.measure_size(&mut sizes);
            }
        }
        sizes
    }
}
