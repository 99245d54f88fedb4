//! How much load a revision has: the time-weighted mean of requests inside, and arrivals.
//!
//! Pure: each call says what time it is. The mean is exact (an integral over time, not samples),
//! so that a report of any interval can be averaged with the others as Knative's autoscaler does.

use std::time::Duration;

use tokio::time::Instant;

/// The load since the last [`Load::take`].
#[derive(Debug)]
pub struct Load {
    inside: u32,
    /// Requests inside times seconds, since `since`.
    integral: f64,
    arrivals: u32,
    since: Instant,
    last: Instant,
}

/// The load of one interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its length.
    pub length: Duration,
    /// Mean of the requests inside.
    pub concurrency_mean: f64,
    /// Arrivals for each second.
    pub requests_per_second: f64,
}

impl Load {
    /// No load, from `now` on.
    pub const fn new(now: Instant) -> Self {
        Self { inside: 0, integral: 0.0, arrivals: 0, since: now, last: now }
    }

    /// A request came.
    pub fn enter(&mut self, now: Instant) {
        self.advance(now);
        self.inside += 1;
        self.arrivals += 1;
    }

    /// A request that came is done.
    pub fn leave(&mut self, now: Instant) {
        self.advance(now);
        self.inside = self.inside.saturating_sub(1);
    }

    /// Requests inside now, waiting or in flight.
    pub const fn inside(&self) -> u32 {
        self.inside
    }

    /// Begins the interval anew, if no request has been inside or arrived since it began.
    pub fn resume(&mut self, now: Instant) {
        if self.inside == 0 && self.arrivals == 0 {
            *self = Self::new(now);
        }
    }

    /// Ends the interval and begins the next.
    pub fn take(&mut self, now: Instant) -> Interval {
        self.advance(now);
        let length = now.saturating_duration_since(self.since);
        let seconds = length.as_secs_f64();
        let (concurrency_mean, requests_per_second) = if seconds > 0.0 {
            (self.integral / seconds, f64::from(self.arrivals) / seconds)
        } else {
            (f64::from(self.inside), 0.0)
        };
        self.integral = 0.0;
        self.arrivals = 0;
        self.since = now;
        Interval { length, concurrency_mean, requests_per_second }
    }

    /// Two threads may read the clock in one order and get here in the other: time never goes back.
    fn advance(&mut self, now: Instant) {
        if let Some(passed) = now.checked_duration_since(self.last) {
            self.integral += f64::from(self.inside) * passed.as_secs_f64();
            self.last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_weighted_by_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut load = Load::new(start);
        load.enter(at(0));
        load.enter(at(500));
        load.leave(at(750));
        let interval = load.take(at(1000));
        assert!((interval.concurrency_mean - 1.25).abs() < 1e-9);
        assert!((interval.requests_per_second - 2.0).abs() < 1e-9);
        let interval = load.take(at(2000));
        assert!((interval.concurrency_mean - 1.0).abs() < 1e-9, "one is still inside");
        assert!(interval.requests_per_second.abs() < 1e-9);
    }

    #[test]
    fn a_clock_read_out_of_order_does_no_harm() {
        let start = Instant::now();
        let mut load = Load::new(start);
        load.enter(start + Duration::from_millis(10));
        load.leave(start + Duration::from_millis(5));
        let interval = load.take(start + Duration::from_secs(1));
        assert!(interval.concurrency_mean.abs() < 1e-9);
    }
}
