//! The clocks and the random bytes of a process that is simulated: both come from a seed.
//!
//! A program asks the C library for the time and for random bytes, in Ebb's own code and deep in
//! other crates: keys of hash maps, UIDs, jitter, time stamps. This crate defines the functions
//! `clock_gettime`, `getrandom` and `getentropy` itself, so that the linker takes them instead of
//! the C library's. Before [`wind`] they answer as the kernel does; after it, random bytes come
//! from the seed, and the time is that of tokio's clock, which a simulation has paused.
//!
//! The crate `mad-turmoil` does the same for simulations that are built on turmoil, and takes the
//! time from there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::runtime::Handle;
use tokio::time::Instant;

mod symbols;

/// The time at which every simulation begins, in seconds since 1970: 2026-01-01, 00:00 UTC.
pub const BEGIN_S: u64 = 1_767_225_600;
/// What a monotonic clock shows at the beginning: never less than any timeout that is subtracted.
const MONOTONIC_S: u64 = 1_000_000;

static WORKS: OnceLock<Works> = OnceLock::new();
/// How far the wall clock is off, in nanoseconds.
static SKEW_NS: AtomicI64 = AtomicI64::new(0);

struct Works {
    random: Mutex<SmallRng>,
    /// Tokio's clock when the simulation began; set by the first look at it within a runtime.
    begin: OnceLock<Instant>,
}

/// From now on random bytes come from `seed` and time from tokio's clock, in the whole process and
/// until it ends. To be called before anything draws a random number, and once.
///
/// # Errors
///
/// The seed, if it was called before.
pub fn wind(seed: u64) -> Result<(), u64> {
    let random = Mutex::new(SmallRng::seed_from_u64(seed));
    WORKS.set(Works { random, begin: OnceLock::new() }).map_err(|_| seed)
}

/// Sets the wall clock forwards or backwards, from wherever it is: going as far the other way is
/// right again, whatever else was set meanwhile. Monotonic clocks do not notice.
pub fn skew(by: Duration, is_ahead: bool) {
    let off = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
    SKEW_NS.fetch_add(if is_ahead { off } else { -off }, Ordering::Relaxed);
}

/// The time since the simulation began; nothing outside of a tokio runtime.
pub fn elapsed() -> Duration {
    WORKS.get().map(Works::elapsed).unwrap_or_default()
}

/// The time since a moment of the simulation, which [`elapsed`] told.
pub fn since(moment: Duration) -> Duration {
    elapsed().saturating_sub(moment)
}

impl Works {
    fn elapsed(&self) -> Duration {
        // Outside of a runtime tokio's clock would be the machine's.
        if Handle::try_current().is_err() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        now.saturating_duration_since(*self.begin.get_or_init(|| now))
    }

    /// The wall clock, since 1970.
    fn wall(&self) -> Duration {
        let true_time = Duration::from_secs(BEGIN_S) + self.elapsed();
        let off = SKEW_NS.load(Ordering::Relaxed);
        let by = Duration::from_nanos(off.unsigned_abs());
        if off < 0 { true_time.saturating_sub(by) } else { true_time + by }
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(MONOTONIC_S) + self.elapsed()
    }
}
