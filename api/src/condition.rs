//! Conditions with Knative's rule: `Ready` is the conjunction of its dependents.
//!
//! Source: knative.dev/pkg/apis/condition_set.go. Times are an argument, so that a status is a
//! pure function of what was observed.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// The condition that says whether an object does what its spec asks for.
pub const READY: &str = "Ready";

/// The three values of a condition.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Status {
    /// The condition holds.
    True,
    /// The condition does not hold, and waiting alone will not change that.
    False,
    /// It is not decided yet whether the condition holds.
    #[default]
    Unknown,
}

impl Status {
    /// The value as written in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One observation about an object, in the shape of `knative.dev/pkg/apis.Condition`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type of condition, `Ready` for the summary.
    #[serde(rename = "type")]
    pub type_: String,
    /// Status of the condition, one of True, False, Unknown.
    pub status: Status,
    /// `Info` when the condition does not count towards Ready; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// The last time the condition changed from one status to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// One word in CamelCase for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Which conditions make up `Ready` for a kind.
#[derive(Debug, Clone, Copy)]
pub struct ConditionSet {
    /// Every one of these must be True for Ready to be True.
    pub dependents: &'static [&'static str],
}

/// The conditions of one object, kept consistent under a [`ConditionSet`].
#[derive(Debug)]
pub struct Conditions<'a> {
    set: ConditionSet,
    list: &'a mut Vec<Condition>,
    before: Vec<Condition>,
    now: Timestamp,
}

// === impl Condition ===

impl Condition {
    /// Whether the status is True.
    pub fn is_true(&self) -> bool {
        self.status == Status::True
    }

    /// Whether the status is False.
    pub fn is_false(&self) -> bool {
        self.status == Status::False
    }

    /// Whether everything but the time is equal.
    fn says_the_same(&self, other: &Self) -> bool {
        let Self { type_, status, severity, last_transition_time: _, reason, message } = self;
        *type_ == other.type_
            && *status == other.status
            && *severity == other.severity
            && *reason == other.reason
            && *message == other.message
    }
}

/// The condition of that type, if it was ever set.
pub fn find<'a>(list: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    list.iter().find(|condition| condition.type_ == type_)
}

// === impl ConditionSet ===

impl ConditionSet {
    /// The conditions in `list`, changed as of `now`.
    pub fn manage<'a>(&self, list: &'a mut Vec<Condition>, now: Timestamp) -> Conditions<'a> {
        Conditions { set: *self, before: list.clone(), list, now }
    }
}

// === impl Conditions ===

