use std::collections::BTreeSet;

use ebb_api::labels;
use ebb_api::serving::{ROUTING_ACTIVE, ROUTING_PENDING, ROUTING_RESERVE};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::*;

const HOUR: i64 = 3600;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(hours * HOUR).unwrap()
}

fn configuration() -> Configuration {
    let mut configuration = Configuration::default();
    configuration.metadata.name = Some("digits".to_owned());
    configuration.metadata.uid = Some("u".to_owned());
    configuration
}

/// A Revision that was made in one hour, and whose routing state changed in another.
fn revision(name: &str, state: &str, made: i64, changed: i64) -> Arc<Revision> {
    let mut revision: Revision = serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": {labels::ROUTING_STATE: state},
            "annotations": {annotations::ROUTING_STATE_MODIFIED: at(changed).to_string()},
            "ownerReferences": [{
                "apiVersion": "serving.knative.dev/v1", "kind": "Configuration", "name": "digits",
                "uid": "u", "controller": true,
            }],
        },
        "spec": {"containers": []},
    }))
    .unwrap();
    revision.metadata.creation_timestamp = Some(Time(at(made)));
    Arc::new(revision)
}

fn noted(revision: &Arc<Revision>, key: &str, value: &str) -> Arc<Revision> {
    let mut revision = Revision::clone(revision);
    revision.annotations_mut().insert(key.to_owned(), value.to_owned());
    Arc::new(revision)
}

fn reserve(name: &str, made: i64) -> Arc<Revision> {
    revision(name, ROUTING_RESERVE, made, made)
}

/// Hours since creation and since use, and the least and the most that are kept.
fn config(create: Option<u64>, active: Option<u64>, min: usize, max: Option<usize>) -> GcConfig {
    GcConfig {
        retain_since_create: create.map(Duration::from_hours),
        retain_since_active: active.map(Duration::from_hours),
        min_non_active: min,
        max_non_active: max,
    }
}

fn look(revisions: &[Arc<Revision>], config: &GcConfig, now: Timestamp) -> Collection {
    let status = ConfigurationStatus::default();
    collection(&configuration(), &status, revisions, |_| false, config, now)
}

fn names(collection: &Collection) -> Vec<String> {
    collection.garbage.iter().map(|revision| revision.name_any()).collect()
}

/// Whether one that is old enough goes, for each reason to keep it.
#[test]
fn only_what_nobody_refers_to_goes() {
    let all = config(None, None, 0, Some(0));
    let gone = |revision: &Arc<Revision>| {
        !look(std::slice::from_ref(revision), &all, at(9)).garbage.is_empty()
    };
    let idle = reserve("digits-00001", 1);
    assert!(gone(&idle));
    for state in [ROUTING_ACTIVE, ROUTING_PENDING] {
        assert!(!gone(&revision("digits-00001", state, 1, 1)), "{state}");
    }
    for (value, goes) in [("true", false), ("True", false), ("false", true)] {
        assert_eq!(gone(&noted(&idle, annotations::NO_GC, value)), goes, "{value}");
    }
    let mut other = Revision::clone(&idle);
    other.metadata.owner_references = None;
    assert!(!gone(&Arc::new(other)), "it is another's");
    let mut ending = Revision::clone(&idle);
    ending.metadata.deletion_timestamp = Some(Time(at(8)));
    assert!(!gone(&Arc::new(ending)), "it goes already");

    let name = Some("digits-00001".to_owned());
    let idle = [idle];
    let gone = |status: ConfigurationStatus, referenced: bool| {
        let look = collection(&configuration(), &status, &idle, |_| referenced, &all, at(9));
        !look.garbage.is_empty()
    };
    let none = ConfigurationStatus::default;
    assert!(gone(none(), false));
    assert!(!gone(none(), true), "a Route refers to it, and the label is late");
    assert!(!gone(
        ConfigurationStatus { latest_ready_revision_name: name.clone(), ..none() },
        false
    ));
    assert!(!gone(ConfigurationStatus { latest_created_revision_name: name, ..none() }, false));
}

/// Made at these hours; what goes at hour 100, and after how many hours there is another look.
#[test]
fn age_and_number_decide_as_in_knative() {
    type Case<'a> = (&'a str, GcConfig, &'a [i64], &'a [usize], Option<u64>);
    let cases: [Case<'_>; 10] = [
        (
            "old enough by both",
            config(Some(48), Some(15), 0, None),
            &[40, 52, 53],
            &[0, 1],
            Some(1),
        ),
        ("few are kept however old", config(Some(48), Some(15), 2, None), &[1, 2, 3], &[0], None),
        ("too few", config(Some(48), Some(15), 3, None), &[1, 2, 3], &[], None),
        ("creation does not matter", config(None, Some(15), 0, None), &[84, 86], &[0], Some(1)),
        ("use does not matter", config(Some(48), None, 0, None), &[51, 60], &[0], Some(8)),
        ("age does not matter", config(None, None, 0, None), &[1, 2], &[], None),
        (
            "too many, though young",
            config(Some(48), Some(15), 0, Some(2)),
            &[97, 98, 99],
            &[0],
            Some(12),
        ),
        (
            "both the old and the surplus",
            config(Some(48), None, 0, Some(1)),
            &[1, 97, 98],
            &[0, 1],
            Some(12),
        ),
        ("none is kept", config(None, None, 0, Some(0)), &[98, 99], &[0, 1], None),
        ("a clock that was set back", config(Some(48), Some(15), 0, None), &[200], &[], Some(12)),
    ];
    for (case, config, made, gone, again) in cases {
        let named = |(index, made): (usize, &i64)| reserve(&format!("digits-{index:05}"), *made);
        let revisions: Vec<_> = made.iter().enumerate().map(named).collect();
        let found = look(&revisions, &config, at(100));
        let expected: Vec<_> = gone.iter().map(|index| format!("digits-{index:05}")).collect();
        assert_eq!(names(&found), expected, "{case}");
        assert_eq!(found.look_again, again.map(Duration::from_hours), "{case}");
    }
}

