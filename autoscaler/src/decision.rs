//! How many replicas a load asks for: Knative's pod autoscaler, formula by formula.
//!
//! Source: knative/serving pkg/autoscaler/scaling/autoscaler.go. There are two windows. The long
//! one decides; when the short one asks for a multiple of what is ready, the autoscaler *panics*:
//! for one stable window it follows the higher of the two and never goes down. An autoscaler that
//! takes over replicas starts in panic, for it has not seen the load that they were asked for.

use std::time::Duration;

use tokio::time::Instant;

use crate::delay::DelayWindow;
use crate::spec::ScalingSpec;

/// The two averages of a revision's load, over all activators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Averages {
    /// Over the stable window.
    pub stable: f64,
    /// Over the panic window.
    pub panic: f64,
}

/// The replicas that a load asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Replicas, before any bounds.
    pub desired: u32,
    /// Burst that fits beside the present load without queueing, less the burst capacity asked for.
    pub excess_burst: f64,
    /// Whether the short window rules.
    pub panicking: bool,
}

/// The memory that decisions need from one to the next.
#[derive(Debug)]
pub struct Decider {
    panic: Option<Panic>,
    delay: DelayWindow,
}

#[derive(Debug, Clone, Copy)]
struct Panic {
    /// The last time that the short window asked for more than the threshold.
    over_at: Instant,
    /// The most replicas asked for since panic began.
    replicas: u32,
}

// === impl Decider ===

impl Decider {
    /// A decider that takes over so many replicas, ready or asked for. An earlier decider had
    /// reasons for them that this one has not seen.
    pub fn new(taken_over: u32, now: Instant) -> Self {
        Self {
            panic: (taken_over > 1).then_some(Panic { over_at: now, replicas: taken_over }),
            delay: DelayWindow::default(),
        }
    }

    /// The decision for this load, given that many ready replicas.
    pub fn decide(
        &mut self,
        load: Averages,
        ready: u32,
        spec: &ScalingSpec,
        now: Instant,
    ) -> Decision {
        let base = f64::from(ready.max(1));
        let max_up = (spec.up_rate * base).ceil();
        let max_down = if spec.reachable { (base / spec.down_rate).floor() } else { 0.0 };
        let stable_asked = (load.stable / spec.target).ceil();
        let panic_asked = (load.panic / spec.target).ceil();
        let limited = |asked: f64| {
            let scale = replicas(asked.max(max_down).min(max_up));
            if asked > 0.0 { scale.max(spec.activation_scale) } else { scale }
        };
        let (stable, panic) = (limited(stable_asked), limited(panic_asked));
        let over = panic_asked / base >= spec.panic_threshold;
        self.follow_panic(over, spec.stable_window, now);
        let mut desired = match &mut self.panic {
            Some(panicking) => {
                panicking.replicas = panicking.replicas.max(stable).max(panic);
                panicking.replicas
            }
            None => stable,
        };
        if spec.reachable {
            desired = self.delay.highest(desired, spec.down_delay, now);
        }
        Decision {
            desired,
            excess_burst: excess_burst(load.panic, ready, spec),
            panicking: self.panic.is_some(),
        }
    }

    fn follow_panic(&mut self, over: bool, stable_window: Duration, now: Instant) {
        match (&mut self.panic, over) {
            (Some(panic), true) => panic.over_at = now,
            (None, true) => {
                self.panic = Some(Panic { over_at: now, replicas: 0 });
            }
            (Some(panic), false) if panic.over_at + stable_window < now => self.panic = None,
            (_, false) => {}
        }
    }
}

fn excess_burst(panic_load: f64, ready: u32, spec: &ScalingSpec) -> f64 {
    if spec.burst_capacity < 0.0 {
        return -1.0;
    }
    if spec.burst_capacity == 0.0 {
        return 0.0;
    }
    (f64::from(ready) * spec.total - spec.burst_capacity - panic_load).floor()
}

/// A whole number of replicas from a quotient; NaN asks for none.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to int32, which is what Kubernetes holds replicas in; NaN becomes 0"
)]
fn replicas(value: f64) -> u32 {
    value.clamp(0.0, f64::from(i32::MAX)) as u32
}

#[cfg(test)]
mod tests;
