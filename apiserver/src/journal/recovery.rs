//! Reading a data folder back: the newest snapshot, then every journal since.
//!
//! Only bytes that the disk had not yet confirmed may be unreadable: the end of the last journal,
//! behind the part that its records say was synced. A power cut may leave anything there: a part of
//! a record, zeros, written pages beside unwritten ones. Everything from the first unreadable byte
//! on is cut off. Unreadable bytes anywhere else are damage and end the recovery with an error that
//! changes nothing on disk: guessing would lose objects without a word.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::record::{self, Found, MAGIC, Record};
use super::rewriting::UNFINISHED;
use super::{JOURNAL, JournalError, SNAPSHOT};

/// What a data folder held.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Revision of the last change.
    pub(crate) revision: u64,
    /// The objects' JSON: by key of the collection, then of the object.
    pub(crate) objects: BTreeMap<String, BTreeMap<String, Bytes>>,
}

/// Where the journal goes on.
#[derive(Debug)]
pub(super) struct Tail {
    /// Number of the last journal.
    pub(super) number: u64,
    /// Bytes of it that are whole; zero if it has to be begun anew.
    pub(super) length: u64,
    /// Bytes of it that the disk has confirmed, with the record that notes it.
    pub(super) confirmed: u64,
    /// Bytes of all journals since the snapshot.
    pub(super) bytes_since_snapshot: u64,
    /// Files without a use: older than the snapshot, unfinished, or never begun.
    pub(super) stale: Vec<PathBuf>,
}

/// Numbers of the snapshots and journals of a folder, and its unfinished files.
#[derive(Debug, Default)]
struct Listing {
    snapshots: Vec<u64>,
    journals: Vec<u64>,
    unfinished: Vec<PathBuf>,
}

// === impl Listing ===

impl Listing {
    fn older_than(&self, folder: &Path, limit: u64) -> Vec<PathBuf> {
        let snapshots = self.snapshots.iter().map(|number| (SNAPSHOT, *number));
        let journals = self.journals.iter().map(|number| (JOURNAL, *number));
        snapshots
            .chain(journals)
            .filter(|(_, number)| *number < limit)
            .map(|(prefix, number)| super::path(folder, prefix, number))
            .collect()
    }
}

/// Reads `folder`, which only this process may have open.
pub(super) fn recover(folder: &Path) -> Result<(Recovered, Tail), JournalError> {
    let listing = list(folder).map_err(|source| JournalError::io("list", folder, source))?;
    let mut recovered = Recovered::default();
    let snapshot = listing.snapshots.last().copied();
    if let Some(number) = snapshot {
        load_snapshot(&super::path(folder, SNAPSHOT, number), &mut recovered)?;
    }
    let first = snapshot.unwrap_or(1);
    let mut tail = Tail {
        number: first,
        length: 0,
        confirmed: 0,
        bytes_since_snapshot: 0,
        stale: listing.older_than(folder, first),
    };
    tail.stale.extend(listing.unfinished);
    let mut live: Vec<u64> = listing.journals.into_iter().filter(|n| *n >= first).collect();
    // A last journal that a full disk or a crash kept from being begun is dropped: its predecessor
    // stayed in use.
    while let [_, .., last] = live.as_slice() {
        let path = super::path(folder, JOURNAL, *last);
        let file = fs::read(&path).map_err(|source| JournalError::io("read", &path, source))?;
        if !is_unbegun(&file) {
            break;
        }
        tail.stale.push(path);
        live.pop();
    }
    if let (Some(number), []) = (snapshot, live.as_slice()) {
        // A journal is always begun before its snapshot.
        return Err(JournalError::Missing {
            file: super::path(folder, JOURNAL, first),
            next: super::path(folder, SNAPSHOT, number),
        });
    }
    for (number, expected) in live.iter().zip(first..) {
        let path = super::path(folder, JOURNAL, *number);
        if *number != expected {
            let missing = super::path(folder, JOURNAL, expected);
            return Err(JournalError::Missing { file: missing, next: path });
        }
        let last = Some(number) == live.last();
        (tail.length, tail.confirmed) = replay(&path, last, &mut recovered)?;
        tail.bytes_since_snapshot += tail.length;
        tail.number = *number;
    }
    Ok((recovered, tail))
}

/// The snapshots and journals that the snapshot `number` has made useless.
pub(super) fn older_than(folder: &Path, number: u64) -> io::Result<Vec<PathBuf>> {
    Ok(list(folder)?.older_than(folder, number))
}

fn list(folder: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let number = |prefix| name.strip_prefix(prefix).and_then(|text| text.parse().ok());
        if path.extension().is_some_and(|end| end == UNFINISHED) {
            listing.unfinished.push(path);
        } else if let Some(number) = number(SNAPSHOT) {
            listing.snapshots.push(number);
        } else if let Some(number) = number(JOURNAL) {
            listing.journals.push(number);
        }
    }
    listing.snapshots.sort_unstable();
    listing.journals.sort_unstable();
    Ok(listing)
}

