//! Wanted, observed and last written scale of each Deployment: pure decisions of the scale loop.
//!
//! Invariants: at most one write of a Deployment is under way; an answered write is not repeated
//! because an older watch event arrives late; no write without both a wish and a Deployment.

use std::collections::HashMap;
use std::hash::Hash;

use ebb_api::resource_version::ResourceVersion;

/// The scale of a Deployment at a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Observed {
    /// `spec.replicas`.
    pub(crate) replicas: i32,
    /// The resource version.
    pub(crate) version: ResourceVersion,
}

/// A number to write, and the version of the Deployment that it follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScaleWrite {
    /// The new `spec.replicas`.
    pub(crate) replicas: i32,
    /// The newest version that is known.
    pub(crate) from: ResourceVersion,
}

/// A write, from its decision until the watch shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    /// None under way.
    None,
    /// Sent, not answered.
    Sent(i32),
    /// Answered with a version that the watch has not reached.
    Answered(Observed),
    /// Failed; the pause is not over.
    Resting,
}

#[derive(Debug)]
struct Page {
    desired: Option<i32>,
    observed: Option<Observed>,
    write: Write,
    failures: u32,
}

/// One page for each Deployment; bounded by the objects there are, for a page goes when both the
/// wish and the Deployment are gone.
#[derive(Debug)]
pub(crate) struct Ledger<Key> {
    pages: HashMap<Key, Page>,
}

// === impl Ledger ===

impl<Key> Default for Ledger<Key> {
    fn default() -> Self {
        Self { pages: HashMap::new() }
    }
}

impl<Key: Clone + Eq + Hash> Ledger<Key> {
    /// Notes the autoscaler's wish; returns what to write now, if any.
    pub(crate) fn desire(&mut self, key: &Key, desired: Option<i32>) -> Option<ScaleWrite> {
        self.on(key, |page| page.desired = desired)
    }

    /// Notes what the watch shows; returns what to write now, if any.
    pub(crate) fn observe(&mut self, key: &Key, observed: Option<Observed>) -> Option<ScaleWrite> {
        self.on(key, |page| {
            page.observed = observed;
            if let (Write::Answered(answered), Some(observed)) = (page.write, observed)
                && observed.version.shows(answered.version)
            {
                page.write = Write::None;
            }
        })
    }

    /// Notes that the write was answered; returns what to write next, if any.
    pub(crate) fn written(&mut self, key: &Key, version: ResourceVersion) -> Option<ScaleWrite> {
        self.on(key, |page| {
            page.failures = 0;
            if let Write::Sent(replicas) = page.write {
                let reached = page.observed.is_none_or(|seen| seen.version.surely_shows(version));
                page.write = if reached {
                    Write::None
                } else {
                    Write::Answered(Observed { replicas, version })
                };
            }
        })
    }

    /// Notes that the write found no Deployment.
    pub(crate) fn gone(&mut self, key: &Key) {
        self.on(key, |page| {
            page.observed = None;
            page.write = Write::None;
            page.failures = 0;
        });
    }

    /// Notes that the write failed; returns the number of failures in a row. Nothing is written
    /// until [`Self::rested`].
    pub(crate) fn failed(&mut self, key: &Key) -> u32 {
        self.pages.get_mut(key).map_or(1, |page| {
            page.write = Write::Resting;
            page.failures = page.failures.saturating_add(1);
            page.failures
        })
    }

    /// Ends the pause after a failure; returns what to write now, if any.
    pub(crate) fn rested(&mut self, key: &Key) -> Option<ScaleWrite> {
        self.on(key, |page| page.write = Write::None)
    }

    fn on(&mut self, key: &Key, change: impl FnOnce(&mut Page)) -> Option<ScaleWrite> {
        let page = self.pages.entry(key.clone()).or_insert(Page {
            desired: None,
            observed: None,
            write: Write::None,
            failures: 0,
        });
        change(page);
        let write = page.next_write();
        if let Some(ScaleWrite { replicas, .. }) = write {
            page.write = Write::Sent(replicas);
        }
        if page.desired.is_none() && page.observed.is_none() && page.write == Write::None {
            self.pages.remove(key);
        }
        write
    }
}

// === impl Page ===

