//! The source of chance: one seed for a whole world, printed so that a run can be repeated.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// Chance, from a seed. Cheap to clone: clones draw from the same sequence.
#[derive(Clone)]
pub(crate) struct Chance(Arc<Mutex<SmallRng>>);

/// Seeds for so many worlds: `EBB_SEED`, or `otherwise`, and the numbers after it. Prints them.
pub(crate) fn from_environment(otherwise: u64, worlds: usize) -> impl Iterator<Item = u64> {
    let seed = std::env::var("EBB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(otherwise);
    println!("EBB_SEED={seed} and the numbers after it, {worlds} in all");
    (seed..).take(worlds)
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    /// A duration between the two, to the microsecond.
    pub(crate) fn between(&self, least_ms: u64, most_ms: u64) -> Duration {
        let micros = self.0.lock().random_range(least_ms * 1000..=most_ms * 1000);
        Duration::from_micros(micros)
    }

    /// True once in `n` on average.
    pub(crate) fn one_in(&self, n: u32) -> bool {
        self.0.lock().random_range(0..n) == 0
    }
}
