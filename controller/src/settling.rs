//! When a changed status is worth a write.
//!
//! A Service that starts in a second passes through a dozen intermediate statuses in four objects.
//! Each is a write to etcd and an event to every watcher, at the very moment when the cold start
//! wants the machine. So news that a program acts upon is written at once. The rest is written only
//! when it has been true for a while ([`SETTLE`], [`SETTLE_DETAIL`]) and when not many other
//! statuses are being written ([`TOLD_BURST`]): when a hundred Services start together, nobody
//! reads the progress, but every start pays for it.
//!
//! An object that meets too many other writes is given its turn and is judged again then, not
//! before: however many objects wait, each is judged three times.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use ebb_api::condition::{self, Condition, READY, Status};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long mere progress waits for an outcome: longer than an ordinary start from an image that is
/// present, shorter than a person's patience.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

/// How long a change of details waits for the next one. Longer than a wake-up, so that a wake-up is
/// written once and not twice.
pub(crate) const SETTLE_DETAIL: Duration = Duration::from_secs(5);

/// Statuses without urgent news that may be written together: two Services' worth.
const TOLD_BURST: u32 = 8;
/// The time in which one more such status may be written. A status needs an API server some 10 ms
/// of processor time, so a burst of starts loses about a hundredth of a core.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Longest time for which a status is out of date, however many wait: in a large fleet something
/// wakes or falls asleep at every moment.
pub(crate) const TOLD_LATEST: Duration = Duration::from_secs(30);

/// How much a change of status matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing changed.
    None,
    /// The outcome stands and something about it changed: a number of replicas.
    Detail,
    /// A change is under way.
    Progress,
    /// A user may be waiting for this change.
    Urgent,
}

/// What to do about a change of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// Write nothing.
    Keep,
    /// Write it.
    Write,
    /// Judge again after that time.
    Wait(Duration),
}

/// The changes of statuses that wait to be written.
#[derive(Debug)]
pub(crate) struct Settling<Key>(Mutex<State<Key>>);

#[derive(Debug)]
struct State<Key> {
    /// The waiting change of each object. Bounded by the number of objects: an entry goes when its
    /// status is written, when there is no change any more, or when the object is gone.
    waiting: HashMap<Key, Waiting>,
    /// The instant from which all of [`TOLD_BURST`] may be written again; in the past if they may
    /// be written now.
    rested_at: Option<Instant>,
}

/// A waiting change of one object.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    since: Instant,
    /// When the status may be written, once it has settled.
    turn: Option<Instant>,
}

// === impl Settling ===

impl<Key: Eq + Hash> Settling<Key> {
    /// No changes wait yet.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { waiting: HashMap::new(), rested_at: None }))
    }

    /// What to do about `news` of the object `key`.
    pub(crate) fn judge(&self, key: Key, news: News, now: Instant) -> Settlement {
        let mut state = self.0.lock();
        let settle = match news {
            News::None => {
                state.waiting.remove(&key);
                return Settlement::Keep;
            }
            News::Urgent => {
                state.waiting.remove(&key);
                return Settlement::Write;
            }
            News::Detail => SETTLE_DETAIL,
            News::Progress => SETTLE,
        };
        let State { waiting, rested_at } = &mut *state;
        let waiting = waiting.entry(key).or_insert(Waiting { since: now, turn: None });
        let settled = waiting.since + settle;
        if now < settled {
            return Settlement::Wait(settled.saturating_duration_since(now));
        }
        let turn = *waiting
            .turn
            .get_or_insert_with(|| next_turn(rested_at, now, waiting.since + TOLD_LATEST));
        if now < turn {
            Settlement::Wait(turn.saturating_duration_since(now))
        } else {
            Settlement::Write
        }
    }

    /// Forgets an object: its status was written, or it is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.0.lock().waiting.remove(key);
    }
}

