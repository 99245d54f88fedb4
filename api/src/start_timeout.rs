//! How long a request may wait for a pod, apart from the time that the model may take.
//!
//! `serving.ebb.dev/start-timeout: 10m` on a template, or `start-timeout` in `config-defaults` for all.
//! Without it the wait counts into `timeoutSeconds`, as it does in Knative. `auto` goes by the starts
//! that were measured ([`crate::starts`]).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::annotations::Key;
use crate::duration;

/// The annotation of a template.
pub const START_TIMEOUT: Key = Key(&["serving.ebb.dev/start-timeout"]);
/// Shortest time that can be meant.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// Longest time: the download of a large model over a slow line. A request holds memory for as long.
pub const LONGEST: Duration = Duration::from_hours(24);

/// `auto` gives a start this many times as long as nine of ten took.
const AUTO_TIMES: u32 = 3;
/// Shortest time that `auto` means: a start that took a second may take five on a busy node.
const AUTO_SHORTEST: Duration = Duration::from_secs(10);

/// How long a start may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTimeout {
    /// So long.
    Fixed(Duration),
    /// A multiple of the usual time.
    Auto,
}

/// What is wrong with the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be \"auto\", or a duration from 1s to 24h, such as \"10m\"")]
pub struct StartTimeoutError;

/// The time that a text means; `None` for an empty one, which stands for no time of its own.
pub fn parse(text: &str) -> Result<Option<StartTimeout>, StartTimeoutError> {
    match text {
        "" => return Ok(None),
        "auto" => return Ok(Some(StartTimeout::Auto)),
        _ => {}
    }
    let within = |time: &Duration| (SHORTEST..=LONGEST).contains(time);
    let time = duration::parse(text).filter(within).ok_or(StartTimeoutError)?;
    Ok(Some(StartTimeout::Fixed(time)))
}

/// What `auto` means where nine of ten starts took `p90`.
pub fn auto(p90: Duration) -> Duration {
    (p90 * AUTO_TIMES).clamp(AUTO_SHORTEST, LONGEST)
}

/// The time that a Revision's annotations name, if they name one.
pub fn of(
    annotations: Option<&BTreeMap<String, String>>,
) -> Result<Option<StartTimeout>, StartTimeoutError> {
    parse(START_TIMEOUT.get(annotations).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_duration_within_bounds_or_nothing() {
        for (text, seconds) in [("1s", 1), ("10m", 600), ("1m30s", 90), ("24h", 86_400)] {
            assert_eq!(parse(text), Ok(Some(StartTimeout::Fixed(Duration::from_secs(seconds)))));
        }
        assert_eq!(parse("auto"), Ok(Some(StartTimeout::Auto)));
        assert_eq!(parse(""), Ok(None));
        assert_eq!(of(None), Ok(None));
        for text in ["Auto", "0", "999ms", "24h1s", "-1s", "600", "soon"] {
            assert_eq!(parse(text), Err(StartTimeoutError), "{text}");
        }
    }

    #[test]
    fn auto_is_three_times_the_usual_time_within_bounds() {
        for (p90, seconds) in [(0, 10), (3, 10), (60, 180), (80_000, 86_400)] {
            assert_eq!(auto(Duration::from_secs(p90)), Duration::from_secs(seconds));
        }
    }
}
