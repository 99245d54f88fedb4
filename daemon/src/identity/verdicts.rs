//! The API server's verdicts about tokens, kept for a while and up to a bound.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How long a yes is believed without asking again: the token of a pod that was deleted is accepted
/// for no longer than that.
const ACCEPTED_FOR: Duration = Duration::from_mins(1);
/// How long a yes is believed when the API server gives no answer: requests between activators must
/// outlive its absence.
const ACCEPTED_UNHEARD_FOR: Duration = Duration::from_mins(10);
/// How long a no is believed. Short, for an account or a token may only be too new.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Pause after a failed review of a token for which an older yes still counts.
const FAILED_FOR: Duration = Duration::from_secs(5);
/// Most tokens that are kept: two for each of the 256 activators that an autoscaler tells apart,
/// for they change while their pod runs.
const ACCEPTED_MAX: usize = 512;
/// Most refused tokens that are kept. Invented tokens beyond these are all reviewed, in turn.
const REFUSED_MAX: usize = 256;

/// The pod that shows a token.
pub(super) type Pod = Arc<str>;

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Memory {
    /// It is that pod's.
    Accepted(Pod),
    /// It belongs to nobody who may come in.
    Refused,
    /// It was that pod's; the API server should be asked again.
    Stale(Pod),
    /// Nothing is known.
    Unknown,
}

/// The answers so far, by token.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    accepted: HashMap<Box<str>, Accepted>,
    /// Until when each is refused without a question.
    refused: HashMap<Box<str>, Instant>,
}

#[derive(Debug)]
struct Accepted {
    pod: Pod,
    /// When the API server said so.
    at: Instant,
    /// When it is to be asked again.
    again: Instant,
}

// === impl Verdicts ===

impl Verdicts {
    /// What is known of `token` at `now`.
    pub(super) fn recall(&self, token: &str, now: Instant) -> Memory {
        if let Some(accepted) = self.accepted.get(token) {
            if now < accepted.again {
                return Memory::Accepted(Arc::clone(&accepted.pod));
            }
            if now < accepted.at + ACCEPTED_UNHEARD_FOR {
                return Memory::Stale(Arc::clone(&accepted.pod));
            }
        }
        match self.refused.get(token) {
            Some(until) if now < *until => Memory::Refused,
            _ => Memory::Unknown,
        }
    }

    /// The API server says that `token` is that pod's.
    pub(super) fn accept(&mut self, token: &str, pod: Pod, now: Instant) {
        self.refused.remove(token);
        if self.accepted.len() >= ACCEPTED_MAX {
            self.accepted.retain(|_, known| now < known.at + ACCEPTED_UNHEARD_FOR);
        }
        if self.accepted.len() >= ACCEPTED_MAX {
            // The token that was accepted longest ago has most likely been renewed since.
            let oldest = self.accepted.iter().min_by_key(|(_, known)| known.at);
            if let Some(oldest) = oldest.map(|(token, _)| token.clone()) {
                self.accepted.remove(&oldest);
            }
        }
        self.accepted.insert(token.into(), Accepted { pod, at: now, again: now + ACCEPTED_FOR });
    }

    /// The API server says that `token` opens nothing.
    pub(super) fn refuse(&mut self, token: &str, now: Instant) {
        self.accepted.remove(token);
        self.refused.retain(|_, until| now < *until);
        if self.refused.len() < REFUSED_MAX {
            self.refused.insert(token.into(), now + REFUSED_FOR);
        }
    }

    /// The API server said nothing: an older yes counts for a while more.
    pub(super) fn postpone(&mut self, token: &str, now: Instant) {
        if let Some(accepted) = self.accepted.get_mut(token) {
            let last = accepted.at + ACCEPTED_UNHEARD_FOR;
            accepted.again = (now + FAILED_FOR).min(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pod(name: &str) -> Pod {
        name.into()
    }

    #[test]
    fn a_yes_and_a_no_are_believed_for_their_time() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        assert_eq!(verdicts.recall("a", now), Memory::Unknown);
        verdicts.accept("a", pod("activator-0"), now);
        verdicts.refuse("b", now);
        let accepted = Memory::Accepted(pod("activator-0"));
        assert_eq!(verdicts.recall("a", now + ACCEPTED_FOR - SECOND), accepted);
        let stale = Memory::Stale(pod("activator-0"));
        assert_eq!(verdicts.recall("a", now + ACCEPTED_FOR), stale);
        assert_eq!(verdicts.recall("a", now + ACCEPTED_UNHEARD_FOR), Memory::Unknown);
        assert_eq!(verdicts.recall("b", now + REFUSED_FOR - SECOND), Memory::Refused);
        assert_eq!(verdicts.recall("b", now + REFUSED_FOR), Memory::Unknown);
    }

    #[test]
    fn a_no_takes_a_yes_back_and_the_other_way_round() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        verdicts.accept("a", pod("activator-0"), now);
        verdicts.refuse("a", now);
        assert_eq!(verdicts.recall("a", now), Memory::Refused);
        verdicts.accept("a", pod("activator-1"), now);
        assert_eq!(verdicts.recall("a", now), Memory::Accepted(pod("activator-1")));
    }

    #[test]
    fn without_an_answer_an_older_yes_counts_to_its_end_and_no_longer() {
        let (mut verdicts, mut now) = (Verdicts::default(), Instant::now());
        verdicts.postpone("a", now);
        assert_eq!(verdicts.recall("a", now), Memory::Unknown);
        verdicts.accept("a", pod("activator-0"), now);
        let end = now + ACCEPTED_UNHEARD_FOR;
        now += ACCEPTED_FOR;
        while now < end {
            assert_eq!(verdicts.recall("a", now), Memory::Stale(pod("activator-0")));
            verdicts.postpone("a", now);
            assert_eq!(verdicts.recall("a", now), Memory::Accepted(pod("activator-0")));
            now += FAILED_FOR;
        }
        assert_eq!(verdicts.recall("a", end), Memory::Unknown);
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        for number in 0..2 * ACCEPTED_MAX {
            let at = now + Duration::from_millis(u64::try_from(number).unwrap());
            verdicts.accept(&format!("good-{number}"), pod("activator-0"), at);
            verdicts.refuse(&format!("bad-{number}"), now);
        }
        assert_eq!(verdicts.accepted.len(), ACCEPTED_MAX);
        assert_eq!(verdicts.refused.len(), REFUSED_MAX);
        let newest = format!("good-{}", 2 * ACCEPTED_MAX - 1);
        assert_ne!(verdicts.recall(&newest, now), Memory::Unknown);
        // Room for new ones comes with time.
        verdicts.refuse("another", now + REFUSED_FOR);
        assert_eq!(verdicts.recall("another", now + REFUSED_FOR), Memory::Refused);
    }
}
