//! Annotations that set how a Revision scales.
//!
//! Source: knative/serving pkg/apis/autoscaling/annotation_validation.go. Stricter than that in one
//! respect: a number that is not finite is refused, where Go's comparisons let NaN through.

use std::collections::BTreeMap;
use std::num::IntErrorKind;
use std::time::Duration;

use super::quantity::{finite, signed_duration};
use crate::annotations::{
    ACTIVATION_SCALE, AGGREGATION, CLASS, CLASS_HPA, CLASS_KPA, INITIAL_SCALE, Key, MAX_SCALE,
    METRIC, MIN_SCALE, PANIC_THRESHOLD, PANIC_WINDOW, RETENTION, SCALE_DOWN_DELAY, TARGET,
    TARGET_BURST_CAPACITY, TARGET_UTILIZATION, WINDOW,
};
use crate::config::AutoscalerConfig;
use crate::duration;
use crate::field_error::{FieldErrors, clip};

/// Suffix of the classes that belong to Knative, so that a typing error is not taken for
/// somebody else's class.
const OWN_CLASSES: &str = ".knative.dev";
/// Bounds of a window; a delay or retention has the same upper one.
const WINDOW_MIN: Duration = Duration::from_secs(6);
const WINDOW_MAX: Duration = Duration::from_hours(1);
/// Smallest target that makes sense.
const TARGET_MIN: f64 = 0.01;
/// Smallest activation scale that says more than "one replica", which is what happens anyway.
const ACTIVATION_SCALE_MIN: i32 = 2;

type Annotations = BTreeMap<String, String>;

/// What is wrong with the autoscaling annotations of a Revision or of its template.
pub(super) fn validate(annotations: &Annotations, config: &AutoscalerConfig) -> FieldErrors {
    class(annotations)
        .also(scales(annotations, config))
        .also(initial_scale(annotations, config))
        .also(numbers(annotations))
        .also(durations(annotations))
        .also(metric(annotations))
        .also(aggregation(annotations))
}

fn class(annotations: &Annotations) -> FieldErrors {
    match CLASS.find(Some(annotations)) {
        Some((key, class))
            if class.ends_with(OWN_CLASSES) && class != CLASS_KPA && class != CLASS_HPA =>
        {
            FieldErrors::invalid(class, key)
        }
        _ => FieldErrors::default(),
    }
}

fn scales(annotations: &Annotations, config: &AutoscalerConfig) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let min = count(annotations, MIN_SCALE, &mut errors).unwrap_or(0);
    let max = count(annotations, MAX_SCALE, &mut errors);
    let limit = config.max_scale_limit;
    if let Some(max) = max {
        if max != 0 && max < min {
            errors.add(FieldErrors::generic(
                format!("max-scale={max} is less than min-scale={min}"),
                &[MAX_SCALE.name(), MIN_SCALE.name()],
            ));
        }
        let key = written_as(annotations, MAX_SCALE);
        if limit != 0 && max > limit {
            errors.add(FieldErrors::out_of_bounds(max, 1, limit, key));
        }
        if limit != 0 && max == 0 {
            errors.add(FieldErrors::generic(
                format!("max-scale=0 (unlimited), must be less than {limit}"),
                &[key],
            ));
        }
    }
    let max = max.unwrap_or(0);
    if let Some((key, text)) = ACTIVATION_SCALE.find(Some(annotations)) {
        let problem = match text.parse::<i32>() {
            Err(_) => return errors.also(FieldErrors::invalid(text, key)),
            Ok(scale) if min > scale => {
                Some(format!("min-scale={min} is greater than activation-scale={scale}"))
            }
            Ok(scale) if max != 0 && max < scale => {
                Some(format!("max-scale={max} is less than activation-scale={scale}"))
            }
            Ok(scale) if scale < ACTIVATION_SCALE_MIN => {
                Some(format!("activation-scale={scale} must be greater than 1"))
            }
            Ok(_) => None,
        };
        errors
            .add(problem.map_or_else(FieldErrors::default, |problem| {
                FieldErrors::generic(problem, &[key])
            }));
    }
    errors
}

fn initial_scale(annotations: &Annotations, config: &AutoscalerConfig) -> FieldErrors {
    let Some((key, text)) = INITIAL_SCALE.find(Some(annotations)) else {
        return FieldErrors::default();
    };
    match text.parse::<i32>() {
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
            FieldErrors::out_of_bounds(text, 0, i32::MAX, key)
        }
        Err(_) => FieldErrors::invalid(text, key),
        Ok(scale) if scale < 0 => {
            FieldErrors::invalid(text, &format!("{key} must be greater than 0"))
        }
        Ok(0) if !config.allow_zero_initial_scale => {
            FieldErrors::invalid(text, &format!("{key}=0 not allowed by cluster"))
        }
        Ok(_) => FieldErrors::default(),
    }
}

