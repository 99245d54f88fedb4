//! Ages as `kubectl` writes them: `5s`, `3m12s`, `2d`.

use jiff::Timestamp;
use serde_json::Value;

/// The text for an age that is not known.
const UNKNOWN: &str = "<unknown>";
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// The time from the RFC 3339 time `then` to `now`.
pub(super) fn since(then: Option<&Value>, now: Timestamp) -> String {
    then.and_then(Value::as_str)
        .and_then(|then| then.parse::<Timestamp>().ok())
        .map_or_else(|| UNKNOWN.to_owned(), |then| between(then, now))
}

/// Whole seconds with fewer units the longer it is
/// (`HumanDuration` of `k8s.io/apimachinery/pkg/util/duration`).
fn between(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs();
    match seconds {
        // Clocks may differ by a second; more than that is not an age.
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use serde_json::json;

    #[test]
    fn ages_are_written_as_kubectl_writes_them() {
        let then: Timestamp = "2024-05-01T00:00:00Z".parse().unwrap();
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (192, "3m12s"),
            (600, "10m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 20 * MINUTE, "3h20m"),
            (9 * HOUR, "9h"),
            (2 * DAY, "2d"),
            (2 * DAY + 5 * HOUR, "2d5h"),
            (9 * DAY, "9d"),
            (2 * YEAR + 3 * DAY, "2y3d"),
            (9 * YEAR, "9y"),
        ] {
            let now = then + SignedDuration::from_secs(seconds);
            assert_eq!(since(Some(&json!("2024-05-01T00:00:00Z")), now), text);
        }
        assert_eq!(since(None, then), "<unknown>");
    }
}
