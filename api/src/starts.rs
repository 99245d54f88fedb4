//! How long the latest starts of a Configuration's pods took.
//!
//! The controller measures each start of a revision that had no ready pod, from the making of the first
//! pod to its readiness, and keeps the latest in the annotations of a Revision's status. The next
//! Revision of the Configuration takes them over, for most often the same model starts. Whole seconds:
//! that is how finely Kubernetes keeps both times, and how finely `Retry-After` counts.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::serving::Revision;

/// The annotation: seconds, the latest last, as in `4,3,12`.
pub const STARTS: &str = "serving.ebb.dev/starts";
/// Most starts that are kept. Of ten, one unlucky start in ten does not count.
pub const KEPT_MAX: usize = 10;
/// What took longer was no start: a clock was set, or somebody had to help.
const SECONDS_MAX: u64 = 24 * 3600;

/// The latest starts, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts(VecDeque<u64>);

impl Starts {
    /// Those that a text has. What cannot be read is left out: nothing but a hint is lost.
    pub fn parse(text: &str) -> Self {
        let mut starts = Self::default();
        text.split(',').rev().take(KEPT_MAX).filter_map(|part| part.trim().parse().ok()).for_each(
            |seconds| {
                if seconds <= SECONDS_MAX {
                    starts.0.push_front(seconds);
                }
            },
        );
        starts
    }

    /// Those of a Revision: its own, or else those that it took over.
    pub fn of(revision: &Revision) -> Self {
        let text = |notes: Option<&BTreeMap<String, String>>| Some(notes?.get(STARTS)?.clone());
        let own = text(revision.status.as_ref().map(|status| &status.annotations));
        let text = own.or_else(|| text(revision.metadata.annotations.as_ref()));
        Self::parse(&text.unwrap_or_default())
    }

    /// Adds the latest.
    pub fn add(&mut self, took: Duration) {
        if took.as_secs() <= SECONDS_MAX {
            self.0.push_back(took.as_secs());
        }
        while self.0.len() > KEPT_MAX {
            self.0.pop_front();
        }
    }

    /// The longest time that a start is likely to take, going by nine of ten and by the latest: a new
    /// model may be slower than those that an earlier Revision started.
    pub fn longest_likely(&self) -> Option<Duration> {
        let latest = Duration::from_secs(*self.0.back()?);
        self.p90().map(|p90| p90.max(latest))
    }

    /// Whether a Revision has measured any itself.
    pub fn has_own(revision: &Revision) -> bool {
        revision.status.as_ref().is_some_and(|status| status.annotations.contains_key(STARTS))
    }

    /// The time within which nine of ten starts were done, or all of fewer than ten; `None` before the
    /// first.
    pub fn p90(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * 9).div_ceil(10);
        Some(Duration::from_secs(*sorted.get(rank.checked_sub(1)?)?))
    }
}

impl fmt::Display for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds: Vec<_> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&seconds.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        Starts::parse(text).p90().map(|time| time.as_secs())
    }

    #[test]
    fn nine_of_ten_starts_were_done_by_then() {
        assert_eq!(seconds(""), None);
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds("3,9"), Some(9));
        assert_eq!(seconds("1,2,3,4,5,6,7,8,9,60"), Some(9), "one may be unlucky");
        assert_eq!(seconds("60,60,3,3,3,3,3,3,3,3"), Some(60));
        assert_eq!(Starts::parse("5,5,5,5,5,5,5,5,5,60").p90(), Some(Duration::from_secs(5)));
        let likely = |text| Starts::parse(text).longest_likely().map(|time| time.as_secs());
        assert_eq!(likely("5,5,5,5,5,5,5,5,5,60"), Some(60), "the model may be another");
        assert_eq!((likely("60,5"), likely("")), (Some(60), None));
        assert_eq!(seconds("x,-1,999999, 5 ,"), Some(5), "what cannot be meant does not count");
    }

    #[test]
    fn only_the_latest_are_kept() {
        let mut starts = Starts::default();
        for seconds in 0..14 {
            starts.add(Duration::from_millis(seconds * 1000 + 900));
        }
        starts.add(Duration::from_hours(25));
        assert_eq!(starts.to_string(), "4,5,6,7,8,9,10,11,12,13");
        assert_eq!(Starts::parse(&starts.to_string()), starts);
        assert_eq!(Starts::parse("1,2,3,4,5,6,7,8,9,10,11").to_string(), "2,3,4,5,6,7,8,9,10,11");
    }
}
