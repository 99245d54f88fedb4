//! So many of something a minute.
//!
//! The generic cell rate algorithm: all that is kept is the moment at which nothing is used any more.
//! A minute's worth may be used at once; what was used comes back evenly.
//!
//! Not the crate `governor`, which has the same algorithm: there a use is allowed or not before it
//! happens, and one larger than a whole minute's worth is an error. What an answer costs is known only
//! after it, and has to be taken whatever is left, so that there are debts. It reads its clock itself,
//! too, where this takes `now`.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_mins(1);
/// Longest time for which a debt keeps others out. A server that says what cannot be, such as 10¹⁸
/// tokens, must not lock a key for ever.
const DEBT_MAX: Duration = Duration::from_hours(1);

/// What is used of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Used {
    /// When all of it has come back; `None` before the first use.
    gone: Option<Instant>,
}

/// A rate, or the part of it that is given out here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    per_minute: NonZeroU32,
    /// Among how many it is divided.
    parts: NonZeroU32,
}

// === impl Rate ===

impl Rate {
    /// `per_minute`, divided among `parts`, which are at most some hundreds.
    pub(crate) const fn new(per_minute: NonZeroU32, parts: NonZeroU32) -> Self {
        Self { per_minute, parts }
    }

    /// How long until one more is there; `None` when one is. Of a part that is less than one a minute
    /// there is one at the beginning.
    pub(crate) fn wait(self, used: Used, now: Instant) -> Option<Duration> {
        let one = self.time_of(1);
        let room = MINUTE.max(one);
        let behind = used.gone.map_or(Duration::ZERO, |gone| gone.saturating_duration_since(now));
        let wait = (behind + one).saturating_sub(room);
        (!wait.is_zero()).then_some(wait)
    }

    /// Takes `count`, whether they are there or not.
    pub(crate) fn take(self, used: &mut Used, count: u64, now: Instant) {
        let from = used.gone.map_or(now, |gone| gone.max(now));
        let latest = now + MINUTE.max(self.time_of(1)) + DEBT_MAX;
        used.gone = Some((from + self.time_of(count)).min(latest));
    }

    /// The time in which so many come back, as far as it matters.
    fn time_of(self, count: u64) -> Duration {
        let minutes = u128::from(count) * u128::from(self.parts.get());
        // A count has 64 bits, the rest 32 and 36: the product fits into 128 with none to spare.
        let nanos = minutes.saturating_mul(MINUTE.as_nanos()) / u128::from(self.per_minute.get());
        let most = (MINUTE * self.parts.get()).max(MINUTE + DEBT_MAX);
        u64::try_from(nanos).map_or(most, |nanos| Duration::from_nanos(nanos).min(most))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_minute: u32, parts: u32) -> Rate {
        Rate::new(per_minute.try_into().unwrap(), parts.try_into().unwrap())
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_minutes_worth_is_there_at_once_and_comes_back_evenly() {
        let (rate, mut used, now) = (rate(60, 1), Used::default(), Instant::now());
        for _ in 0..60 {
            assert_eq!(rate.wait(used, now), None);
            rate.take(&mut used, 1, now);
        }
        assert_eq!(rate.wait(used, now), Some(seconds(1.0)));
        assert_eq!(rate.wait(used, now + seconds(0.25)), Some(seconds(0.75)));
        assert_eq!(rate.wait(used, now + seconds(1.0)), None);
        rate.take(&mut used, 1, now + seconds(1.0));
        assert_eq!(rate.wait(used, now + seconds(1.0)), Some(seconds(1.0)));
        assert_eq!(rate.wait(used, now + seconds(3600.0)), None);
    }

    #[test]
    fn a_debt_is_paid_before_anything_is_given() {
        let (rate, mut used, now) = (rate(600, 1), Used::default(), Instant::now());
        rate.take(&mut used, 599, now);
        assert_eq!(rate.wait(used, now), None, "one is left");
        rate.take(&mut used, 1201, now);
        assert_eq!(rate.wait(used, now), Some(seconds(120.1)), "1,200 are owed");
        rate.take(&mut used, u64::MAX, now);
        let wait = rate.wait(used, now).unwrap();
        assert!(wait <= DEBT_MAX + seconds(0.1), "{wait:?}");
        assert_eq!(rate.wait(used, now + DEBT_MAX + seconds(0.1)), None);
    }

    #[test]
    fn a_part_is_a_part_of_what_comes_back_and_of_what_is_there() {
        let (rate_of_two, mut used, now) = (rate(60, 2), Used::default(), Instant::now());
        for _ in 0..30 {
            assert_eq!(rate_of_two.wait(used, now), None);
            rate_of_two.take(&mut used, 1, now);
        }
        assert_eq!(rate_of_two.wait(used, now), Some(seconds(2.0)));
        let (less_than_one, mut used) = (rate(1, 256), Used::default());
        assert_eq!(less_than_one.wait(used, now), None);
        less_than_one.take(&mut used, 1, now);
        assert_eq!(less_than_one.wait(used, now), Some(seconds(256.0 * 60.0)));
        for (most, parts) in [(u32::MAX, 1), (1, 256), (u32::MAX, 256)] {
            let mut used = Used::default();
            rate(most, parts).take(&mut used, u64::MAX, now);
            assert!(rate(most, parts).wait(used, now).is_some(), "{most} {parts}");
        }
    }

    proptest! {
        /// Whatever comes when, no more is given in any time than a minute's worth and what comes back
        /// in that time; and who waits as long as was said gets one.
        #[test]
        fn no_more_is_given_than_was_promised(
            per_minute in 1_u32..500,
            pauses in prop::collection::vec(0_u64..5000, 1..300),
        ) {
            let (rate, mut used, begin) = (rate(per_minute, 1), Used::default(), Instant::now());
            let (mut now, mut given) = (begin, 0_u32);
            for pause in pauses {
                now += Duration::from_millis(pause);
                match rate.wait(used, now) {
                    None => {
                        rate.take(&mut used, 1, now);
                        given += 1;
                    }
                    Some(wait) => prop_assert_eq!(rate.wait(used, now + wait), None),
                }
                let back = (now - begin).as_secs_f64() / 60.0 * f64::from(per_minute);
                prop_assert!(f64::from(given) <= f64::from(per_minute) + back + 1e-3);
            }
        }
    }
}