impl Page {
    fn next_write(&self) -> Option<ScaleWrite> {
        let current = match self.write {
            Write::None => self.observed?,
            Write::Answered(answered) => {
                self.observed?;
                answered
            }
            Write::Sent(_) | Write::Resting => return None,
        };
        let replicas = self.desired.filter(|desired| *desired != current.replicas)?;
        Some(ScaleWrite { replicas, from: current.version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(replicas: i32, version: u128) -> Observed {
        Observed { replicas, version: version.into() }
    }

    fn to(write: Option<ScaleWrite>) -> Option<i32> {
        write.map(|write| write.replicas)
    }

    /// A write that the network held for long must not be carried out after those of another
    /// controller.
    #[test]
    fn a_write_follows_from_the_newest_version_that_is_known() {
        let mut ledger = Ledger::default();
        ledger.observe(&"a", Some(at(0, 5)));
        let write = |replicas, from: u128| Some(ScaleWrite { replicas, from: from.into() });
        assert_eq!(ledger.desire(&"a", Some(1)), write(1, 5));
        assert_eq!(ledger.written(&"a", 9.into()), None);
        assert_eq!(ledger.desire(&"a", Some(2)), write(2, 9), "the watch has not come so far");
        assert_eq!(ledger.failed(&"a"), 1);
        ledger.observe(&"a", Some(at(1, 11)));
        assert_eq!(ledger.rested(&"a"), write(2, 11));
    }

    #[test]
    fn an_activation_is_exactly_one_write() {
        let mut ledger = Ledger::default();
        assert_eq!(to(ledger.observe(&"a", Some(at(0, 5)))), None);
        assert_eq!(to(ledger.desire(&"a", Some(1))), Some(1));
        // The same wish again, and an older event, while the write is under way.
        assert_eq!(to(ledger.desire(&"a", Some(1))), None);
        assert_eq!(to(ledger.observe(&"a", Some(at(0, 6)))), None);
        assert_eq!(to(ledger.written(&"a", 9.into())), None);
        // A status event from before the write arrives late.
        assert_eq!(to(ledger.observe(&"a", Some(at(0, 7)))), None);
        assert_eq!(to(ledger.observe(&"a", Some(at(1, 9)))), None);
        assert_eq!(to(ledger.desire(&"a", Some(1))), None);
    }

    #[test]
    fn a_new_wish_during_a_write_follows_it() {
        let mut ledger = Ledger::default();
        ledger.observe(&"a", Some(at(0, 1)));
        assert_eq!(to(ledger.desire(&"a", Some(1))), Some(1));
        assert_eq!(to(ledger.desire(&"a", Some(4))), None);
        assert_eq!(to(ledger.written(&"a", 2.into())), Some(4));
        assert_eq!(to(ledger.observe(&"a", Some(at(1, 2)))), None);
        assert_eq!(to(ledger.written(&"a", 3.into())), None);
        assert_eq!(to(ledger.observe(&"a", Some(at(4, 3)))), None);
    }

    #[test]
    fn what_somebody_else_set_is_set_back() {
        let mut ledger = Ledger::default();
        ledger.observe(&"a", Some(at(1, 1)));
        assert_eq!(to(ledger.desire(&"a", Some(1))), None);
        assert_eq!(to(ledger.observe(&"a", Some(at(7, 2)))), Some(1));
    }

    /// An answer without a version once counted as newer than all that the watch can show, for
    /// ever.
    #[test]
    fn an_answer_without_a_version_does_not_outlast_what_the_watch_shows() {
        let mut ledger = Ledger::default();
        ledger.observe(&"a", Some(at(0, 1)));
        assert_eq!(to(ledger.desire(&"a", Some(1))), Some(1));
        assert_eq!(
            to(ledger.written(&"a", ResourceVersion::default())),
            None,
            "not repeated at once"
        );
        assert_eq!(to(ledger.observe(&"a", Some(at(7, 3)))), Some(1), "set back");
    }

    #[test]
    fn an_event_that_overtakes_its_answer_does_not_repeat_the_write() {
        let mut ledger = Ledger::default();
        ledger.observe(&"a", Some(at(0, 1)));
        assert_eq!(to(ledger.desire(&"a", Some(1))), Some(1));
        assert_eq!(to(ledger.observe(&"a", Some(at(1, 2)))), None);
        assert_eq!(to(ledger.written(&"a", 2.into())), None);
    }

    #[test]
    fn a_failure_rests_and_then_writes_what_is_wanted_by_then() {
        let mut ledger = Ledger::default();
        ledger.observe(&"a", Some(at(0, 1)));
        assert_eq!(to(ledger.desire(&"a", Some(1))), Some(1));
        assert_eq!(ledger.failed(&"a"), 1);
        assert_eq!(to(ledger.desire(&"a", Some(2))), None);
        assert_eq!(to(ledger.rested(&"a")), Some(2));
        assert_eq!(ledger.failed(&"a"), 2);
        assert_eq!(to(ledger.rested(&"a")), Some(2));
        ledger.written(&"a", 3.into());
        assert_eq!(ledger.failed(&"a"), 1);
    }

    #[test]
    fn without_a_wish_or_a_deployment_nothing_is_written_or_kept() {
        let mut ledger = Ledger::default();
        assert_eq!(to(ledger.desire(&"a", Some(1))), None);
        assert_eq!(to(ledger.desire(&"a", None)), None);
        assert_eq!(to(ledger.observe(&"b", Some(at(3, 1)))), None);
        assert_eq!(to(ledger.desire(&"b", Some(0))), Some(0));
        ledger.gone(&"b");
        assert_eq!(to(ledger.desire(&"b", None)), None);
        assert!(ledger.pages.is_empty());
    }
}
