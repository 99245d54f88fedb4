//! Body of the fuzz target for journals: any files, any records, and journals that were written by
//! changes and then damaged in one place.

mod written;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;

use self::written::{Objects, Owed, Written, tidy};
use super::record::{self, MAGIC, Record};
use super::{Journal, JournalError, Recovered};

/// By its first byte an input is the bytes of files, the payloads of records, or a history and its
/// damage.
///
/// # Panics
/// If the input shows a fault.
pub fn journal(input: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match kind % 3 {
        0 => any_files(folder.path(), rest),
        1 => any_records(folder.path(), rest),
        _ => damaged(folder.path(), &mut Unstructured::new(rest)).unwrap_or_default(),
    }
}

/// One journal, or a snapshot and a journal.
fn any_files(folder: &Path, bytes: &[u8]) {
    let (snapshot, journal) = match bytes.iter().position(|byte| *byte == 0xFF) {
        Some(at) => (Some(&bytes[..at]), &bytes[at + 1..]),
        None => (None, bytes),
    };
    if let Some(snapshot) = snapshot {
        write(folder, "snapshot-00000001", snapshot);
    }
    write(folder, "journal-00000001", journal);
    open(folder);
}

/// The same, with frames and checksums around each payload, which begins with its length.
fn any_records(folder: &Path, bytes: &[u8]) {
    let mut files = [MAGIC.to_vec(), MAGIC.to_vec()];
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first() {
        let (payload, after) = after.split_at(usize::from(length / 2).min(after.len()));
        record::frame(&mut files[usize::from(length % 2)], |file| file.extend_from_slice(payload));
        rest = after;
    }
    let [journal, snapshot] = files;
    if snapshot.len() > MAGIC.len() {
        write(folder, "snapshot-00000001", &snapshot);
    }
    write(folder, "journal-00000001", &journal);
    open(folder);
}

/// After damage, recovery gives exactly the changes before it, or refuses the folder.
fn damaged(folder: &Path, choices: &mut Unstructured<'_>) -> Result<()> {
    let written = Written::new(folder, choices)?;
    let files = contents(folder);
    let names: Vec<&String> = files.keys().filter(|name| *name != super::LOCK).collect();
    let name = *choices.choose(&names)?;
    let whole = &files[name];
    let at = choices.int_in_range(0..=whole.len())?;
    let mut bytes = whole.clone();
    match choices.int_in_range(0..=4)? {
        0 => bytes.truncate(at),
        1 => bytes[at..].fill(0),
        2 => bytes.extend_from_slice(&[0; 40][..at % 40]),
        3 => {
            let mask = choices.int_in_range(1..=u8::MAX)?;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= mask;
            }
        }
        _ => {
            let end = bytes.len().min(at + usize::from(choices.arbitrary::<u8>()?));
            bytes[at..end].fill(0xFF);
        }
    }
    write(folder, name, &bytes);
    let found = open(folder);
    match written.owed(name, whole, &bytes) {
        Owed::State(revision) => {
            assert_eq!(found.as_ref(), Some(&written.history[revision]), "{name} at {at}");
        }
        Owed::Refusal => assert_eq!(found, None, "{name} at {at}"),
        Owed::Any => {}
    }
    Ok(())
}

/// Opens the folder. A refusal changes nothing; what is recovered is there again after one more
/// change, with the change.
fn open(folder: &Path) -> Option<(u64, Objects)> {
    let before = contents(folder);
    let (mut journal, Recovered { revision, objects }) = match Journal::open(folder) {
        Ok(opened) => opened,
        Err(error) => {
            let is_refusal =
                matches!(error, JournalError::Damaged { .. } | JournalError::Missing { .. });
            assert!(is_refusal, "{error:?}");
            let mut after = contents(folder);
            after.retain(|name, _| before.contains_key(name));
            assert_eq!(after, before, "a refusal changed a file");
            return None;
        }
    };
    let mut objects = tidy(objects);
    let found = (revision, objects.clone());
    let Some(next) = revision.checked_add(1) else {
        return Some(found);
    };
    let json = Bytes::from_static(br#"{"metadata":{"namespace":"n","name":"last"}}"#);
    let put = Record::Put { revision: next, resource: "pods".into(), json: json.clone() };
    journal.append(&put).expect("the folder can be written");
    drop(journal);
    objects.entry("pods".into()).or_default().insert("n/last".into(), json);
    let (_, again) = Journal::open(folder).expect("what was recovered can be read again");
    assert_eq!((again.revision, tidy(again.objects)), (next, objects), "after one more change");
    Some(found)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).expect("the folder can be written");
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, fs::read(entry.path()).expect("a file can be read"))
    };
    entries.flatten().map(read).collect()
}
