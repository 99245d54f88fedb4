//! The number of replicas that a Revision begins with, kept in one place because three parts need
//! it: the controller makes the Deployment with it, the autoscaler starts from it, and an activator
//! that no autoscaler answers wakes the Revision with it.

use std::collections::BTreeMap;

use crate::annotations::{INITIAL_SCALE, Key, MAX_SCALE, MIN_SCALE};
use crate::config::Config;

/// The annotations of a Revision.
type Annotations = BTreeMap<String, String>;

/// The scale that must be reached before the Revision is Ready, by annotation or setting alone.
/// A zero counts only where the settings allow it (knative/serving
/// pkg/reconciler/autoscaling/resources, `GetInitialScale`).
pub fn initial_scale(annotations: Option<&Annotations>, config: &Config) -> u32 {
    let scaler = &config.autoscaler;
    scale(&INITIAL_SCALE, annotations)
        .filter(|asked| *asked > 0 || scaler.allow_zero_initial_scale)
        .unwrap_or_else(|| unsigned(scaler.initial_scale))
}

/// The scale that a Revision's Deployment is made with: the initial one, kept within the minimum
/// and the maximum scale.
pub fn first_scale(annotations: Option<&Annotations>, config: &Config) -> u32 {
    let scaler = &config.autoscaler;
    let bound = |key, setting| scale(key, annotations).unwrap_or_else(|| unsigned(setting));
    let first = initial_scale(annotations, config).max(bound(&MIN_SCALE, scaler.min_scale));
    match bound(&MAX_SCALE, scaler.max_scale) {
        0 => first,
        most => first.min(most),
    }
}

/// The number of replicas in an annotation. An invalid number counts as absent, since admission
/// refuses it.
fn scale(key: &Key, annotations: Option<&Annotations>) -> Option<u32> {
    let value: i32 = key.get(annotations)?.trim().parse().ok()?;
    value.try_into().ok()
}

/// A number of replicas from the settings, which hold signed numbers.
fn unsigned(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Annotations, whether a zero is allowed, and the first scale expected.
    type Case = (&'static [(&'static str, &'static str)], bool, u32);

    /// An initial scale of zero counts as absent where zero is not allowed. A maximum of zero is no
    /// bound.
    #[test]
    fn the_first_scale_is_within_its_bounds() {
        let cases: [Case; 9] = [
            (&[], false, 1),
            (&[("initial-scale", "3")], false, 3),
            (&[("initial-scale", "0")], false, 1),
            (&[("initial-scale", "0")], true, 0),
            (&[("initialScale", "2")], false, 2),
            (&[("min-scale", "2")], false, 2),
            (&[("initial-scale", "9"), ("max-scale", "4")], false, 4),
            (&[("initial-scale", "-1"), ("max-scale", "x")], false, 1),
            (&[("min-scale", "5"), ("max-scale", "0")], false, 5),
        ];
        for (annotations, is_zero_allowed, expected) in cases {
            let annotations: Annotations = annotations
                .iter()
                .map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), (*value).to_owned()))
                .collect();
            let mut config = Config::default();
            config.autoscaler.allow_zero_initial_scale = is_zero_allowed;
            assert_eq!(first_scale(Some(&annotations), &config), expected, "{annotations:?}");
        }
        let mut config = Config::default();
        config.autoscaler.initial_scale = 4;
        let zero = Annotations::from([(INITIAL_SCALE.name().to_owned(), "0".to_owned())]);
        assert_eq!(first_scale(Some(&zero), &config), 4);
        assert_eq!(first_scale(None, &config), 4);
    }
}
