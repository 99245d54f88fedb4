//! What a data folder holds after crashes, damage and compaction.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

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

/// Syncs everything so far, and notes it.
fn sync(journal: &mut Journal) {
    let unsynced = journal.unsynced().unwrap().expect("something was written");
    unsynced.file.sync_data().unwrap();
    journal.settle(&unsynced).unwrap();
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
fn a_change_after_the_last_revision_there_can_be_is_damage() {
    let folder = TempDir::new().unwrap();
    let mut snapshot = record::MAGIC.to_vec();
    Record::End { revision: u64::MAX, count: 0 }.encode(&mut snapshot);
    fs::write(path(folder.path(), SNAPSHOT, 1), snapshot).unwrap();
    let mut journal = record::MAGIC.to_vec();
    put(0, "a").encode(&mut journal);
    fs::write(path(folder.path(), JOURNAL, 1), journal).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::Damaged { .. })));
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
    fn a_flipped_bit_in_what_was_synced_is_an_error_that_leaves_the_file_alone(
        at in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        let (folder, _) = written();
        let file = path(folder.path(), JOURNAL, 1);
        let synced = fs::metadata(&file).unwrap().len();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        sync(&mut journal);
        journal.append(&put(6, "d")).unwrap();
        drop(journal);
        let mut bytes = fs::read(&file).unwrap();
        let at = at.index(usize::try_from(synced).unwrap());
        bytes[at] ^= 1 << bit;
        fs::write(&file, &bytes).unwrap();
        let error = Journal::open(folder.path()).unwrap_err();
        prop_assert!(matches!(error, JournalError::Damaged { .. }), "{}", error);
        prop_assert_eq!(fs::read(&file).unwrap(), bytes);
    }
}

/// A journal: its bytes, how many of them the disk has confirmed, and its state at each revision.
struct Written {
    bytes: Vec<u8>,
    synced: usize,
    states: Vec<String>,
}

/// Revision of the last change that the disk has confirmed.
const SYNCED: u64 = 6;

/// Writes a journal of `changes` changes with up to six times `filler` bytes in each.
fn filled(changes: u64, filler: usize) -> Written {
    let folder = scratch();
    let (mut journal, mut state) = Journal::open(folder.path()).unwrap();
    let file = path(folder.path(), JOURNAL, 1);
    let mut states = vec![format!("{state:?}")];
    let mut synced = 0;
    for revision in 1..=changes {
        let filler = "x".repeat(usize::try_from(revision).unwrap() % 6 * filler);
        let name = format!("pod-{}", revision % 5);
        let object = json!({ "metadata": { "namespace": "default", "name": name }, "is": filler });
        let json = Bytes::from(object.to_string());
        let resource = "pods".to_owned();
        journal.append(&Record::Put { revision, resource, json: json.clone() }).unwrap();
        state.revision = revision;
        let pods = state.objects.entry("pods".into()).or_default();
        pods.insert(format!("default/{name}"), json);
        states.push(format!("{state:?}"));
        if revision == SYNCED / 2 || revision == SYNCED {
            synced = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
            sync(&mut journal);
        }
    }
    drop(journal);
    Written { bytes: fs::read(&file).unwrap(), synced, states }
}

