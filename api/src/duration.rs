//! Durations as Go writes them (`90s`, `1m30s`, `1.5h`), which is how Knative's API takes them.

use std::time::Duration;

/// Nanoseconds of each unit, longest spelling first so that `ms` is not read as `m`.
const UNITS: [(&str, f64); 7] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60.0 * 1e9),
    ("h", 3600.0 * 1e9),
];

/// Largest duration that Go can hold, in nanoseconds.
const NANOS_MAX: f64 = 9.223_372_036_854_775e18;

/// Parses a duration. `None` where Go would refuse the text (a bare number other than 0 has no
/// unit), and for a negative duration, which has no meaning anywhere in this API.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let (unit, scale) = UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        nanos += number * scale;
        rest = &after[unit.len()..];
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded by NANOS_MAX just before, and never negative"
    )]
    (nanos <= NANOS_MAX).then(|| Duration::from_nanos(nanos.round() as u64))
}

/// The duration as Go prints it: `1m0s`, `1.5s`, `0s`.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if seconds == 0 && duration.subsec_nanos() > 0 {
        return format!("{}ms", f64::from(duration.subsec_nanos()) / 1e6);
    }
    let fraction = f64::from(duration.subsec_nanos()) / 1e9;
    #[allow(clippy::cast_precision_loss, reason = "below 60")]
    let tail = format!("{}s", rest as f64 + fraction);
    match (hours, minutes) {
        (0, 0) => tail,
        (0, minutes) => format!("{minutes}m{tail}"),
        (hours, minutes) => format!("{hours}h{minutes}m{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, seconds) in [("0", 0.0), ("90s", 90.0), ("1m30s", 90.0), ("1.5h", 5400.0)] {
            assert_eq!(parse(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        for text in ["", "5", "-1s", "s", "1x", "1e309s", "999999999h", "NaNs"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        assert_eq!(format(Duration::from_mins(1)), "1m0s");
        assert_eq!(format(Duration::from_millis(1500)), "1.5s");
        assert_eq!(format(Duration::ZERO), "0s");
    }
}