#[test]
fn the_one_that_was_unused_for_longest_goes_first() {
    let config = config(None, None, 0, Some(1));
    let revisions = [
        revision("digits-00001", ROUTING_RESERVE, 1, 50),
        revision("digits-00002", ROUTING_RESERVE, 2, 10),
        // Nothing is known of its use.
        noted(&reserve("digits-00003", 20), annotations::ROUTING_STATE_MODIFIED, "yesterday"),
    ];
    assert_eq!(names(&look(&revisions, &config, at(99))), ["digits-00002", "digits-00003"]);
}

#[test]
fn many_go_in_turns() {
    let revisions: Vec<_> =
        (0..40).map(|index| reserve(&format!("digits-{index:05}"), 1)).collect();
    let found = look(&revisions, &config(Some(1), None, 0, None), at(99));
    assert_eq!(found.garbage.len(), DELETED_MAX);
    assert_eq!(found.look_again, Some(NEXT_AFTER));
    let told = notice(&found.garbage).unwrap().note;
    assert!(told.starts_with(
        "Deleted what no Route refers to, as config-gc says: Revisions digits-00000, "
    ));
    assert_eq!(notice(&[]), None);
}

/// A Configuration whose template changes for a week, with a Route that pins and lets go at will. It is
/// looked at when something changes and when a look asked for it, never otherwise.
#[test]
fn a_week_keeps_its_bounds_and_takes_nothing_that_is_reachable() {
    for seed in 0..24 {
        week(seed);
    }
}

fn week(seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    let (min, more) = (chance.random_range(0..5), chance.random_range(0..20));
    let config = config(
        Some(chance.random_range(0..50)),
        Some(chance.random_range(0..50)),
        min,
        Some(min + more),
    );
    let mut revisions: Vec<Arc<Revision>> = Vec::new();
    let mut pinned = BTreeSet::new();
    let (mut look_at, mut born, mut collected) = (None, 0, 0);
    for minute in 0..7 * 24 * 60 {
        let now = Timestamp::from_second(minute * 60).unwrap();
        let mut is_due = look_at.is_some_and(|at| at <= now);
        if chance.random_ratio(1, 45) {
            born += 1;
            let name = format!("digits-{born:05}");
            let mut made = Revision::clone(&reserve(&name, 0));
            made.metadata.creation_timestamp = Some(Time(now));
            made.annotations_mut()
                .insert(annotations::ROUTING_STATE_MODIFIED.to_owned(), now.to_string());
            revisions.push(Arc::new(made));
            is_due = true;
        }
        if chance.random_ratio(1, 60) && !revisions.is_empty() {
            let index = chance.random_range(0..revisions.len());
            let mut changed = Revision::clone(&revisions[index]);
            let name = changed.name_any();
            let state = if pinned.remove(&name) { ROUTING_RESERVE } else { ROUTING_ACTIVE };
            if state == ROUTING_ACTIVE {
                pinned.insert(name);
            }
            changed.labels_mut().insert(labels::ROUTING_STATE.to_owned(), state.to_owned());
            changed
                .annotations_mut()
                .insert(annotations::ROUTING_STATE_MODIFIED.to_owned(), now.to_string());
            revisions[index] = Arc::new(changed);
            is_due = true;
        }
        if !is_due {
            continue;
        }
        let newest = revisions.last().map(|revision| revision.name_any());
        let status = ConfigurationStatus {
            latest_ready_revision_name: newest.clone(),
            ..ConfigurationStatus::default()
        };
        let found = collection(&configuration(), &status, &revisions, |_| false, &config, now);
        look_at = found.look_again.map(|pause| now.saturating_add(pause).unwrap());
        for gone in &found.garbage {
            assert!(
                !pinned.contains(&gone.name_any()),
                "seed {seed}: {} is pinned",
                gone.name_any()
            );
            assert_ne!(Some(gone.name_any()), newest, "seed {seed}");
            revisions.retain(|kept| kept.name_any() != gone.name_any());
            collected += 1;
        }
        let is_idle =
            |kept: &&Arc<Revision>| !kept.is_reachable() && Some(kept.name_any()) != newest;
        let idle: Vec<_> = revisions.iter().filter(is_idle).collect();
        let is_old = |kept: &&Arc<Revision>| stale_at(kept, &config).is_some_and(|at| at <= now);
        let old = idle.into_iter().filter(is_old).count();
        let is_many = revisions.iter().filter(is_idle).count() > config.max_non_active.unwrap();
        assert!(old <= min && !is_many, "seed {seed}, minute {minute}: {old} are kept too long");
    }
    assert!(collected > 0, "seed {seed}");
}
