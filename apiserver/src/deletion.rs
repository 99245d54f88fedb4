//! What a deletion does to an object: a pure decision.
//!
//! An object without finalizers goes at once. One with finalizers is marked and goes with the last
//! of them. A pod is marked too and given its grace period: the runner deletes it for good, with a
//! grace period of zero, once its processes have ended.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::metadata;
use crate::request::Propagation;

/// Finalizer of an object that waits for the objects that it owns to be gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object whose dependents have still to be cut loose from it.
pub(crate) const ORPHAN: &str = "orphan";

/// Grace period of a pod that names none, in seconds; Kubernetes' own.
const POD_GRACE_S: u64 = 30;

/// How to delete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Grace period, in seconds; only pods have one.
    pub(crate) grace_s: Option<u64>,
    /// What becomes of owned objects; by default they go after their owner.
    pub(crate) propagation: Option<Propagation>,
}

/// The decision on a deletion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DeletionPlan {
    /// Remove the object.
    Remove,
    /// Store this version, which is marked as being deleted, and remove it: a pod that nobody runs.
    /// Who watches it sees that it was to go.
    RemoveMarked(Value),
    /// Store this version, which is marked as being deleted.
    Mark(Value),
    /// Nothing: it is being deleted already.
    Wait,
}

/// Decides on the deletion of `old`.
pub(crate) fn plan(old: &Value, manner: Manner, now: Timestamp) -> DeletionPlan {
    let mut value = old.clone();
    set_propagation(&mut value, manner.propagation);
    let grace_s = grace_of(old, manner);
    let marked_s = marked_grace(old);
    let held = has_finalizers(&value);
    if grace_s == 0 && !held && (marked_s.is_some() || !is_pod(old)) {
        return DeletionPlan::Remove;
    }
    match marked_s {
        Some(marked_s) if marked_s <= grace_s && value == *old => return DeletionPlan::Wait,
        // A deletion may be made to end sooner, never later.
        Some(marked_s) if marked_s <= grace_s => {}
        _ => mark(&mut value, grace_s, now),
    }
    if marked_s.is_none() {
        if let Some(generation) = old["metadata"]["generation"].as_u64() {
            metadata::of(&mut value).insert("generation".into(), Value::from(generation + 1));
        }
        if old["kind"] == "Namespace" {
            value["status"]["phase"] = Value::from("Terminating");
        }
    }
    if grace_s == 0 && !held {
        DeletionPlan::RemoveMarked(value)
    } else {
        DeletionPlan::Mark(value)
    }
}

/// Whether a version of an object is its last: it is marked, its grace period is zero, and no
/// finalizer holds it any more.
pub(crate) fn is_over(value: &Value) -> bool {
    marked_grace(value) == Some(0) && !has_finalizers(value)
}

fn mark(value: &mut Value, grace_s: u64, now: Timestamp) {
    let grace = SignedDuration::from_secs(i64::try_from(grace_s).unwrap_or(i64::MAX));
    let at = now.saturating_add(grace).unwrap_or(now);
    let fields = metadata::of(value);
    fields.insert("deletionTimestamp".into(), Value::from(metadata::time(at)));
    fields.insert("deletionGracePeriodSeconds".into(), Value::from(grace_s));
}

/// Grace period of a deletion in progress, in seconds.
fn marked_grace(value: &Value) -> Option<u64> {
    let fields = &value["metadata"];
    fields["deletionTimestamp"].as_str()?;
    Some(fields["deletionGracePeriodSeconds"].as_u64().unwrap_or(0))
}

fn grace_of(old: &Value, manner: Manner) -> u64 {
    let ended = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    // Nobody runs a pod that is on no node.
    let placed = old["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    if !is_pod(old) || ended || !placed {
        return 0;
    }
    let own = old["spec"]["terminationGracePeriodSeconds"].as_u64();
    manner.grace_s.or(own).unwrap_or(POD_GRACE_S)
}

