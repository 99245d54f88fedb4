//! Holds small changes of a scale back until they last.
//!
//! The load that a window averages is never at rest: requests that come at random move a mean of
//! five replicas' worth across the next whole number and back some 138 times an hour, each time for
//! two writes, a pod that starts and one that ends. Knative follows each. Here a small change has
//! to be asked for without a break for a while first. The while is bounded, so that a lasting
//! change is followed a little later and nothing else is different.
//!
//! Never held back: the way to zero and from it, a raise while a request waits or the panic window
//! rules, and every change that is not small. So no request waits longer for this, and no replica
//! is kept for longer than half a window.

use std::time::Duration;

use tokio::time::Instant;

/// How long a small cut must have been asked for, as a part of the stable window: 30 s of Knative's
/// 60. A replica that is needed again within that time would have been deleted for nothing.
const LOWER_PART: u32 = 2;
/// The same for a small raise: 6 s, or three decisions. Such a raise is a tenth of the scale at
/// most, for which the share of a replica that is kept free by default (30 %) has room.
const RAISE_PART: u32 = 10;
/// A change is small up to the scale divided by this; a cut of one replica always is.
const SMALL_PART: u32 = 10;

/// A small change that is held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steadiness {
    /// Whether it is a raise, and since when it is asked for.
    held: Option<(bool, Instant)>,
}

/// A scale that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The scale.
    pub want: u32,
    /// The present scale.
    pub current: u32,
    /// Whether a raise cannot wait.
    pub is_pressing: bool,
    /// The stable window.
    pub window: Duration,
    /// The present.
    pub now: Instant,
}

// === impl Steadiness ===

impl Steadiness {
    /// The scale to aim at.
    pub fn settle(&mut self, wish: &Wish) -> u32 {
        let Wish { want, current, is_pressing, window, now } = *wish;
        let is_raise = want > current;
        let small = if is_raise { current / SMALL_PART } else { (current / SMALL_PART).max(1) };
        let is_free = want == 0 || want.abs_diff(current) > small || (is_raise && is_pressing);
        if want == current || is_free {
            self.held = None;
            return want;
        }
        let since = match self.held {
            Some((direction, since)) if direction == is_raise => since,
            _ => now,
        };
        self.held = Some((is_raise, since));
        let after = window / if is_raise { RAISE_PART } else { LOWER_PART };
        if now.saturating_duration_since(since) < after {
            return current;
        }
        want
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ebb_api::config::Config;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;
    use crate::decision::{Averages, Decider};
    use crate::spec::ScalingSpec;
    use crate::window::{Aggregation, Window};

    fn wish(want: u32, current: u32, now: Instant) -> Wish {
        Wish { want, current, is_pressing: false, window: Duration::from_mins(1), now }
    }

    fn settle(steady: &mut Steadiness, want: u32, current: u32, at: Instant) -> u32 {
        steady.settle(&wish(want, current, at))
    }

    #[test]
    fn a_small_cut_is_followed_once_it_lasts() {
        let (start, mut steady) = (Instant::now(), Steadiness::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(settle(&mut steady, 4, 5, at(0)), 5);
        assert_eq!(settle(&mut steady, 4, 5, at(29)), 5);
        assert_eq!(settle(&mut steady, 5, 5, at(29)), 5, "a moment's break begins it anew");
        assert_eq!(settle(&mut steady, 4, 5, at(30)), 5);
        assert_eq!(settle(&mut steady, 4, 5, at(60)), 4);
        assert_eq!(settle(&mut steady, 4, 5, at(61)), 4, "and stays followed while pods drain");
    }

    #[test]
    fn a_large_or_pressing_change_is_followed_at_once() {
        let (now, mut steady) = (Instant::now(), Steadiness::default());
        // (want, current, pressing, aim)
        for (want, current, is_pressing, aim) in [
            (0, 1, false, 0),
            (0, 7, false, 0),
            (1, 0, false, 1),
            (3, 5, false, 3),
            (4, 5, false, 5),
            (6, 5, false, 6),
            (90, 100, false, 100),
            (89, 100, false, 89),
            (110, 100, false, 100),
            (110, 100, true, 110),
            (111, 100, false, 111),
            (90, 100, true, 100),
        ] {
            let wish = Wish { is_pressing, ..wish(want, current, now) };
            assert_eq!(steady.settle(&wish), aim, "{want} of {current}");
        }
        assert_eq!(settle(&mut steady, 110, 100, now), 100);
        assert_eq!(settle(&mut steady, 110, 100, now + Duration::from_secs(6)), 110);
    }

    /// Requests at once, at random around a mean.
    fn poisson(random: &mut StdRng, mean: f64) -> f64 {
        let (limit, mut product, mut count) = ((-mean).exp(), 1.0, 0.0);
        loop {
            product *= random.random::<f64>();
            if product <= limit {
                return count;
            }
            count += 1.0;
        }
    }

    /// Changes of the scale in an hour of steady load, with and without holding back.
    fn changes(mean: f64) -> (u32, u32) {
        let annotations =
            BTreeMap::from([("autoscaling.knative.dev/target".to_owned(), "1".to_owned())]);
        let spec = ScalingSpec::resolve(0, true, &annotations, &Config::default());
        let mut random = StdRng::seed_from_u64(11);
        let start = Instant::now();
        let (mut deciders, mut scales) = ([(); 2].map(|()| Decider::new(5, start)), [5_u32; 2]);
        let (mut steady, mut counts) = (Steadiness::default(), [0, 0]);
        let mut window = Window::new(60);
        for second in 0..3660_u64 {
            window.record(second, poisson(&mut random, mean));
            if second < 60 || second % 2 == 1 {
                continue;
            }
            let now = start + Duration::from_secs(second);
            let average = |span| window.average(Aggregation::Linear, second, span).unwrap();
            let averages = Averages { stable: average(60), panic: average(6) };
            for index in 0..2 {
                let decision = deciders[index].decide(averages, scales[index], &spec, now);
                let want = decision.desired;
                let aim = match index {
                    0 => want,
                    _ => steady.settle(&Wish {
                        is_pressing: decision.panicking,
                        ..wish(want, scales[index], now)
                    }),
                };
                counts[index] += u32::from(aim != scales[index]);
                scales[index] = aim;
            }
        }
        (counts[0], counts[1])
    }

    /// A decision that lasts no longer than its write is not worth one.
    #[test]
    fn steady_load_makes_few_writes() {
        for mean in [3.5, 35.0] {
            let (before, after) = changes(mean);
            println!("mean {mean}: {before} changes in an hour as Knative, {after} as here");
            assert!(before > 100 && after * 3 < before, "{mean}: {before} and {after}");
        }
    }
}
