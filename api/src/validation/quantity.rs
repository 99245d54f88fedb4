//! Numbers that people write as text: quantities of Kubernetes, signed durations, finite floats.

use std::time::Duration;

use crate::duration;

/// Kubernetes' error for a text that is not a quantity.
pub(super) const QUANTITY_RULE: &str = "quantities must match the regular expression \
                                        '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Whether the text is a quantity below 0.
pub(super) fn is_negative(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.contains(|c: char| ('1'..='9').contains(&c)))
}

/// The number, if it is finite.
pub(super) fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Whether the duration is below 0, and its length without the sign. `None` where Go would refuse
/// the text.
pub(super) fn signed_duration(text: &str) -> Option<(bool, Duration)> {
    let Some(rest) = text.strip_prefix('-') else {
        return duration::parse(text).map(|span| (false, span));
    };
    if rest.starts_with(['+', '-']) {
        return None;
    }
    duration::parse(rest).map(|span| (!span.is_zero(), span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::is_quantity;

    #[test]
    fn quantities_are_told_from_other_text() {
        for good in ["1", "0.5", "100m", "1Gi", "1e3", "1E-3", "-1", "+.5", "1E", "12k"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "Gi", "1g", "1gi", "1 Gi", "1.2.3", "e3", "NaN", "1e", "0x10", "1KiB"] {
            assert!(!is_quantity(bad), "{bad}");
        }
        assert!(is_negative("-1m"));
        assert!(!is_negative("-0"));
    }

    #[test]
    fn numbers_without_end_are_no_numbers() {
        assert_eq!(finite("1e2"), Some(100.0));
        for bad in ["NaN", "inf", "1e309", "-1e309", "", "1,5", "0x1p-2"] {
            assert_eq!(finite(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_negative_duration_is_still_a_duration() {
        assert_eq!(signed_duration("-1m"), Some((true, Duration::from_mins(1))));
        assert_eq!(signed_duration("-0"), Some((false, Duration::ZERO)));
        assert_eq!(signed_duration("--1s"), None);
        assert_eq!(signed_duration("5"), None);
    }
}
