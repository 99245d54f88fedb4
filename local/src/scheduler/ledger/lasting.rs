//! What will never change by itself: pure.

use std::collections::BTreeMap;

use ebb_api::pod::{Amounts, MEMORY};
use ebb_api::quantity;

use super::Ledger;

impl Ledger {
    /// Why there will never be room for that much.
    pub(super) fn lasting(&self, needed: &Amounts) -> Option<String> {
        let (resource, amount) =
            needed.0.iter().find(|(resource, amount)| **amount > self.capacity(resource))?;
        let there = self.capacity(resource);
        Some(if resource == MEMORY {
            format!(
                "the pod asks for {} of memory, and there are {}: ask for less, or start ebb with a \
                 larger --memory",
                quantity::bytes(*amount),
                quantity::bytes(there)
            )
        } else {
            format!(
                "the pod asks for {amount} of {resource}, and there are {there}: start ebb with \
                 --devices {resource}={amount} if this machine has them, or ask for less"
            )
        })
    }

    /// Whether that much can be free while nobody changes a model: replicas that `min-scale` keeps stay.
    pub(super) fn is_within_reach(&self, needed: &Amounts) -> bool {
        needed.0.iter().all(|(resource, amount)| {
            self.capacity(resource).saturating_sub(self.kept(resource)) >= *amount
        })
    }

    /// How much of a resource stays taken: of each model as many replicas as it always has, those that
    /// hold the least.
    fn kept(&self, resource: &str) -> u64 {
        let mut models: BTreeMap<&str, (u32, Vec<u64>)> = BTreeMap::new();
        for held in self.held.values().map(|it| &it.placed.ask).filter(|ask| !ask.is_ending) {
            let Some(model) = held.model.as_deref().filter(|_| held.min_scale > 0) else {
                continue;
            };
            let (min_scale, amounts) = models.entry(model).or_default();
            *min_scale = held.min_scale;
            amounts.push(held.amounts.of(resource));
        }
        let kept = models.into_values().flat_map(|(min_scale, mut amounts)| {
            amounts.sort_unstable();
            amounts.truncate(usize::try_from(min_scale).unwrap_or(usize::MAX));
            amounts
        });
        kept.fold(0, u64::saturating_add)
    }

    pub(super) fn capacity(&self, resource: &str) -> u64 {
        match resource {
            MEMORY => self.capacity.memory.unwrap_or(u64::MAX),
            _ => self.capacity.devices.get(resource).copied().unwrap_or(0),
        }
    }
}
