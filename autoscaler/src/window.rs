//! A sliding window of one-second buckets, and the two averages Knative knows.
//!
//! A bucket without a value is *missing*, not zero: it counts neither in the sum nor in the
//! divisor, so that a gap in the reports never lowers an average. (Knative reads a gap inside the
//! window as zeros.) Formulae: knative/serving pkg/autoscaler/aggregation/bucketing.go.
//!
//! Invariants: at most `seconds` buckets are held; every value in one is finite or `MISSING`.

use std::collections::VecDeque;

/// Averages are rounded to this many steps in a unit, as in Knative (`precision = 6` digits): a
/// sum of thirds must not ask for one replica more than the exact value would.
const ROUNDING: f64 = 1e6;
/// Share of the whole weight that lies outside the window (Knative's `1 - 0.9999`).
const WEIGHT_OUTSIDE: f64 = 1.0 - 0.9999;
/// Smallest weight of the newest bucket (Knative's `minExponent`).
const WEIGHT_MIN: f64 = 0.2;

/// The value of an empty bucket: half as large as an `Option`, and there are sixty buckets for each
/// of thousands of revisions.
const MISSING: f64 = f64::NAN;

/// How the buckets of a window become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// The mean.
    #[default]
    Linear,
    /// Newer buckets count more; the weights fall geometrically.
    WeightedExponential,
}

/// The last seconds of one metric of one revision.
#[derive(Debug)]
pub struct Window {
    seconds: usize,
    /// Oldest first; empty until the first value, so that a sleeping revision costs nothing.
    buckets: VecDeque<f64>,
    /// The second of the last bucket.
    newest: u64,
}

// === impl Window ===

impl Window {
    /// A window of that many seconds, at least one.
    pub fn new(seconds: usize) -> Self {
        Self { seconds: seconds.max(1), buckets: VecDeque::new(), newest: 0 }
    }

    /// Changes the length and keeps the newest buckets.
    pub fn resize(&mut self, seconds: usize) {
        self.seconds = seconds.max(1);
        let surplus = self.buckets.len().saturating_sub(self.seconds);
        self.buckets.drain(..surplus);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets.clear();
    }

    /// Sets the bucket of `second`. A value that is not finite, or older than the window, is
    /// ignored.
    pub fn record(&mut self, second: u64, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.buckets.is_empty() {
            self.newest = second;
            self.buckets.push_back(value);
            return;
        }
        if second <= self.newest {
            let back = usize::try_from(self.newest - second).unwrap_or(usize::MAX);
            if let Some(index) = self.buckets.len().checked_sub(back.saturating_add(1)) {
                self.buckets[index] = value;
            }
            return;
        }
        let gap = usize::try_from(second - self.newest - 1).unwrap_or(usize::MAX);
        if gap >= self.seconds {
            self.buckets.clear();
        } else {
            self.buckets.extend(std::iter::repeat_n(MISSING, gap));
        }
        self.buckets.push_back(value);
        self.newest = second;
        let surplus = self.buckets.len().saturating_sub(self.seconds);
        self.buckets.drain(..surplus);
    }

    /// The newest second that has a value.
    pub fn newest(&self) -> Option<u64> {
        (!self.buckets.is_empty()).then_some(self.newest)
    }

    /// The average of the `span` seconds that end with `second`; `None` if none has a value.
    pub fn average(&self, aggregation: Aggregation, second: u64, span: usize) -> Option<f64> {
        let span = span.clamp(1, self.seconds);
        match aggregation {
            Aggregation::Linear => self.linear(second, span),
            Aggregation::WeightedExponential => self.weighted(second, span),
        }
    }

    fn linear(&self, second: u64, span: usize) -> Option<f64> {
        let mut sum = 0.0;
        let mut valid = 0.0;
        for value in self.values(second, span) {
            sum += value;
            valid += 1.0;
        }
        (valid > 0.0).then(|| round(sum / valid))
    }

    /// Not normalised: a window with few values reads low, exactly as in Knative.
    fn weighted(&self, second: u64, span: usize) -> Option<f64> {
        let share = smoothing(span);
        let mut weight = share;
        let mut sum = None;
        for value in self.values(second, span) {
            *sum.get_or_insert(0.0) += value * weight;
            weight *= 1.0 - share;
        }
        sum
    }