fn is_pod(value: &Value) -> bool {
    value["kind"] == "Pod" && value["apiVersion"] == "v1"
}

fn has_finalizers(value: &Value) -> bool {
    let some = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    let namespace = value["kind"] == "Namespace" && value["apiVersion"] == "v1";
    some(&value["metadata"]["finalizers"]) || (namespace && some(&value["spec"]["finalizers"]))
}

/// A propagation policy is kept as a finalizer, so that it survives a restart.
fn set_propagation(value: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    remove_finalizers(value, &[FOREGROUND, ORPHAN]);
    let added = match propagation {
        Propagation::Background => return,
        Propagation::Foreground => FOREGROUND,
        Propagation::Orphan => ORPHAN,
    };
    let finalizers = metadata::of(value).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(finalizers) = finalizers.as_array_mut() {
        finalizers.push(Value::from(added));
    }
}

/// Removes finalizers from an object.
pub(crate) fn remove_finalizers(value: &mut Value, names: &[&str]) {
    let fields = metadata::of(value);
    let Some(list) = fields.get_mut("finalizers").and_then(Value::as_array_mut) else {
        return;
    };
    list.retain(|finalizer| !names.contains(&finalizer.as_str().unwrap_or_default()));
    if list.is_empty() {
        fields.remove("finalizers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" },
            "spec": { "nodeName": "n", "terminationGracePeriodSeconds": 5 },
        })
    }

    fn grace(grace_s: u64) -> Manner {
        Manner { grace_s: Some(grace_s), propagation: None }
    }

    #[test]
    fn a_pod_is_given_its_grace_period_and_goes_with_zero() {
        let DeletionPlan::Mark(marked) = plan(&pod(), Manner::default(), NOW) else {
            panic!("not marked");
        };
        assert_eq!(marked["metadata"]["deletionTimestamp"], "1970-01-01T00:00:05Z");
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 5);
        assert_eq!(plan(&marked, Manner::default(), NOW), DeletionPlan::Wait);
        assert_eq!(plan(&marked, grace(60), NOW), DeletionPlan::Wait);
        assert_eq!(plan(&marked, grace(0), NOW), DeletionPlan::Remove);
        assert!(!is_over(&marked));
    }

    #[test]
    fn a_pod_that_nobody_runs_goes_at_once() {
        let mut old = pod();
        old["spec"]["nodeName"].take();
        let DeletionPlan::RemoveMarked(marked) = plan(&old, Manner::default(), NOW) else {
            panic!("not removed");
        };
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
        assert!(is_over(&marked));
    }

    #[test]
    fn a_deletion_can_be_made_shorter() {
        let DeletionPlan::Mark(marked) = plan(&pod(), Manner::default(), NOW) else {
            panic!("not marked");
        };
        let DeletionPlan::Mark(shorter) = plan(&marked, grace(1), NOW) else {
            panic!("not marked");
        };
        assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 1);
    }

    #[test]
    fn an_object_with_finalizers_is_marked_and_over_with_the_last_of_them() {
        let old = json!({ "kind": "X", "metadata": { "finalizers": ["a"], "generation": 1 } });
        let DeletionPlan::Mark(mut marked) = plan(&old, Manner::default(), NOW) else {
            panic!("not marked");
        };
        assert_eq!(marked["metadata"]["generation"], 2);
        assert!(!is_over(&marked));
        remove_finalizers(&mut marked, &["a"]);
        assert!(is_over(&marked));
    }

    #[test]
    fn a_propagation_policy_becomes_a_finalizer() {
        let old = json!({ "kind": "X", "metadata": {} });
        let manner = |propagation| Manner { grace_s: None, propagation: Some(propagation) };
        let DeletionPlan::Mark(marked) = plan(&old, manner(Propagation::Foreground), NOW) else {
            panic!("not marked");
        };
        assert_eq!(marked["metadata"]["finalizers"], json!([FOREGROUND]));
        assert_eq!(plan(&old, manner(Propagation::Background), NOW), DeletionPlan::Remove);
    }
}
