//! When a changed status is worth a write.
//!
//! A Service that starts in a second passes through a dozen intermediate statuses in four
//! objects. Each is a write to etcd and an event to every watcher, at the very moment when the
//! cold start wants the machine. So news that a program acts upon is written at once, and
//! progress is written only when it has been true for [`SETTLE`].

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use ebb_api::condition::{self, Condition, READY, Status};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long mere progress waits for something better to say. A person does not notice a second;
/// a warm image starts well within it.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// How much a change of status matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing changed.
    None,
    /// Something is on its way, or a number moved.
    Progress,
    /// Somebody may be waiting for this.
    Urgent,
}

/// What to do about a change of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Leave it.
    Keep,
    /// Write it.
    Write,
    /// Look again after that time.
    Wait(Duration),
}

/// Since when each object has had progress to report. Bounded by the number of objects: an entry
/// goes with the write, with the news, or with the object.
#[derive(Debug)]
pub(crate) struct Settling<Key> {
    since: Mutex<HashMap<Key, Instant>>,
}

// === impl Settling ===

impl<Key: Eq + Hash> Settling<Key> {
    /// Nothing to report yet.
    pub(crate) fn new() -> Self {
        Self { since: Mutex::new(HashMap::new()) }
    }

    /// What to do about `news` of the object `key`.
    pub(crate) fn judge(&self, key: Key, news: News, now: Instant) -> Verdict {
        let mut since = self.since.lock();
        match news {
            News::None => {
                since.remove(&key);
                Verdict::Keep
            }
            News::Urgent => {
                since.remove(&key);
                Verdict::Write
            }
            News::Progress => {
                let started = *since.entry(key).or_insert(now);
                let waited = now.saturating_duration_since(started);
                if waited >= SETTLE {
                    Verdict::Write
                } else {
                    Verdict::Wait(SETTLE.saturating_sub(waited))
                }
            }
        }
    }

    /// Forgets an object: its status was written, or it is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.since.lock().remove(key);
    }
}

/// How much the step from `old` to `new` conditions matters, given that the statuses differ.
///
/// `generations` are the observed ones: a client that changed a spec waits for the new one.
pub(crate) fn weigh(
    old: &[Condition],
    new: &[Condition],
    generations: (Option<i64>, Option<i64>),
) -> News {
    let (before, after) = generations;
    if before.is_some() && before != after {
        return News::Urgent;
    }
    let key = |list: &[Condition]| {
        condition::find(list, READY).map(|ready| (ready.status, ready.reason.clone()))
    };
    match (key(old), key(new)) {
        (old, new) if old == new => News::Progress,
        (_, Some((Status::True | Status::False, _))) => News::Urgent,
        // A message that changes under the same reason (a crash loop's last words) is no news.
        _ => News::Progress,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: Status, reason: &str) -> Vec<Condition> {
        vec![Condition {
            type_: READY.to_owned(),
            status,
            reason: Some(reason.to_owned()),
            ..Condition::default()
        }]
    }

    #[test]
    fn only_outcomes_and_new_generations_are_urgent() {
        let same = (Some(1), Some(1));
        let (unknown, done) = (ready(Status::Unknown, "Deploying"), ready(Status::True, ""));
        let (one, two) = (ready(Status::False, "ExitCode1"), ready(Status::False, "ExitCode2"));
        assert_eq!(weigh(&[], &unknown, (None, Some(1))), News::Progress);
        assert_eq!(weigh(&unknown, &done, same), News::Urgent);
        assert_eq!(weigh(&done, &done, same), News::Progress);
        assert_eq!(weigh(&one, &two, same), News::Urgent);
        assert_eq!(weigh(&one, &one, same), News::Progress);
        assert_eq!(weigh(&done, &unknown, same), News::Progress);
        assert_eq!(weigh(&done, &unknown, (Some(1), Some(2))), News::Urgent);
    }

    #[test]
    fn progress_waits_and_urgent_news_does_not() {
        let settling = Settling::new();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(settling.judge("a", News::Progress, start), Verdict::Wait(SETTLE));
        assert_eq!(
            settling.judge("a", News::Progress, after(400)),
            Verdict::Wait(Duration::from_millis(600))
        );
        assert_eq!(settling.judge("a", News::Urgent, after(500)), Verdict::Write);
        assert_eq!(settling.judge("a", News::Progress, after(600)), Verdict::Wait(SETTLE));
        assert_eq!(settling.judge("a", News::Progress, after(1600)), Verdict::Write);
        settling.forget(&"a");
        assert_eq!(settling.judge("a", News::None, after(1700)), Verdict::Keep);
    }
}
