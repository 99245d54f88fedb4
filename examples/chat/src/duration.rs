//! Durations on the command line: `250ms`, `3s`, `2m`. Only these units make sense here.

use std::time::Duration;

/// Longest duration taken: a load or crash timer beyond a day is a typing mistake.
const DURATION_MAX: Duration = Duration::from_hours(24);

/// Reads a number with its unit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("give a number with ms, s or m, such as 3s".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| format!("{text} is longer than a day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_a_unit_are_durations_and_all_else_is_refused() {
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        for text in ["", "3", "s", "-1s", "1.2.3s", "3h", "99999999m", "1e3s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
