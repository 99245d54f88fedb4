//! A data folder that was written by changes, and what recovery owes to it.

#![allow(
    clippy::unwrap_in_result,
    reason = "an error means that the choices cannot be read; a folder that cannot be written ends all"
)]

use std::collections::BTreeMap;
use std::path::Path;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;

use crate::journal::record::{self, Found, MAGIC, Record};
use crate::journal::{Journal, Recovered};

/// Objects by key, by collection.
pub(super) type Objects = BTreeMap<String, BTreeMap<String, Bytes>>;

/// Most steps of a history.
const STEPS_MAX: usize = 40;

/// What recovery owes to a folder.
pub(super) enum Owed {
    /// The state at a revision.
    State(usize),
    /// A refusal.
    Refusal,
    /// Either: nothing tells the damage from what a crash may leave.
    Any,
}

/// The history of a folder.
pub(super) struct Written {
    /// The state after each change, by revision.
    pub(super) history: Vec<(u64, Objects)>,
    /// The revision at which each journal began, by number; that of one that was never begun is 0.
    begun: Vec<usize>,
}

// === impl Written ===

impl Written {
    /// Makes a history in `folder`.
    pub(super) fn new(folder: &Path, choices: &mut Unstructured<'_>) -> Result<Self> {
        let mut written = Self { history: vec![(0, Objects::new())], begun: vec![0, 0] };
        let mut journal = open(folder, &written);
        for _ in 0..STEPS_MAX {
            if choices.is_empty() || choices.ratio(1_u8, 20)? {
                break;
            }
            match choices.int_in_range(0..=9)? {
                0..=4 => written.put(&mut journal, choices)?,
                5 => written.remove(&mut journal, choices)?,
                6 | 7 => {
                    if let Some(unsynced) = journal.unsynced().expect("the file can be cloned") {
                        unsynced.file.sync_data().expect("the file can be synced");
                        journal.settle(&unsynced).expect("the folder can be written");
                    }
                }
                8 => {
                    let compaction = journal.rotate().expect("the folder can be written");
                    written.begun.push(written.history.len() - 1);
                    if choices.ratio(3_u8, 4)? {
                        let replaced = compaction.finish(written.snapshot().into_iter());
                        journal.compacted(replaced.expect("the folder can be written"));
                    }
                }
                _ => {
                    drop(journal);
                    journal = open(folder, &written);
                }
            }
        }
        Ok(written)
    }

    fn put(&mut self, journal: &mut Journal, choices: &mut Unstructured<'_>) -> Result<()> {
        let (revision, mut objects) = self.next();
        let resource = *choices.choose(&["pods", "configmaps"])?;
        let name = *choices.choose(&["a", "b", "c"])?;
        let length = usize::from(choices.arbitrary::<u8>()?);
        let text = "x".repeat(length);
        let json = format!(r#"{{"metadata":{{"namespace":"n","name":"{name}"}},"x":"{text}"}}"#);
        let json = Bytes::from(json);
        let record = Record::Put { revision, resource: resource.into(), json: json.clone() };
        journal.append(&record).expect("the folder can be written");
        objects.entry(resource.into()).or_default().insert(format!("n/{name}"), json);
        self.history.push((revision, objects));
        Ok(())
    }

    fn remove(&mut self, journal: &mut Journal, choices: &mut Unstructured<'_>) -> Result<()> {
        let (revision, mut objects) = self.next();
        let all: Vec<(String, String)> = objects
            .iter()
            .flat_map(|(own, keys)| keys.keys().map(move |key| (own.clone(), key.clone())))
            .collect();
        if all.is_empty() {
            return Ok(());
        }
        let (resource, key) = choices.choose(&all)?.clone();
        let record = Record::Remove { revision, resource: resource.clone(), key: key.clone() };
        journal.append(&record).expect("the folder can be written");
        objects.entry(resource).or_default().remove(&key);
        self.history.push((revision, tidy(objects)));
        Ok(())
    }

    /// The revision of the next change, and the objects before it.
    fn next(&self) -> (u64, Objects) {
        let (revision, objects) = self.last();
        (revision + 1, objects.clone())
    }

    fn last(&self) -> &(u64, Objects) {
        self.history.last().expect("it begins with the empty state")
    }

    fn snapshot(&self) -> Vec<Record> {
        let (revision, objects) = self.last();
        let mut records = Vec::new();
        for (resource, objects) in objects {
            for json in objects.values() {
                let (resource, json) = (resource.clone(), json.clone());
                records.push(Record::Put { revision: *revision, resource, json });
            }
        }
        let count = records.len() as u64;
        records.push(Record::End { revision: *revision, count });
        records
    }

    /// What recovery owes after the file `name` was changed from `whole` to `bytes`.
    pub(super) fn owed(&self, name: &str, whole: &[u8], bytes: &[u8]) -> Owed {
        let newest = self.history.len() - 1;
        if whole == bytes {
            return Owed::State(newest);
        }
        let last = format!("journal-{:08}", self.begun.len() - 1);
        let same = whole.iter().zip(bytes).take_while(|(old, new)| old == new).count();
        let records = records(whole);
        if name != last {
            // A journal that ends too early at the end of a record is as one that was never longer.
            let is_cut = name.starts_with("journal-")
                && bytes.len() == same
                && (same == MAGIC.len() || records.iter().any(|(.., end)| *end == same));
            return if is_cut { Owed::Any } else { Owed::Refusal };
        }
        let begin = self.begun[self.begun.len() - 1];
        let cut = records.iter().find(|(.., end)| *end > same).map_or(same, |(start, ..)| *start);
        let is_noted = records.iter().any(|(start, record, end)| {
            let is_whole = *start >= cut && bytes.get(*start..*end) == whole.get(*start..*end);
            matches!(record, Record::Synced { length } if is_whole && *length > cut as u64)
        });
        if is_noted {
            return Owed::Refusal;
        }
        if same < MAGIC.len() {
            return Owed::Any;
        }
        let changes = records.iter().filter(|(_, record, end)| {
            *end <= same && matches!(record, Record::Put { .. } | Record::Remove { .. })
        });
        Owed::State(begin + changes.count())
    }
}

fn open(folder: &Path, written: &Written) -> Journal {
    let (journal, Recovered { revision, objects }) =
        Journal::open(folder).expect("nothing is damaged yet");
    assert_eq!((revision, tidy(objects)), *written.last(), "before any damage");
    journal
}

/// A collection without objects is the same as none.
pub(super) fn tidy(mut objects: Objects) -> Objects {
    objects.retain(|_, objects| !objects.is_empty());
    objects
}

/// The records of a journal, each with its end; empty for a file that does not begin as one.
fn records(file: &[u8]) -> Vec<(usize, Record, usize)> {
    let mut records = Vec::new();
    let mut offset = MAGIC.len();
    while let Found::Record(record, next) = record::read(file, offset) {
        records.push((offset, record, next));
        offset = next;
    }
    records
}