/// When one more status may be written: at once if not too many were written of late, then one
/// after another, and at `latest` when there are too many for that. Those written at `latest` take
/// no turns from the others.
fn next_turn(rested_at: &mut Option<Instant>, now: Instant, latest: Instant) -> Instant {
    let rested = rested_at.map_or(now, |at| at.max(now)) + TOLD_EVERY;
    let turn = rested.checked_sub(TOLD_EVERY * TOLD_BURST).map_or(now, |turn| turn.max(now));
    if turn >= latest {
        return latest;
    }
    *rested_at = Some(rested);
    turn
}

/// How urgent the change from `old` to `new` conditions is, given that the statuses differ.
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
        (Some((Status::True, _)), Some((Status::True, _))) => News::Detail,
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
        assert_eq!(weigh(&done, &done, same), News::Detail);
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
        assert_eq!(settling.judge("a", News::Progress, start), Settlement::Wait(SETTLE));
        assert_eq!(
            settling.judge("a", News::Progress, after(400)),
            Settlement::Wait(Duration::from_millis(1600))
        );
        assert_eq!(settling.judge("a", News::Urgent, after(500)), Settlement::Write);
        assert_eq!(settling.judge("a", News::Progress, after(600)), Settlement::Wait(SETTLE));
        assert_eq!(settling.judge("a", News::Progress, after(2600)), Settlement::Write);
        settling.forget(&"a");
        assert_eq!(settling.judge("a", News::None, after(2700)), Settlement::Keep);
    }

    #[test]
    fn a_wake_up_is_told_once() {
        let settling = Settling::new();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(settling.judge("a", News::Detail, start), Settlement::Wait(SETTLE_DETAIL));
        assert_eq!(
            settling.judge("a", News::Detail, after(3000)),
            Settlement::Wait(Duration::from_secs(2))
        );
        assert_eq!(settling.judge("a", News::Detail, after(5000)), Settlement::Write);
    }

    #[test]
    fn many_that_start_together_tell_their_outcomes_and_little_else() {
        let settling = Settling::new();
        let start = Instant::now();
        let mut told = 0;
        for tenth in 0..100 {
            let now = start + Duration::from_millis(100 * tenth);
            for number in 0..30 {
                if settling.judge(number, News::Progress, now) == Settlement::Write {
                    told += 1;
                    settling.forget(&number);
                }
            }
        }
        // The burst, and one in each of the 7.9 seconds that were left.
        assert_eq!(told, 8 + 7);
        let now = start + Duration::from_secs(10);
        assert_eq!(settling.judge(1, News::Urgent, now), Settlement::Write);
    }

    /// A thousand objects that wait for their turn once had their reconciles run every two seconds.
    #[test]
    fn however_many_wait_each_looks_three_times_and_is_written() {
        let settling = Settling::new();
        let start = Instant::now();
        let mut due: Vec<_> = (0..1000).map(|number| (start, number)).collect();
        let (mut looks, mut written, mut last) = (0, 0, start);
        while !due.is_empty() {
            due.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            let Some((now, number)) = due.pop() else { break };
            looks += 1;
            match settling.judge(number, News::Progress, now) {
                Settlement::Wait(rest) => due.push((now + rest, number)),
                Settlement::Write => {
                    written += 1;
                    last = now;
                    settling.forget(&number);
                }
                Settlement::Keep => panic!("there is news"),
            }
        }
        assert_eq!(written, 1000);
        assert!(looks <= 3 * 1000, "{looks}");
        assert_eq!(last - start, TOLD_LATEST);
    }

    #[test]
    fn nothing_is_out_of_date_for_long_however_much_there_is_to_tell() {
        let settling = Settling::new();
        let start = Instant::now();
        for number in 0..1000 {
            settling.judge(number, News::Detail, start);
        }
        let now = start + TOLD_LATEST;
        for number in 0..1000 {
            assert_eq!(settling.judge(number, News::Detail, now), Settlement::Write);
        }
    }
}
