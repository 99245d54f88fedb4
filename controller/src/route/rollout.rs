//! A gradual rollout: requests move to a Configuration's new Revision step by step. Source:
//! knative/serving pkg/reconciler/route/traffic/rollout.go.
//!
//! Pure. The split in force says how far it is, and an annotation of the same status how it goes on, so
//! that one write changes both and a controller that starts anew goes on where the last one was.
//! Knative begins with 1 % too, and measures with it how long its ingress takes to follow; an activator
//! follows at once, so that a step may be as short as [`STEP_MIN`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ebb_api::annotations::ROLLOUT_DURATION;
use ebb_api::config::NetworkConfig;
use ebb_api::duration;
use ebb_api::serving::{Route, RouteStatus, TrafficTarget};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The annotation of a Route's status that tells how its rollouts go on.
pub(crate) const ROLLOUT: &str = "serving.ebb.dev/rollout";

/// Shortest time from one step to the next: each is a write of two statuses.
const STEP_MIN: Duration = Duration::from_secs(1);
/// Share of the first step, in percent, as in Knative.
const FIRST: i64 = 1;

/// How a rollout goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pace {
    /// The Revision that requests move to.
    to: String,
    /// When the next step is due.
    next: Timestamp,
    /// Seconds from one step to the next.
    every_seconds: f64,
    /// Percent of the Route's requests that move with each.
    step: i64,
    /// Seconds that the rollout was to take: with another duration the rest has another pace.
    within_seconds: u64,
}

/// The rollouts of a Route, by Configuration, after `TAG/` for those of a tag.
type Paces = BTreeMap<String, Pace>;

/// The split that is in force now, and when it changes.
#[derive(Debug, PartialEq)]
pub(super) struct Rolled {
    pub(super) traffic: Vec<TrafficTarget>,
    /// The annotation of the status; `None` without a rollout under way.
    pub(super) note: Option<String>,
    /// The time until the next step.
    pub(super) next: Option<Duration>,
}

/// How long rollouts of the Route take; zero if requests move at once.
pub(super) fn duration_of(route: &Route, network: &NetworkConfig) -> Duration {
    let own = ROLLOUT_DURATION.get(route.metadata.annotations.as_ref());
    let own = own.and_then(duration::parse).filter(|own| !own.is_zero());
    own.unwrap_or(network.rollout_duration)
}

/// One look at the rollouts that lead to the split `goal`, whose targets name Revisions; `old` is the
/// status so far, and `configuration_of` knows whose Revision one is. Targets of 1 % or less, those that
/// name their Revision, and the first Revision of a Configuration, have no rollout.
pub(super) fn roll(
    goal: Vec<TrafficTarget>,
    old: &RouteStatus,
    configuration_of: impl Fn(&str) -> Option<String>,
    duration: Duration,
    now: Timestamp,
) -> Rolled {
    let known = old.annotations.get(ROLLOUT).and_then(|note| serde_json::from_str(note).ok());
    let (known, mut paces): (Paces, Paces) = (known.unwrap_or_default(), Paces::new());
    let mut traffic = Vec::with_capacity(goal.len());
    let tags: BTreeSet<_> = goal.iter().map(|target| target.tag.clone()).collect();
    for target in goal {
        let revision = target.revision_name.as_deref().filter(|_| rolls(&target, duration));
        let Some(configuration) = revision.and_then(&configuration_of) else {
            traffic.push(target);
            continue;
        };
        let is_of_it = |other: &&TrafficTarget| {
            other.latest_revision == Some(true)
                && other.percent.is_some_and(|percent| percent > 0)
                && other.revision_name.as_deref().and_then(&configuration_of).as_ref()
                    == Some(&configuration)
        };
        let has_tag = |other: &&TrafficTarget| other.tag == target.tag;
        let is_left = |other: &&TrafficTarget| !tags.contains(&other.tag);
        let old = || old.traffic.iter().filter(is_of_it);
        let mut before: Vec<_> = old().filter(has_tag).cloned().collect();
        if before.is_empty() {
            // Its tag is new: a rollout goes on under it.
            before = old().filter(is_left).cloned().collect();
            for part in &mut before {
                part.tag.clone_from(&target.tag);
            }
        }
        let key = match &target.tag {
            Some(tag) => format!("{tag}/{configuration}"),
            None => configuration,
        };
        let (parts, pace) = step(&target, before, known.get(&key), duration, now);
        traffic.extend(parts);
        paces.extend(pace.map(|pace| (key, pace)));
    }
    let next = paces.values().map(|pace| pace.next).min();
    Rolled {
        traffic,
        note: (!paces.is_empty()).then(|| serde_json::to_string(&paces).unwrap_or_default()),
        next: next.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()),
    }
}

