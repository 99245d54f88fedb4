//! The order to the activators: the pods that must get no new request.

use ebb_api::report::OrderId;

use super::Drain;
use crate::pods::Pods;

impl Drain {
    /// The order last given: its number, and the UIDs of the pods that must get no new request.
    pub fn order(&self) -> (OrderId, &[String]) {
        (self.id, &self.ordered)
    }

    /// Whether the lower scale that the pod goes by was asked for.
    pub fn is_condemned(&self, uid: &str) -> bool {
        self.condemned.contains_key(uid)
    }

    /// Whether that order names a pod.
    pub fn is_ordered(&self, uid: &str) -> bool {
        self.ordered.binary_search_by(|ordered| ordered.as_str().cmp(uid)).is_ok()
    }

    /// Gives the last order another number; only an order that names no pod may get one.
    pub fn renumber(&mut self, id: OrderId) {
        debug_assert!(self.ordered.is_empty(), "pods wait for an answer to the old number");
        self.id = id;
    }

    /// Takes back every pod that is there to stay, by an order of this number. A condemned pod that
    /// Kubernetes has left alone so far is taken back as well: nobody will look after it here.
    pub fn release(&mut self, pods: &Pods, id: OrderId) {
        self.ordered.retain(|uid| pods.get(uid).is_none_or(|pod| pod.is_terminating));
        self.id = id;
    }

    /// Brings the order up to the pods' states; true if that makes a new one.
    pub(super) fn reorder(&mut self, id: OrderId) -> bool {
        let leaving = self.draining.keys().chain(self.condemned.keys());
        let resting = self.resting.iter().map(|(uid, _)| &**uid);
        let leaving = leaving.chain(&self.gone).map(String::as_str).chain(resting);
        let mut order: Vec<&str> = leaving.collect();
        order.sort_unstable();
        // A condemned pod that ends is among those that are gone as well.
        order.dedup();
        if order.iter().copied().eq(self.ordered.iter().map(String::as_str)) {
            return false;
        }
        self.ordered = order.into_iter().map(str::to_owned).collect();
        self.id = id;
        true
    }

    /// Takes note of a pod that is gone, if an activator named it in its last report; `named` is how
    /// many pods the reports name. No more are kept, so that what a standby keeps has the bound of
    /// the reports, although it makes no plans. The others are looked through only beyond that:
    /// once for each report at the most, be thousands lost in a moment.
    pub fn lose(&mut self, uid: &str, named: usize, is_named: impl Fn(&str) -> bool) {
        if is_named(uid) {
            self.gone.insert(uid.to_owned());
        }
        if self.gone.len() > named {
            self.gone.retain(|uid| is_named(uid));
        }
    }
}
