//! A small disk that is full for a while: a tmpfs in a mount namespace of this test's thread.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::journal::Journal;

const SIZE: &str = "size=12m";
const COLLECTION: &str = "things";

/// Mounts a small disk at `folder`, for this thread only.
fn mount_small_disk(folder: &Path) -> nix::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(SIZE))
}

/// Fills the rest of the disk; returns the file that does so.
fn fill(folder: &Path) -> std::path::PathBuf {
    let filler = folder.join("filler");
    let mut size = 0;
    for chunk in [1 << 20, 1 << 12, 1] {
        let chunk = vec![1; chunk];
        let append = || {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&filler)?;
            std::io::Write::write_all(&mut file, &chunk)
        };
        while append().is_ok() {
            size += chunk.len();
        }
    }
    assert!(size > 0, "the disk was full before");
    filler
}

fn thing(name: &str, at: usize) -> Value {
    json!({ "metadata": { "name": name }, "at": at, "filler": "x".repeat(100_000) })
}

fn snapshots(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("snapshot-")).count()
}

/// Runs `test` on a small disk; says so if none can be mounted here.
fn on_a_small_disk(test: impl FnOnce(&Path) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let folder = TempDir::new().unwrap();
        if let Err(error) = mount_small_disk(folder.path()) {
            eprintln!("left out: a tmpfs cannot be mounted here, which needs root: {error}");
            return;
        }
        test(folder.path());
        umount(folder.path()).unwrap();
    });
    thread.join().unwrap();
}

fn open(folder: &Path) -> Store {
    let (journal, recovered) = Journal::open(&folder.join("state")).unwrap();
    Store::new(recovered, Some(journal)).unwrap()
}

/// Writes until the journal has outgrown the objects; returns the number of the last write.
fn outgrow(store: &Store) -> usize {
    store.create(COLLECTION, thing("one", 0)).unwrap();
    for at in 1.. {
        let old = store.get(COLLECTION, "", "one").unwrap();
        store.replace(COLLECTION, &old, thing("one", at)).unwrap();
        sync(store, File::sync_data);
        if store.is_untidy() {
            return at;
        }
    }
    unreachable!("it grows with each write")
}

/// A journal that cannot be begun for lack of room must not stand in the way of later attempts.
#[test]
fn a_full_disk_refuses_writes_and_compaction_goes_on_once_there_is_room() {
    on_a_small_disk(|disk| {
        let store = open(disk);
        let last = outgrow(&store);
        let filler = fill(disk);
        for attempt in 0..3 {
            compact(&store).expect_err("there is no room for a new journal");
            let refused = store.create(COLLECTION, thing("late", attempt)).unwrap_err();
            let StoreError::Journal(error) = refused else { panic!("{refused}") };
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
        // The folder is good for a start at any time.
        let copy = TempDir::new().unwrap();
        for entry in fs::read_dir(disk.join("state")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let (_, recovered) = Journal::open(copy.path()).unwrap();
        assert_eq!(recovered.revision, store.revision());

        fs::remove_file(filler).unwrap();
        compact(&store).unwrap();
        assert_eq!(snapshots(&disk.join("state")), 1);
        sync(&store, File::sync_data);
        assert!(!store.is_untidy(), "nothing is left to do");
        store.create(COLLECTION, thing("late", 9)).unwrap();
        store.close();
        let store = open(disk);
        assert_eq!(store.get(COLLECTION, "", "one").unwrap().value()["at"], last);
        assert_eq!(store.get(COLLECTION, "", "late").unwrap().value()["at"], 9);
    });
}

/// There is room for the new journal, but not for its snapshot.
#[test]
fn a_snapshot_without_room_leaves_none_of_it_behind_and_is_tried_again() {
    on_a_small_disk(|disk| {
        let store = open(disk);
        let last = outgrow(&store);
        let filler = fill(disk);
        let length = fs::metadata(&filler).unwrap().len();
        fs::File::options().write(true).open(&filler).unwrap().set_len(length - 40_000).unwrap();
        compact(&store).expect_err("the snapshot takes 100 kB");
        assert_eq!(snapshots(&disk.join("state")), 0);
        assert!(store.is_untidy(), "it is tried again");
        fs::remove_file(filler).unwrap();
        compact(&store).unwrap();
        assert_eq!(snapshots(&disk.join("state")), 1);
        store.close();
        assert_eq!(open(disk).get(COLLECTION, "", "one").unwrap().value()["at"], last);
    });
}

/// At a start, changes that the disk has not confirmed go to a new file; here there is no room for
/// one.
#[test]
fn a_full_disk_does_not_prevent_a_start() {
    on_a_small_disk(|disk| {
        let store = open(disk);
        store.create(COLLECTION, thing("one", 1)).unwrap();
        let filler = fill(disk);
        store.close();
        let store = open(disk);
        assert_eq!(store.get(COLLECTION, "", "one").unwrap().value()["at"], 1);
        store.create(COLLECTION, thing("late", 0)).unwrap_err();
        fs::remove_file(filler).unwrap();
        store.create(COLLECTION, thing("late", 1)).unwrap();
        store.close();
        assert_eq!(open(disk).get(COLLECTION, "", "late").unwrap().value()["at"], 1);
    });
}
