//! How often requests may be sent again: a share of the traffic, so that retries cannot storm.
//!
//! Pure. Only a request that provably never left is sent again (class R1); all else is the
//! client's decision.

/// How often one request may be tried again.
pub const RETRIES_MAX: u32 = 2;
/// Share of the traffic that may be retries.
const SHARE: f64 = 0.2;
/// Retries that are allowed before there is any traffic to take a share of, and the most that can
/// be saved up: as many as a burst on a first pod that goes away again.
const RESERVE: f64 = 256.0;

/// What is left to spend on retries.
#[derive(Debug)]
pub struct RetryBudget {
    left: f64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { left: RESERVE }
    }
}

impl RetryBudget {
    /// A request came: a fifth of a retry is earned.
    pub fn earn(&mut self) {
        self.left = (self.left + SHARE).min(RESERVE);
    }

    /// Takes one retry; false when none is left.
    pub fn spend(&mut self) -> bool {
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_the_traffic_once_the_reserve_is_spent() {
        let mut budget = RetryBudget::default();
        while budget.spend() {}
        let mut spent = 0;
        for _ in 0..1000 {
            budget.earn();
            spent += u32::from(budget.spend());
        }
        assert!((195..=200).contains(&spent), "{spent}");
    }
}