fn load_snapshot(path: &Path, recovered: &mut Recovered) -> Result<(), JournalError> {
    let file = fs::read(path).map_err(|source| JournalError::io("read", path, source))?;
    let damaged = |offset, detail| JournalError::damaged(path, offset, detail);
    if !file.starts_with(MAGIC) {
        return Err(damaged(0, "it does not begin as a snapshot does"));
    }
    let mut offset = MAGIC.len();
    let mut objects = 0;
    loop {
        match record::read(&file, offset) {
            Found::Record(Record::Put { resource, json, .. }, next) => {
                put(recovered, resource, json).map_err(|detail| damaged(offset, detail))?;
                objects += 1;
                offset = next;
            }
            Found::Record(Record::End { revision, count }, next) => {
                if count != objects || next != file.len() {
                    return Err(damaged(offset, "it holds more or fewer objects than it says"));
                }
                recovered.revision = revision;
                return Ok(());
            }
            Found::Record(Record::Remove { .. } | Record::Synced { .. }, _) => {
                return Err(damaged(offset, "a change has no place in a snapshot"));
            }
            Found::End => return Err(damaged(offset, "it ends too early")),
            Found::Unreadable(detail) | Found::Unknown(detail) => {
                return Err(damaged(offset, detail));
            }
        }
    }
}

/// Applies the records of one journal. Returns how many of its bytes are whole, and how many of
/// those the disk has confirmed, with the record that notes it.
fn replay(path: &Path, last: bool, recovered: &mut Recovered) -> Result<(u64, u64), JournalError> {
    let file = fs::read(path).map_err(|source| JournalError::io("read", path, source))?;
    let damaged = |offset, detail| JournalError::damaged(path, offset, detail);
    if !file.starts_with(MAGIC) {
        return if last && is_unbegun(&file) {
            Ok((0, 0))
        } else {
            Err(damaged(0, "it does not begin as a journal does"))
        };
    }
    let mut offset = MAGIC.len();
    // The magic bytes need no confirmation: they hold nothing that could be lost.
    let mut confirmed = offset as u64;
    loop {
        match record::read(&file, offset) {
            Found::Record(record, next) => {
                if let Record::Synced { length } = record {
                    confirmed = if length == offset as u64 { next as u64 } else { length };
                }
                apply(record, recovered).map_err(|detail| damaged(offset, detail))?;
                offset = next;
            }
            Found::End => break,
            Found::Unreadable(_) if last && record::synced_behind(&file, offset) <= offset => {
                tracing::warn!(
                    journal.file = %path.display(),
                    journal.offset = offset,
                    journal.dropped_bytes = file.len() - offset,
                    "Dropped the last changes, which a crash had kept from reaching the disk"
                );
                break;
            }
            Found::Unreadable(detail) | Found::Unknown(detail) => {
                return Err(damaged(offset, detail));
            }
        }
    }
    Ok((offset as u64, confirmed))
}

/// Whether nothing of a journal was ever synced and its first bytes never reached the disk: they
/// are cut short, or zeros. Later bytes may have reached it.
fn is_unbegun(file: &[u8]) -> bool {
    let head = &file[..file.len().min(MAGIC.len())];
    let torn = head.len() < MAGIC.len() && MAGIC.starts_with(head);
    (torn || head.iter().all(|byte| *byte == 0)) && record::synced_behind(file, 0) == 0
}

fn apply(record: Record, recovered: &mut Recovered) -> Result<(), &'static str> {
    let revision = match &record {
        Record::Put { revision, .. } | Record::Remove { revision, .. } => *revision,
        Record::End { .. } => return Err("the end of a snapshot has no place in a journal"),
        Record::Synced { .. } => return Ok(()),
    };
    // Every change takes the next revision, so that a gap shows records that went missing.
    if recovered.revision.checked_add(1) != Some(revision) {
        return Err("a change does not follow the one before it");
    }
    recovered.revision = revision;
    match record {
        Record::Put { resource, json, .. } => put(recovered, resource, json),
        Record::Remove { resource, key, .. } => {
            let objects = recovered.objects.get_mut(&resource);
            match objects.and_then(|objects| objects.remove(&key)) {
                Some(_) => Ok(()),
                None => Err("an object is removed that was never there"),
            }
        }
        Record::End { .. } | Record::Synced { .. } => Ok(()),
    }
}

fn put(recovered: &mut Recovered, resource: String, json: Bytes) -> Result<(), &'static str> {
    #[derive(serde::Deserialize)]
    struct Named {
        metadata: Name,
    }
    #[derive(serde::Deserialize)]
    struct Name {
        #[serde(default)]
        namespace: String,
        name: String,
    }
    let Named { metadata } = serde_json::from_slice(&json).map_err(|_| "an object has no name")?;
    let key = format!("{}/{}", metadata.namespace, metadata.name);
    recovered.objects.entry(resource).or_default().insert(key, json);
    Ok(())
}
