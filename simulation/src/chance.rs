//! The source of chance of one world: one seed, drawn from in a fixed order.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// Chance, from a seed. Cheap to clone: clones draw from the same sequence.
#[derive(Clone)]
pub(crate) struct Chance(Arc<Mutex<SmallRng>>);

impl Chance {
    /// A sequence of its own for each seed and purpose, so that a change of the plan's code does not
    /// change what the network does.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mixed = seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(Arc::new(Mutex::new(SmallRng::seed_from_u64(mixed))))
    }

    /// A duration between the two, to the microsecond.
    pub(crate) fn between(&self, least_ms: u64, most_ms: u64) -> Duration {
        let micros = self.0.lock().random_range(least_ms * 1000..=most_ms * 1000);
        Duration::from_micros(micros)
    }

    /// A number of `0..n`.
    pub(crate) fn below(&self, n: usize) -> usize {
        self.0.lock().random_range(0..n)
    }

    /// True once in `n` on average.
    pub(crate) fn one_in(&self, n: u32) -> bool {
        self.0.lock().random_range(0..n) == 0
    }

    /// One of several things.
    pub(crate) fn pick<'a, T>(&self, things: &'a [T]) -> &'a T {
        things.choose(&mut *self.0.lock()).expect("there is something to choose")
    }

    /// One of several things, each as often as its weight says.
    pub(crate) fn weighted<'a, T>(&self, things: &'a [(u32, T)]) -> &'a T {
        let total: u32 = things.iter().map(|(weight, _)| weight).sum();
        let mut left = self.0.lock().random_range(0..total);
        for (weight, thing) in things {
            if left < *weight {
                return thing;
            }
            left -= weight;
        }
        unreachable!("the weights add up")
    }
}
