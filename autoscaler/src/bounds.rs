//! The bounds of a scale: min-scale, max-scale and, until it was reached once, initial-scale.
//!
//! Source: knative/serving pkg/reconciler/autoscaling/kpa/scaler.go (`applyBounds`) and kpa.go
//! (`activeThreshold`).

use crate::spec::ScalingSpec;

/// The bounds that hold for a revision at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Ready replicas from which on the revision counts as active.
    pub min_ready: u32,
}

// === impl Bounds ===

impl Bounds {
    /// The bounds of a revision that has (or has not yet) reached its initial scale.
    pub fn of(spec: &ScalingSpec, initialized: bool) -> Self {
        let max = if spec.max_scale == 0 {
            // Replicas are an int32 in Kubernetes.
            i32::MAX.unsigned_abs()
        } else {
            spec.max_scale
        };
        let floor = if spec.reachable { spec.min_scale } else { 0 };
        let (min, min_ready) = if spec.reachable && !initialized {
            let min = floor.max(spec.initial_scale);
            (min, min)
        } else {
            (floor, floor.max(1))
        };
        Self {
            // An upper bound is somebody's bill: it wins should the two ever cross.
            min: min.min(max),
            max,
            min_ready: min_ready.min(max),
        }
    }

    /// The nearest scale within the bounds.
    pub fn apply(&self, scale: u32) -> u32 {
        scale.clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ebb_api::config::Config;
    use proptest::prelude::*;

    use super::*;

    fn spec(min: u32, max: u32, initial: u32, reachable: bool) -> ScalingSpec {
        ScalingSpec {
            min_scale: min,
            max_scale: max,
            initial_scale: initial,
            reachable,
            ..ScalingSpec::resolve(0, true, &BTreeMap::new(), &Config::default())
        }
    }

    #[test]
    fn min_and_initial_scale_count_only_while_reachable() {
        // (min, max, initial, reachable, initialized) -> (apply(0), apply(9), min_ready)
        let cases = [
            ((0, 0, 1, true, true), (0, 9, 1)),
            ((0, 0, 3, true, false), (3, 9, 3)),
            ((2, 0, 1, true, false), (2, 9, 2)),
            ((2, 5, 1, true, true), (2, 5, 2)),
            ((2, 0, 3, false, false), (0, 9, 1)),
            ((2, 0, 3, false, true), (0, 9, 1)),
            ((0, 0, 0, true, false), (0, 9, 0)),
            ((7, 5, 1, true, true), (5, 5, 5)),
        ];
        for ((min, max, initial, reachable, initialized), expected) in cases {
            let bounds = Bounds::of(&spec(min, max, initial, reachable), initialized);
            let found = (bounds.apply(0), bounds.apply(9), bounds.min_ready);
            assert_eq!(found, expected, "min {min} max {max} initial {initial}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_bounds_hold(
            (min, max, initial) in (0u32..50, 0u32..50, 0u32..50),
            (reachable, initialized) in any::<(bool, bool)>(),
            scale in any::<u32>(),
        ) {
            let bounds = Bounds::of(&spec(min, max, initial, reachable), initialized);
            let applied = bounds.apply(scale);
            prop_assert!(applied >= bounds.min && applied <= bounds.max);
            prop_assert!(max == 0 || applied <= max);
        }
    }
}