/// A count of replicas, 0 or more; an invalid one is reported in `errors`.
fn count(annotations: &Annotations, key: Key, errors: &mut FieldErrors) -> Option<i32> {
    let (key, text) = key.find(Some(annotations))?;
    let out_of_bounds = || FieldErrors::out_of_bounds(text, 0, i32::MAX, key);
    match text.parse::<i32>() {
        Ok(count) if count >= 0 => return Some(count),
        Ok(_) => errors.add(out_of_bounds()),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => errors.add(out_of_bounds()),
            _ => errors.add(FieldErrors::invalid(text, key)),
        },
    }
    None
}

fn numbers(annotations: &Annotations) -> FieldErrors {
    percentage(annotations, PANIC_WINDOW, 1, 100)
        .also(percentage(annotations, PANIC_THRESHOLD, 110, 1000))
        .also(percentage(annotations, TARGET_UTILIZATION, 1, 100))
        .also(number(annotations, TARGET, |text, key, target| {
            if target >= TARGET_MIN {
                return FieldErrors::default();
            }
            let text = clip(text);
            FieldErrors::generic(format!("target {text} should be at least {TARGET_MIN}"), &[key])
        }))
        .also(number(annotations, TARGET_BURST_CAPACITY, |text, key, capacity| {
            // -1 stands for "always through the activator"; nothing else below 0 has a meaning.
            let is_always = (capacity + 1.0).abs() < f64::EPSILON;
            if capacity >= 0.0 || is_always {
                FieldErrors::default()
            } else {
                FieldErrors::invalid(text, key)
            }
        }))
}

fn percentage(annotations: &Annotations, key: Key, low: i32, high: i32) -> FieldErrors {
    number(annotations, key, |text, key, value| {
        if (f64::from(low)..=f64::from(high)).contains(&value) {
            FieldErrors::default()
        } else {
            FieldErrors::out_of_bounds(text, low, high, key)
        }
    })
}

fn number(
    annotations: &Annotations,
    key: Key,
    check: impl FnOnce(&str, &str, f64) -> FieldErrors,
) -> FieldErrors {
    match key.find(Some(annotations)) {
        None => FieldErrors::default(),
        Some((key, text)) => match finite(text) {
            Some(value) => check(text, key, value),
            None => FieldErrors::invalid(text, key),
        },
    }
}

fn durations(annotations: &Annotations) -> FieldErrors {
    span(annotations, WINDOW, WINDOW_MIN, true)
        .also(span(annotations, SCALE_DOWN_DELAY, Duration::ZERO, true))
        .also(span(annotations, RETENTION, Duration::ZERO, false))
}

fn span(annotations: &Annotations, key: Key, low: Duration, whole_seconds: bool) -> FieldErrors {
    let Some((key, text)) = key.find(Some(annotations)) else {
        return FieldErrors::default();
    };
    match signed_duration(text) {
        None => FieldErrors::invalid(text, key),
        Some((is_negative, span)) if is_negative || span < low || span > WINDOW_MAX => {
            let (low, high) = (duration::format(low), duration::format(WINDOW_MAX));
            FieldErrors::out_of_bounds(text, low, high, key)
        }
        Some((_, span)) if whole_seconds && span.subsec_nanos() != 0 => {
            FieldErrors::generic("must be specified with at most second precision", &[key])
        }
        Some(_) => FieldErrors::default(),
    }
}

fn metric(annotations: &Annotations) -> FieldErrors {
    let Some((key, metric)) = METRIC.find(Some(annotations)) else {
        return FieldErrors::default();
    };
    let is_known = match CLASS.get(Some(annotations)).unwrap_or(CLASS_KPA) {
        CLASS_KPA => matches!(metric, "concurrency" | "rps"),
        CLASS_HPA => !metric.is_empty(),
        // Somebody else's class has metrics of its own.
        _ => true,
    };
    if is_known { FieldErrors::default() } else { FieldErrors::invalid(metric, key) }
}

fn aggregation(annotations: &Annotations) -> FieldErrors {
    // As in Knative, only if the class is spelled out: another class may know other algorithms.
    if CLASS.get(Some(annotations)) != Some(CLASS_KPA) {
        return FieldErrors::default();
    }
    match AGGREGATION.find(Some(annotations)) {
        None | Some((_, "" | "linear" | "weighted-exponential" | "weightedExponential")) => {
            FieldErrors::default()
        }
        Some((key, algorithm)) => FieldErrors::invalid(algorithm, key),
    }
}

fn written_as(annotations: &Annotations, key: Key) -> &'static str {
    key.find(Some(annotations)).map_or_else(|| key.name(), |(written, _)| written)
}
