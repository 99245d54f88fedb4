//! The bounds of a scale: min-scale, max-scale and, until it was reached once, initial-scale.
//!
//! Source: knative/serving pkg/reconciler/autoscaling/kpa/scaler.go (`applyBounds`) and kpa.go
//! (`activeThreshold`). A revision whose first start took too long counts as unreachable there
//! (pkg/reconciler/revision/resources/pa.go), which takes its lower bounds away.

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

/// How far a revision has come, on which its lower bounds depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is to reach its initial scale.
    Starting,
    /// It did not reach its initial scale in time: it has the pods that its load asks for, and no
    /// others.
    GivenUp,
    /// It has reached its initial scale once.
    Initialized,
}

// === impl Bounds ===

impl Bounds {
    /// The bounds of a revision at this stage.
    pub fn of(spec: &ScalingSpec, stage: Stage) -> Self {
        let max = if spec.max_scale == 0 {
            // Replicas are an int32 in Kubernetes.
            i32::MAX.unsigned_abs()
        } else {
            spec.max_scale
        };
        let is_wanted = spec.reachable && stage != Stage::GivenUp;
        let floor = if is_wanted { spec.min_scale } else { 0 };
        let (min, min_ready) = if is_wanted && stage == Stage::Starting {
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
        use Stage::{GivenUp, Initialized, Starting};
        // (min, max, initial, reachable, stage) -> (apply(0), apply(9), min_ready)
        let cases = [
            ((0, 0, 1, true, Initialized), (0, 9, 1)),
            ((0, 0, 3, true, Starting), (3, 9, 3)),
            ((2, 0, 1, true, Starting), (2, 9, 2)),
            ((2, 5, 1, true, Initialized), (2, 5, 2)),
            ((2, 0, 3, false, Starting), (0, 9, 1)),
            ((2, 0, 3, false, Initialized), (0, 9, 1)),
            ((0, 0, 0, true, Starting), (0, 9, 0)),
            ((7, 5, 1, true, Initialized), (5, 5, 5)),
            ((2, 5, 3, true, GivenUp), (0, 5, 1)),
        ];
        for ((min, max, initial, reachable, stage), expected) in cases {
            let bounds = Bounds::of(&spec(min, max, initial, reachable), stage);
            let found = (bounds.apply(0), bounds.apply(9), bounds.min_ready);
            assert_eq!(found, expected, "min {min} max {max} initial {initial}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_bounds_hold(
            (min, max, initial) in (0u32..50, 0u32..50, 0u32..50),
            reachable in any::<bool>(),
            stage in prop::sample::select(vec![
                Stage::Starting, Stage::GivenUp, Stage::Initialized,
            ]),
            scale in any::<u32>(),
        ) {
            let bounds = Bounds::of(&spec(min, max, initial, reachable), stage);
            let applied = bounds.apply(scale);
            prop_assert!(applied >= bounds.min && applied <= bounds.max);
            prop_assert!(max == 0 || applied <= max);
        }
    }
}