/// A folder in memory if the machine has one: the tests do not need thousands of real syncs.
fn scratch() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// Opens a folder whose journal is `bytes`, checks its state, writes to it, and opens it again.
/// Returns the revision after the first opening.
fn reopen(bytes: &[u8], states: &[String], what: &str) -> u64 {
    let folder = scratch();
    fs::write(path(folder.path(), JOURNAL, 1), bytes).unwrap();
    let (mut journal, recovered) =
        Journal::open(folder.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let revision = recovered.revision;
    assert_eq!(format!("{recovered:?}"), states[usize::try_from(revision).unwrap()], "{what}");
    journal.append(&put(revision + 1, "next")).unwrap();
    drop(journal);
    let (_, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovered.revision, revision + 1, "{what}");
    assert!(recovered.objects["pods"].contains_key("default/next"), "{what}");
    revision
}

/// The journal is cut short at a byte, or keeps its length with zeros or garbage from there on.
#[test]
fn torn_at_any_byte_behind_the_last_sync_a_journal_keeps_what_was_synced() {
    let Written { bytes, synced, states } = filled(SYNCED + 4, 10);
    for at in synced..bytes.len() {
        let mut zeros = bytes.clone();
        zeros[at..].fill(0);
        let mut garbage = bytes.clone();
        garbage[at..].iter_mut().for_each(|byte| *byte ^= 0xA5);
        for (what, torn) in [("cut", &bytes[..at]), ("zeros", &zeros), ("garbage", &garbage)] {
            let what = format!("{what} at {at}");
            assert!(reopen(torn, &states, &what) >= SYNCED, "{what}");
        }
    }
}

/// Any of the pages that were not synced may have reached the disk before the power went.
#[test]
fn whichever_pages_behind_the_last_sync_are_missing_a_journal_keeps_what_was_synced() {
    const PAGE: usize = 4096;
    // From 1 to 5 kB a change, so that some lie across pages and some within one.
    let Written { bytes, synced, states } = filled(SYNCED + 12, 900);
    let first = synced / PAGE;
    let count = bytes.len().div_ceil(PAGE) - first;
    assert!((4..=8).contains(&count), "{count} pages");
    for missing in 0..1_u32 << count {
        let mut torn = bytes.clone();
        for page in (0..count).filter(|page| missing >> page & 1 == 1) {
            let end = bytes.len().min((first + page + 1) * PAGE);
            torn[synced.max((first + page) * PAGE)..end].fill(0);
        }
        let what = format!("pages {missing:b}");
        let revision = reopen(&torn, &states, &what);
        assert!(revision >= SYNCED, "{what}: {revision}");
    }
}

/// Before anything was synced even the first page may be missing.
#[test]
fn a_journal_that_was_never_synced_may_lack_its_first_page() {
    let (folder, states) = written();
    let mut bytes = fs::read(path(folder.path(), JOURNAL, 1)).unwrap();
    bytes[..100].fill(0);
    assert_eq!(reopen(&bytes, &states, "first page"), 0);
}

/// Bytes that the disk had confirmed are never dropped without a word.
#[test]
fn a_missing_page_before_the_last_sync_is_an_error() {
    let Written { bytes, synced, .. } = filled(SYNCED + 1, 900);
    for page in 0..synced.div_ceil(4096) {
        let mut damaged = bytes.clone();
        damaged[page * 4096..synced.min((page + 1) * 4096)].fill(0);
        let folder = TempDir::new().unwrap();
        fs::write(path(folder.path(), JOURNAL, 1), &damaged).unwrap();
        let error = Journal::open(folder.path()).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { .. }), "{page}: {error}");
        assert!(error.to_string().contains("restore the folder from a copy"), "{error}");
    }
}

/// A crash came between the creation of a journal and its first bytes; the journal before it stayed
/// in use.
#[test]
fn a_journal_that_was_never_begun_is_passed_over() {
    for left in [b"".as_slice(), b"ebb", &[0; 8]] {
        let (folder, states) = written();
        let next = path(folder.path(), JOURNAL, 2);
        fs::write(&next, left).unwrap();
        let (journal, recovered) = Journal::open(folder.path()).unwrap();
        assert_eq!(format!("{recovered:?}"), states[5]);
        drop(journal);
        assert!(!next.exists());
    }
}

/// After a failed sync the disk lacks bytes that the kernel still shows, and a later sync of the
/// same file would succeed without them.
#[test]
fn what_the_disk_never_confirmed_goes_to_a_new_file_at_the_next_start() {
    let folder = TempDir::new().unwrap();
    let file = path(folder.path(), JOURNAL, 1);
    let inode = || fs::metadata(&file).unwrap().ino();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.append(&put(1, "a")).unwrap();
    sync(&mut journal);
    journal.append(&put(2, "b")).unwrap();
    journal.give_up();
    drop(journal);
    let (before, bytes) = (inode(), fs::read(&file).unwrap());
    let (mut journal, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovered.revision, 2);
    assert_ne!(inode(), before, "it is appended to a file that the disk may not have");
    assert_eq!(fs::read(&file).unwrap(), bytes);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // A journal that is confirmed to its end stays as it is: a start writes nothing.
    journal.append(&put(3, "c")).unwrap();
    sync(&mut journal);
    drop(journal);
    let before = inode();
    let unfinished = file.with_extension("new");
    fs::write(&unfinished, b"ebba").unwrap();
    let (_, recovered) = Journal::open(folder.path()).unwrap();
    assert_eq!((inode(), recovered.revision), (before, 3));
    assert!(!unfinished.exists());
}

#[test]
fn a_sync_with_nothing_new_is_none() {
    let folder = TempDir::new().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    sync(&mut journal);
    assert!(journal.unsynced().unwrap().is_none());
    journal.append(&put(1, "a")).unwrap();
    let unsynced = journal.unsynced().unwrap().unwrap();
    journal.append(&put(2, "b")).unwrap();
    journal.settle(&unsynced).unwrap();
    assert!(journal.unsynced().unwrap().is_some(), "b came after the sync began");
}

/// The kernel forgets pages that it could not write: a later sync would succeed without them.
#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    let folder = TempDir::new().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.append(&put(1, "a")).unwrap();
    journal.give_up();
    let refused = journal.append(&put(2, "b")).unwrap_err().to_string();
    assert!(refused.contains("check the disk, then restart"), "{refused}");
    assert!(journal.unsynced().unwrap().is_none() && journal.rotate().is_err());
    drop(journal);
    assert_eq!(Journal::open(folder.path()).unwrap().1.revision, 1);
}
