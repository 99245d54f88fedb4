//! The table of revisions and their pods: found by name for events from outside, by number for what
//! happens thousands of times a second.

use std::collections::BTreeMap;

use ebb_api::report::RevisionKey;

use crate::pods::Pods;
use crate::scaler::RevisionScaler;

/// The number of a place; used again once nothing is left in the place.
pub(super) type Id = u32;

/// All places. There is one for each name that has a revision or pods.
#[derive(Debug, Default)]
pub(super) struct Table {
    ids: BTreeMap<RevisionKey, Id>,
    places: Vec<Place>,
    free: Vec<Id>,
    revisions: usize,
}

/// The revision and the pods of one name: pods may be heard of before their revision.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) revision: Option<RevisionScaler>,
    pub(super) pods: Pods,
}

// === impl Table ===

impl Table {
    pub(super) fn id(&self, key: &RevisionKey) -> Option<Id> {
        self.ids.get(key).copied()
    }

    /// The place of that name, made if need be.
    pub(super) fn open(&mut self, key: &RevisionKey) -> Id {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            Id::try_from(self.places.len() - 1).unwrap_or(Id::MAX)
        });
        self.ids.insert(key.clone(), id);
        id
    }

    /// Gives the place of that name back if nothing is there any more.
    pub(super) fn close(&mut self, key: &RevisionKey) {
        let place = self.id(key).map(|id| (id, self.at(id)));
        if let Some((id, place)) = place
            && place.revision.is_none()
            && place.pods.is_empty()
        {
            self.ids.remove(key);
            self.free.push(id);
        }
    }

    pub(super) fn at(&self, id: Id) -> &Place {
        &self.places[index(id)]
    }

    pub(super) fn at_mut(&mut self, id: Id) -> &mut Place {
        &mut self.places[index(id)]
    }

    pub(super) fn revision(&self, key: &RevisionKey) -> Option<&RevisionScaler> {
        self.at(self.id(key)?).revision.as_ref()
    }

    /// How many revisions there are.
    pub(super) fn len(&self) -> usize {
        self.revisions
    }

    pub(super) fn insert(&mut self, revision: RevisionScaler) -> Id {
        let id = self.open(&revision.target().key);
        let before = self.at_mut(id).revision.replace(revision);
        self.revisions += usize::from(before.is_none());
        id
    }

    /// Takes the revision of that name out, with the number it had.
    pub(super) fn remove(&mut self, key: &RevisionKey) -> Option<(Id, RevisionScaler)> {
        let id = self.id(key)?;
        let revision = self.at_mut(id).revision.take()?;
        self.revisions -= 1;
        self.close(key);
        Some((id, revision))
    }

    pub(super) fn revisions_mut(&mut self) -> impl Iterator<Item = &mut RevisionScaler> {
        self.places.iter_mut().filter_map(|place| place.revision.as_mut())
    }

    /// Takes out all pods, by the name of their revision.
    pub(super) fn take_pods(&mut self) -> Vec<(RevisionKey, Pods)> {
        let keys: Vec<_> = self.ids.keys().cloned().collect();
        let mut taken = Vec::new();
        for key in keys {
            if let Some(id) = self.id(&key) {
                let pods = std::mem::take(&mut self.at_mut(id).pods);
                self.close(&key);
                if !pods.is_empty() {
                    taken.push((key, pods));
                }
            }
        }
        taken
    }

    /// The numbers of all places, in the order of their names: equal runs stay equal.
    pub(super) fn ids(&self) -> Vec<Id> {
        self.ids.values().copied().collect()
    }

    /// All places, in the order of their names.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.ids.values().map(|id| self.at(*id))
    }

    /// The names that have a revision.
    pub(super) fn keys(&self) -> impl Iterator<Item = &RevisionKey> {
        self.ids.iter().filter(|(_, id)| self.at(**id).revision.is_some()).map(|(key, _)| key)
    }
}

fn index(id: Id) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use ebb_api::config::Config;
    use tokio::time::Instant;

    use super::*;
    use crate::event::Moment;
    use crate::pods::RevisionPod;
    use crate::scale_target::ScaleTarget;

    #[test]
    fn a_place_lasts_as_long_as_its_revision_or_its_pods() {
        let key = |name: &str| RevisionKey::new("models", name);
        let now = Moment { instant: Instant::now(), second: 0 };
        let revision = |name: &str| {
            let target = ScaleTarget { key: key(name).into(), ..ScaleTarget::default() };
            RevisionScaler::new(target, &Config::default(), now)
        };
        let mut table = Table::default();
        let a = table.open(&key("a"));
        table.at_mut(a).pods.insert(RevisionPod { uid: "p".into(), ..RevisionPod::default() });
        assert_eq!((table.insert(revision("a")), table.len(), table.keys().count()), (a, 1, 1));
        assert_eq!(table.remove(&key("a")).map(|(id, _)| id), Some(a));
        assert_eq!((table.id(&key("a")), table.len(), table.keys().count()), (Some(a), 0, 0));
        let taken = table.take_pods();
        assert_eq!(taken.len(), 1);
        assert_eq!((table.id(&key("a")), table.ids()), (None, Vec::new()));
        assert_eq!(table.insert(revision("b")), a, "its number is used again");
        assert!(table.at(a).pods.is_empty());
    }
}
