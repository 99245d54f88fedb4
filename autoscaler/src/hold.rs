//! A scale that is held up because a part of the load or of the pods is not known, and when people are
//! told.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::activators::Unheard;

/// Activators that one note names.
const NAMES_MAX: usize = 3;

/// What holds up a scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Not every activator is heard.
    Unheard(Unheard),
    /// An activator names a pod that the autoscaler does not see.
    UnseenPods,
}

/// Whether one revision's scale is held up.
#[derive(Debug, Default)]
pub struct Hold {
    since: Option<Instant>,
    told_at: Option<Instant>,
    /// The lower scale that would be asked for.
    wanted: u32,
}

// === impl Hold ===

impl Hold {
    /// Takes note of whether a scale of `wanted` is held up now.
    pub fn follow(&mut self, is_held: bool, wanted: u32, now: Instant) {
        if !is_held {
            *self = Self::default();
            return;
        }
        self.since.get_or_insert(now);
        self.wanted = wanted;
    }

    /// Whether the scale is held up.
    pub fn is_held(&self) -> bool {
        self.since.is_some()
    }

    /// Whether a notice is due: after `patience`, and again each time that `patience` has passed
    /// once more, for Kubernetes forgets an Event within an hour.
    pub fn is_to_be_told(&mut self, patience: Duration, now: Instant) -> bool {
        let since = self.told_at.or(self.since);
        let is_due = since.is_some_and(|since| now.duration_since(since) >= patience);
        if is_due {
            self.told_at = Some(now);
        }
        is_due
    }

    /// A message to people: what is held up, why, and what to look at.
    pub fn explain(&self, current: u32, why: &Obstacle) -> String {
        let mut note = format!("The scale stays at {current}, although {} would do: ", self.wanted);
        match why {
            Obstacle::Unheard(Unheard::Pods) => note.push_str(
                "the autoscaler does not know all activators. Check its log for why their pods \
                 cannot be listed.",
            ),
            Obstacle::UnseenPods => note.push_str(
                "an activator reports a pod that the autoscaler does not see. Check the logs of \
                 both for a watch of pods that stands still.",
            ),
            Obstacle::Unheard(Unheard::Activators(silent)) => describe(&mut note, silent),
        }
        note
    }
}

fn describe(note: &mut String, silent: &[(String, Duration)]) {
    let named = silent.iter().take(NAMES_MAX);
    let named: Vec<_> =
        named.map(|(name, silence)| format!("{name} (for {} s)", silence.as_secs())).collect();
    note.push_str("the autoscaler does not hear from the activator ");
    note.push_str(&named.join(", "));
    let more = silent.len().saturating_sub(NAMES_MAX);
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = write!(note, " and {more} more");
    }
    note.push_str(
        ", which may still send requests. Check that its pod can connect to the reports port \
         (8080) of every autoscaler pod: NetworkPolicies, firewall, the activator's log. If its \
         node is lost, delete the pod with --force.",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_told_after_the_patience_and_each_time_that_passes_again() {
        let start = Instant::now();
        let patience = Duration::from_mins(10);
        let mut hold = Hold::default();
        let mut told = Vec::new();
        for minute in 0..35 {
            let now = start + Duration::from_mins(minute);
            hold.follow(minute != 22, 1, now);
            if hold.is_to_be_told(patience, now) {
                told.push(minute);
            }
        }
        assert_eq!(told, [10, 20, 33]);
        hold.follow(false, 0, start);
        assert!(!hold.is_held());
    }

    #[test]
    fn a_note_names_the_silent_activators_and_stays_short() {
        let mut hold = Hold::default();
        hold.follow(true, 1, Instant::now());
        let names = (0..5).map(|index| (format!("activator-{index}"), Duration::from_secs(620)));
        let note = hold.explain(4, &Obstacle::Unheard(Unheard::Activators(names.collect())));
        let expected = "The scale stays at 4, although 1 would do: the autoscaler does not hear \
                        from the activator activator-0 (for 620 s), activator-1 (for 620 s), \
                        activator-2 (for 620 s) and 2 more, which may";
        assert!(note.starts_with(expected), "{note}");
        // Kubernetes takes 1 kB.
        assert!(note.len() + 3 * 253 < 1200, "{}", note.len());
        assert!(hold.explain(4, &Obstacle::Unheard(Unheard::Pods)).contains("cannot be listed"));
        assert!(hold.explain(4, &Obstacle::UnseenPods).contains("does not see"));
    }
}