    /// The values of the `span` seconds that end with `second`, newest first. Cut out as a range
    /// first: this runs over a minute of buckets for each decision.
    fn values(&self, second: u64, span: usize) -> impl Iterator<Item = f64> {
        let length = self.buckets.len();
        let later = usize::try_from(self.newest.saturating_sub(second)).unwrap_or(usize::MAX);
        let earlier = usize::try_from(second.saturating_sub(self.newest)).unwrap_or(usize::MAX);
        let end = length.saturating_sub(later);
        let start = end.saturating_sub(span.saturating_sub(earlier));
        self.buckets.range(start..end).rev().copied().filter(|value| !value.is_nan())
    }
}

/// Weight of the newest of `span` buckets.
#[allow(clippy::cast_precision_loss, reason = "a span is at most an hour")]
fn smoothing(span: usize) -> f64 {
    (1.0 - WEIGHT_OUTSIDE.powf(1.0 / span as f64)).max(WEIGHT_MIN)
}

fn round(value: f64) -> f64 {
    let scaled = value * ROUNDING;
    // Beyond the range of exact integers rounding would only lose digits, and could overflow.
    if scaled.is_finite() { scaled.round() / ROUNDING } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Values = &'static [(u64, f64)];

    const LINEAR: Aggregation = Aggregation::Linear;

    fn window(seconds: usize, values: &[(u64, f64)]) -> Window {
        let mut window = Window::new(seconds);
        for (second, value) in values {
            window.record(*second, *value);
        }
        window
    }

    #[test]
    fn the_linear_average_divides_by_the_seconds_that_have_a_value() {
        // (values, now, span, expected)
        let cases: [(Values, u64, usize, Option<f64>); 7] = [
            (&[], 5, 60, None),
            // (10 + 20) / 2
            (&[(1, 10.0), (2, 20.0)], 2, 60, Some(15.0)),
            // Second 2 is missing: (10 + 20) / 2, not / 3.
            (&[(1, 10.0), (3, 20.0)], 3, 60, Some(15.0)),
            // Span 2 at second 4 covers 3 and 4.
            (&[(1, 90.0), (3, 6.0), (4, 4.0)], 4, 2, Some(5.0)),
            // Nothing was written for two seconds: the span 4..=5 has no value.
            (&[(2, 8.0), (3, 8.0)], 5, 2, None),
            // 1/3 rounded to six digits.
            (&[(1, 1.0), (2, 0.0), (3, 0.0)], 3, 60, Some(0.333_333)),
            // The newest value of a second wins.
            (&[(1, 5.0), (1, 7.0)], 1, 60, Some(7.0)),
        ];
        for (values, now, span, expected) in cases {
            let average = window(60, values).average(LINEAR, now, span);
            assert_eq!(average, expected, "{values:?} at {now} over {span}");
        }
    }

    #[test]
    fn values_older_than_the_window_fall_out() {
        let mut window = window(3, &[(1, 100.0), (2, 1.0), (3, 2.0), (4, 3.0)]);
        assert_eq!(window.average(LINEAR, 4, 3), Some(2.0));
        window.record(1, 50.0);
        assert_eq!(window.average(LINEAR, 4, 3), Some(2.0));
        window.record(100, 9.0);
        assert_eq!(window.average(LINEAR, 100, 3), Some(9.0));
    }

    #[test]
    fn the_weighted_average_has_knatives_weights() {
        // n = 60: 1 - 0.0001^(1/60) = 0.1423 < 0.2, hence 0.2.
        let many = window(60, &[(1, 10.0), (2, 20.0)]);
        // 0.2 * 20 + 0.2 * 0.8 * 10 = 5.6
        let average = many.average(Aggregation::WeightedExponential, 2, 60);
        assert!((average.unwrap() - 5.6).abs() < 1e-9, "{average:?}");
        // n = 6: 1 - 0.0001^(1/6) = 1 - 0.215443 = 0.784557
        assert!((smoothing(6) - 0.784_557).abs() < 1e-6);
    }

    #[test]
    fn a_shorter_window_keeps_its_newest_values() {
        let mut window = window(4, &[(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]);
        window.resize(2);
        assert_eq!(window.average(LINEAR, 4, 4), Some(3.5));
    }

    proptest! {
        #[test]
        fn an_average_is_finite_and_between_the_extremes(
            values in prop::collection::vec((0u64..200, prop::num::f64::ANY), 0..80),
            span in 1usize..80,
        ) {
            let mut window = Window::new(60);
            for (second, value) in &values {
                window.record(*second, value.clamp(0.0, 1e6));
            }
            for aggregation in [Aggregation::Linear, Aggregation::WeightedExponential] {
                if let Some(average) = window.average(aggregation, 200, span) {
                    prop_assert!((0.0..=1e6 + 1e-3).contains(&average));
                }
            }
        }
    }
}
