//! What a data folder holds after crashes, damage and compaction.

use std::fs::OpenOptions;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;

fn put(revision: u64, name: &str) -> Record {
    let object = json!({ "metadata": { "namespace": "default", "name": name }, "at": revision });
    Record::Put { revision, resource: "pods".into(), json: Bytes::from(object.to_string()) }
}

fn remove(revision: u64, name: &str) -> Record {
    Record::Remove { revision, resource: "pods".into(), key: format!("default/{name}") }
}

/// A folder with five changes, and its state after each of them.
fn written() -> (TempDir, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let (mut journal, empty) = Journal::open(folder.path()).unwrap();
    let mut states = vec![format!("{empty:?}")];
    let changes = [put(1, "a"), put(2, "b"), put(3, "a"), remove(4, "b"), put(5, "c")];
    for change in &changes {
        journal.append(change).unwrap();
        let copy = TempDir::new().unwrap();
        let file = path(folder.path(), JOURNAL, 1);
        fs::copy(&file, path(copy.path(), JOURNAL, 1)).unwrap();
        states.push(format!("{:?}", Journal::open(copy.path()).unwrap().1));
    }
    (folder, states)
}

#[test]
fn a_second_opener_is_refused_by_the_folders_name() {
    let folder = TempDir::new().unwrap();
    let first = Journal::open(folder.path()).unwrap();
    let second = Journal::open(folder.path()).unwrap_err().to_string();
    assert!(second.contains("is in use by another ebb"), "{second}");
    assert!(second.contains(&folder.path().display().to_string()), "{second}");
    drop(first);
    Journal::open(folder.path()).expect("the lock goes with its holder");
}

#[test]
fn a_compaction_keeps_the_state_and_drops_what_it_replaces() {
    let folder = TempDir::new().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.append(&put(1, "a")).unwrap();
    journal.append(&put(2, "b")).unwrap();
    let compaction = journal.rotate().unwrap();
    journal.append(&put(3, "c")).unwrap();
    let end = Record::End { revision: 2, count: 2 };
    compaction.finish([put(1, "a"), put(2, "b"), end].into_iter()).unwrap();
    drop(journal);

    assert!(!path(folder.path(), JOURNAL, 1).exists());
    let (_, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovered.revision, 3);
    let names: Vec<&String> = recovered.objects["pods"].keys().collect();
    assert_eq!(names, ["default/a", "default/b", "default/c"]);
}

#[test]
fn a_compaction_that_a_crash_cut_short_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.append(&put(1, "a")).unwrap();
    drop(journal.rotate().unwrap());
    journal.append(&put(2, "b")).unwrap();
    let unfinished = path(folder.path(), SNAPSHOT, 2).with_extension("new");
    fs::write(&unfinished, b"ebba").unwrap();
    drop(journal);

    let (_, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovered.revision, 2);
    assert!(!unfinished.exists());
}

#[test]
fn a_missing_journal_is_named() {
    let folder = TempDir::new().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    drop(journal.rotate().unwrap());
    drop(journal.rotate().unwrap());
    drop(journal);
    fs::remove_file(path(folder.path(), JOURNAL, 2)).unwrap();
    let error = Journal::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("journal-00000002 is missing"), "{error}");
}

#[test]
fn after_a_torn_end_the_journal_goes_on_from_the_last_whole_change() {
    let (folder, states) = written();
    let file = path(folder.path(), JOURNAL, 1);
    let length = fs::metadata(&file).unwrap().len();
    OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 1).unwrap();
    let (mut journal, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!(format!("{recovered:?}"), states[4]);
    journal.append(&put(5, "d")).unwrap();
    drop(journal);
    let (_, recovered) = Journal::open(folder.path()).unwrap();
    assert!(recovered.objects["pods"].contains_key("default/d"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_truncated_journal_recovers_to_a_state_that_it_once_had(cut in 0.0..1.0_f64) {
        let (folder, states) = written();
        let file = path(folder.path(), JOURNAL, 1);
        let bytes = fs::read(&file).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let keep = (bytes.len() as f64 * cut) as usize;
        fs::write(&file, &bytes[..keep]).unwrap();
        let (_, recovered) = Journal::open(folder.path()).unwrap();
        let expected = &states[usize::try_from(recovered.revision).unwrap()];
        prop_assert_eq!(&format!("{recovered:?}"), expected);
    }

    #[test]
    fn a_flipped_bit_is_an_error_that_leaves_the_file_alone(
        at in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        let (folder, _) = written();
        let file = path(folder.path(), JOURNAL, 1);
        let mut bytes = fs::read(&file).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&file, &bytes).unwrap();
        let error = Journal::open(folder.path()).unwrap_err();
        prop_assert!(matches!(error, JournalError::Damaged { .. }), "{}", error);
        prop_assert_eq!(fs::read(&file).unwrap(), bytes);
    }
}