fn rolls(target: &TrafficTarget, duration: Duration) -> bool {
    !duration.is_zero()
        && target.latest_revision == Some(true)
        && target.percent.is_some_and(|percent| percent > FIRST)
}

/// The parts of one target now, oldest Revision first, and how they go on, if they do.
fn step(
    target: &TrafficTarget,
    mut parts: Vec<TrafficTarget>,
    known: Option<&Pace>,
    duration: Duration,
    now: Timestamp,
) -> (Vec<TrafficTarget>, Option<Pace>) {
    let whole = target.percent.unwrap_or_default();
    fit(&mut parts, whole);
    let is_new = parts.last().is_some_and(|last| last.revision_name != target.revision_name);
    if is_new {
        // One that was on its way out before begins anew.
        parts.retain(|part| part.revision_name != target.revision_name);
        take(&mut parts, FIRST, true);
        let moved = whole - parts.iter().filter_map(|part| part.percent).sum::<i64>();
        parts.push(TrafficTarget { percent: Some(moved), ..target.clone() });
    }
    if parts.len() < 2 {
        return (vec![target.clone()], None);
    }
    let known = known.filter(|pace| Some(&pace.to) == target.revision_name.as_ref());
    let known = known.filter(|pace| pace.within_seconds == duration.as_secs());
    let Some(known) = known else {
        let last = parts.last().and_then(|last| last.percent).unwrap_or_default();
        let pace = pace(target, whole - last, duration, now);
        return (parts, Some(pace));
    };
    let mut pace = known.clone();
    let every = Duration::try_from_secs_f64(pace.every_seconds).unwrap_or(STEP_MIN).max(STEP_MIN);
    // The clock may have been set back since.
    pace.next = pace.next.min(after(now, every));
    if pace.next <= now {
        let mut newest = parts.pop().unwrap_or_else(|| target.clone());
        take(&mut parts, pace.step.max(1), false);
        let left: i64 = parts.iter().filter_map(|part| part.percent).sum();
        newest.percent = Some(whole - left);
        parts.push(newest);
        // From now on, not from when it was due: after a pause nothing moves faster.
        pace.next = after(now, every);
    }
    if parts.len() < 2 {
        return (vec![target.clone()], None);
    }
    (parts, Some(pace))
}

/// Makes the parts add up to `whole`: what was added goes to the newest, what was taken goes from the
/// oldest first.
fn fit(parts: &mut Vec<TrafficTarget>, whole: i64) {
    let sum: i64 = parts.iter().filter_map(|part| part.percent).sum();
    if sum > whole {
        take(parts, sum - whole, false);
    } else if let Some(last) = parts.last_mut() {
        last.percent = last.percent.map(|percent| percent + whole - sum);
    }
}

/// Takes that many percent from the parts, from the oldest or the newest first, and drops those that have
/// none left.
fn take(parts: &mut Vec<TrafficTarget>, mut amount: i64, newest_first: bool) {
    let mut take_from = |part: &mut TrafficTarget| {
        let percent = part.percent.unwrap_or_default();
        let taken = amount.min(percent);
        amount -= taken;
        part.percent = Some(percent - taken);
    };
    if newest_first {
        parts.iter_mut().rev().for_each(&mut take_from);
    } else {
        parts.iter_mut().for_each(&mut take_from);
    }
    parts.retain(|part| part.percent.is_some_and(|percent| percent > 0));
}

/// How to move what `remains`, in percent, within the rest of the duration.
fn pace(target: &TrafficTarget, remains: i64, duration: Duration, now: Timestamp) -> Pace {
    let rest = duration.saturating_sub(STEP_MIN).max(STEP_MIN).as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "100 at the most")]
    let remains = remains.max(1) as f64;
    let steps = (rest / STEP_MIN.as_secs_f64()).max(1.0).min(remains);
    let every_seconds = rest / steps;
    #[allow(clippy::cast_possible_truncation, reason = "100 at the most")]
    let step = (remains / steps).round() as i64;
    let every = Duration::try_from_secs_f64(every_seconds).unwrap_or(STEP_MIN);
    let to = target.revision_name.clone().unwrap_or_default();
    let within_seconds = duration.as_secs();
    Pace { to, next: after(now, every), every_seconds, step, within_seconds }
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