impl Conditions<'_> {
    /// Sets Ready and every dependent that is still missing to Unknown.
    pub fn initialize(&mut self) {
        for type_ in self.set.dependents.iter().copied().chain([READY]) {
            if find(self.list, type_).is_none() {
                self.set(type_, Status::Unknown, None, None);
            }
        }
    }

    /// Sets Ready and every dependent to Unknown, as at a new generation.
    pub fn reset(&mut self) {
        for type_ in self.set.dependents.iter().copied().chain([READY]) {
            self.set(type_, Status::Unknown, None, None);
        }
    }

    /// Marks a condition True; Ready follows when all dependents are.
    pub fn mark_true(&mut self, type_: &str) {
        self.set(type_, Status::True, None, None);
        self.sum_up();
    }

    /// Marks a condition True with a reason, as Knative does for skipped certificates.
    pub fn mark_true_because(&mut self, type_: &str, reason: &str, message: &str) {
        self.set(type_, Status::True, Some(reason), Some(message));
        self.sum_up();
    }

    /// Marks a condition Unknown: not decided yet, for this reason.
    pub fn mark_unknown(&mut self, type_: &str, reason: &str, message: &str) {
        self.set(type_, Status::Unknown, Some(reason), Some(message));
        self.sum_up();
    }

    /// Marks a condition False; Ready takes over its reason.
    pub fn mark_false(&mut self, type_: &str, reason: &str, message: &str) {
        self.set(type_, Status::False, Some(reason), Some(message));
        self.sum_up();
    }

    /// Copies status, reason and message of another object's condition into `type_`.
    pub fn propagate(&mut self, type_: &str, from: Option<&Condition>) {
        match from {
            Some(from) => {
                self.set(type_, from.status, from.reason.as_deref(), from.message.as_deref());
            }
            None => self.set(type_, Status::Unknown, None, None),
        }
        self.sum_up();
    }

    /// Removes a condition that no longer applies.
    pub fn clear(&mut self, type_: &str) {
        self.list.retain(|condition| condition.type_ != type_);
        self.sum_up();
    }

    /// The condition as it stands.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        find(self.list, type_)
    }

    /// Ready is the worst of its dependents: the first False one, else the first Unknown one.
    fn sum_up(&mut self) {
        // A kind without dependents sets Ready itself.
        if self.set.dependents.is_empty() {
            return;
        }
        let worst = [Status::False, Status::Unknown].into_iter().find_map(|status| {
            self.set.dependents.iter().find_map(|type_| match find(self.list, type_) {
                Some(condition) if condition.status == status => Some(condition.clone()),
                None if status == Status::Unknown => Some(Condition::default()),
                _ => None,
            })
        });
        match worst {
            Some(Condition { status, reason, message, .. }) => {
                self.set(READY, status, reason.as_deref(), message.as_deref());
            }
            None => self.set(READY, Status::True, None, None),
        }
    }

    fn set(&mut self, type_: &str, status: Status, reason: Option<&str>, message: Option<&str>) {
        let counts = type_ == READY || self.set.dependents.contains(&type_);
        let reason = reason.filter(|text| !text.is_empty()).map(str::to_owned);
        let message = message.filter(|text| !text.is_empty()).map(str::to_owned);
        let severity = (!counts).then(|| "Info".to_owned());
        if let Some(condition) = self.list.iter_mut().find(|condition| condition.type_ == type_) {
            condition.status = status;
            condition.reason = reason;
            condition.message = message;
            condition.severity = severity;
            // As in Knative, a change of any other field moves the time. The comparison is with the
            // condition before this reconcile, not with an earlier mark of the same reconcile.
            condition.last_transition_time = find(&self.before, type_)
                .filter(|before| before.says_the_same(condition))
                .map_or(Some(Time(self.now)), |before| before.last_transition_time.clone());
            return;
        }
        self.list.push(Condition {
            type_: type_.to_owned(),
            status,
            severity,
            last_transition_time: Some(Time(self.now)),
            reason,
            message,
        });
        // Sorted by type, as Knative writes them: an unchanged status is then an equal value.
        self.list.sort_by(|a, b| a.type_.cmp(&b.type_));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: ConditionSet = ConditionSet { dependents: &["A", "B"] };

    #[test]
    fn ready_is_true_only_when_all_dependents_are() {
        let mut list = Vec::new();
        let mut conditions = SET.manage(&mut list, Timestamp::UNIX_EPOCH);
        conditions.initialize();
        conditions.mark_true("A");
        assert_eq!(conditions.get(READY).map(|c| c.status), Some(Status::Unknown));
        conditions.mark_true("B");
        assert_eq!(conditions.get(READY).map(|c| c.status), Some(Status::True));
    }

    #[test]
    fn a_false_dependent_outweighs_an_unknown_one_and_gives_its_reason() {
        let mut list = Vec::new();
        let mut conditions = SET.manage(&mut list, Timestamp::UNIX_EPOCH);
        conditions.mark_unknown("A", "Deploying", "");
        conditions.mark_false("B", "ExitCode1", "Container failed with: boom");
        let ready = conditions.get(READY).cloned().unwrap();
        assert_eq!(ready.status, Status::False);
        assert_eq!(ready.reason.as_deref(), Some("ExitCode1"));
    }

    #[test]
    fn a_condition_outside_the_set_is_information_and_leaves_ready_alone() {
        let mut list = Vec::new();
        let mut conditions = SET.manage(&mut list, Timestamp::UNIX_EPOCH);
        conditions.mark_true("A");
        conditions.mark_true("B");
        conditions.mark_false("Active", "NoTraffic", "The target is not receiving traffic.");
        assert!(conditions.get(READY).is_some_and(Condition::is_true));
        assert_eq!(
            conditions.get("Active").and_then(|c| c.severity.clone()).as_deref(),
            Some("Info")
        );
    }

    /// knative.dev/pkg's condition set moves the time when any field but the time itself changes.
    #[test]
    fn the_transition_time_moves_with_status_reason_and_message_and_with_nothing_else() {
        let mut list = Vec::new();
        let mut now = Timestamp::UNIX_EPOCH;
        for (status, reason, message, moves) in [
            (Status::Unknown, "One", "", true),
            (Status::Unknown, "One", "", false),
            (Status::Unknown, "Two", "", true),
            (Status::Unknown, "Two", "more", true),
            (Status::Unknown, "Two", "more", false),
            (Status::False, "Two", "more", true),
        ] {
            now += jiff::SignedDuration::from_secs(60);
            let before = find(&list, "A").and_then(|it| it.last_transition_time.clone());
            let mut conditions = SET.manage(&mut list, now);
            if status == Status::False {
                conditions.mark_false("A", reason, message);
            } else {
                conditions.mark_unknown("A", reason, message);
            }
            let after = find(&list, "A").and_then(|it| it.last_transition_time.clone());
            assert_eq!(after, if moves { Some(Time(now)) } else { before }, "{reason} {message}");
        }
    }

    /// A condition that is marked otherwise within a reconcile, but ends as it began, is unchanged.
    #[test]
    fn a_condition_that_ends_a_reconcile_as_it_began_keeps_its_time() {
        let mut list = Vec::new();
        let look = |list: &mut Vec<Condition>, now: i64| {
            let mut conditions = SET.manage(list, Timestamp::from_second(now).unwrap());
            conditions.mark_true("A");
            conditions.mark_true("B");
            conditions.mark_false("B", "NotOwned", "somebody else's");
        };
        look(&mut list, 0);
        let first = list.clone();
        look(&mut list, 60);
        assert_eq!(list, first);
    }
}
