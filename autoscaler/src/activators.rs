//! Which activators report, and since when a report stream has been alive.
//!
//! An activator that falls silent is believed for [`GONE_AFTER`]: its last load still counts and
//! its acknowledgement is still awaited. Only then is it dropped, by name and with a log line.

use std::time::Duration;

use ebb_api::report::Scope;
use tokio::time::Instant;

/// Silence after which an activator counts as gone. One that is cut off from us still sends
/// requests into pods, so this is long; one that died costs only a late scale-down.
pub const GONE_AFTER: Duration = Duration::from_secs(30);
/// Silence after which what we know is too old to lower anything by: four reports in a row lost.
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// Most activators that are kept apart; Knative's own HorizontalPodAutoscaler stops at 20.
pub const ACTIVATORS_MAX: usize = 256;

/// The activators heard of within [`GONE_AFTER`].
#[derive(Debug, Default)]
pub struct Activators {
    entries: Vec<Activator>,
    next_id: u32,
    /// When the present unbroken stream of reports began.
    stream_since: Option<Instant>,
    heard_at: Option<Instant>,
}

/// One activator.
#[derive(Debug)]
pub struct Activator {
    name: String,
    /// Stands for the name in what is kept for each revision.
    pub id: u32,
    /// When its last report came.
    pub heard_at: Instant,
    /// When its last report of an interval came: what that did not name stands as it was said
    /// before, or had nothing to be said of it.
    pub full_at: Option<Instant>,
    /// How many full reports came: each takes back what was said before it.
    pub fulls: u64,
}

/// Which report of which activator something was learnt from.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// The activator.
    pub id: u32,
    /// How many full reports it had sent by then.
    pub fulls: u64,
}

// === impl Activators ===

impl Activators {
    /// Takes note of a report; nothing when there are too many activators.
    pub fn heard(&mut self, name: &str, scope: Scope, now: Instant) -> Option<Heard> {
        let index = match self.entries.iter().position(|entry| entry.name == name) {
            Some(index) => index,
            None => self.admit(name, now)?,
        };
        let entry = &mut self.entries[index];
        entry.heard_at = now;
        if scope != Scope::Moment {
            entry.full_at = Some(now);
        }
        entry.fulls += u64::from(scope == Scope::Full);
        let broken = self.heard_at.is_none_or(|at| now.duration_since(at) > STALE_AFTER);
        if broken {
            self.stream_since = Some(now);
        }
        self.heard_at = Some(now);
        Some(Heard { id: entry.id, fulls: entry.fulls })
    }

    fn admit(&mut self, name: &str, now: Instant) -> Option<usize> {
        self.forget_gone(now);
        if self.entries.len() >= ACTIVATORS_MAX {
            return None;
        }
        self.entries.push(Activator {
            name: name.to_owned(),
            id: self.next_id,
            heard_at: now,
            full_at: None,
            fulls: 0,
        });
        self.next_id = self.next_id.wrapping_add(1);
        Some(self.entries.len() - 1)
    }

    /// Drops those that have been silent for [`GONE_AFTER`] and returns their names.
    pub fn forget_gone(&mut self, now: Instant) -> Vec<String> {
        self.entries
            .extract_if(.., |entry| now.duration_since(entry.heard_at) > GONE_AFTER)
            .map(|entry| entry.name)
            .collect()
    }

    /// Those not gone yet.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = &Activator> {
        self.entries.iter().filter(move |entry| now.duration_since(entry.heard_at) <= GONE_AFTER)
    }

    /// The one with this id, unless it is gone.
    pub fn find(&self, id: u32, now: Instant) -> Option<&Activator> {
        self.iter(now).find(|entry| entry.id == id)
    }

    /// For how long reports have come without a break; nothing when they do not come now.
    pub fn stream_age(&self, now: Instant) -> Option<Duration> {
        let heard_at = self.heard_at?;
        if now.duration_since(heard_at) > STALE_AFTER {
            return None;
        }
        Some(now.duration_since(self.stream_since?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_as_old_as_its_last_break() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut activators = Activators::default();
        assert_eq!(activators.stream_age(start), None);
        for second in [0, 1, 2, 7] {
            activators.heard("a", Scope::Full, at(second));
        }
        assert_eq!(activators.stream_age(at(12)), Some(Duration::from_secs(12)));
        assert_eq!(activators.stream_age(at(13)), None);
        activators.heard("b", Scope::Moment, at(13));
        assert_eq!(activators.stream_age(at(14)), Some(Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_activator_is_dropped_after_the_named_time_only() {
        let start = Instant::now();
        let mut activators = Activators::default();
        activators.heard("a", Scope::Full, start);
        assert!(activators.forget_gone(start + GONE_AFTER).is_empty());
        assert_eq!(activators.iter(start + GONE_AFTER).count(), 1);
        let later = start + GONE_AFTER + Duration::from_millis(1);
        assert_eq!(activators.forget_gone(later), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_than_the_limit() {
        let now = Instant::now();
        let mut activators = Activators::default();
        for number in 0..ACTIVATORS_MAX {
            assert!(activators.heard(&number.to_string(), Scope::Full, now).is_some());
        }
        assert!(activators.heard("one more", Scope::Full, now).is_none());
        assert!(activators.heard("0", Scope::Full, now).is_some());
    }
}
