//! Durable state in a folder: an append-only journal, compacted into snapshots.
//!
//! A change is written with `write(2)` before its request is acknowledged, so it survives the
//! death of this process. The disk is told to keep it (`fdatasync`) once a second and at each
//! compaction, so a power cut loses at most the last second. An embedded database that syncs at
//! every commit was rejected: its 2 to 10 ms would be paid several times on the path of each
//! cold start, to protect a development machine's scale decisions from a power cut.
//!
//! Files: `journal-N` holds changes; `snapshot-N` holds every object as it was when `journal-N`
//! began. A compaction begins `journal-N+1`, writes `snapshot-N+1` beside it and removes what
//! came before, so at each instant the newest snapshot and the journals from its number on are
//! the whole state. `lock` is held for as long as the folder is open.
//!
//! A failed sync is final: the kernel marks the pages that it could not write as clean, so that the
//! next sync succeeds although they are lost ("fsyncgate"). No record is written behind them. The
//! next start reads the journal as the kernel has it, which may be more than the disk has. A
//! journal that the disk has not wholly confirmed is then written anew to another file.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
pub(crate) mod record;
mod recovery;
mod rewriting;

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use record::MAGIC;
pub(crate) use record::Record;
pub(crate) use recovery::Recovered;

use crate::lock::Lock;
use crate::private;

const JOURNAL: &str = "journal-";
const SNAPSHOT: &str = "snapshot-";
const LOCK: &str = "lock";

/// Journals smaller than this are never compacted: a replay of this much takes well under the
/// time of a process start, and small clusters then write no snapshot at all.
const COMPACT_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// How many times larger than the live objects the journals may grow.
const COMPACT_FACTOR: u64 = 2;
/// Bytes gathered before a snapshot is written out: a large write, and little memory.
const SNAPSHOT_BUFFER_BYTES: usize = 256 * 1024;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has the folder open.
    #[error(
        "the data folder {} is in use by another ebb: stop that one, or name another folder",
        folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A file does not hold what was written to it.
    #[error(
        "{} is damaged at byte {offset}: {detail}; nothing was changed: restore the folder from a \
         copy, or move it away to start with an empty one",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in the file.
        offset: usize,
        /// What is wrong there.
        detail: &'static str,
    },
    /// A journal between two others is gone.
    #[error(
        "{} is missing although {} is there; nothing was changed: restore the folder from a copy, \
         or move it away to start with an empty one",
        file.display(),
        next.display()
    )]
    Missing {
        /// The file that is gone.
        file: PathBuf,
        /// The file that goes on after it.
        next: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// The open journal of a data folder.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    number: u64,
    file: File,
    length: u64,
    /// Bytes of all journals since the last snapshot.
    bytes_since_snapshot: u64,
    /// Bytes of this file that need no sync: those that the disk has confirmed, and the record that
    /// notes it.
    settled: u64,
    /// Why nothing may be written any more; `None` while writes are allowed.
    broken: Option<&'static str>,
    buffer: Vec<u8>,
    /// Closing it releases the folder.
    _lock: Lock,
}

/// The bytes of a journal that the disk has not confirmed yet.
#[derive(Debug)]
pub(crate) struct Unsynced {
    /// The file to sync, without holding up writers.
    pub(crate) file: File,
    number: u64,
    length: u64,
}

/// A compaction that has begun: the snapshot to write for the new journal.
#[derive(Debug)]
pub(crate) struct Compaction {
    folder: PathBuf,
    number: u64,
    /// Bytes of the journals that the snapshot replaces.
    replaced_bytes: u64,
}

// === impl JournalError ===

impl JournalError {
    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    fn damaged(file: &Path, offset: usize, detail: &'static str) -> Self {
        Self::Damaged { file: file.to_owned(), offset, detail }
    }
}

/// Whether the disk is full, or this user's quota on it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

// === impl Journal ===

impl Journal {
    /// Opens `folder`, making it if need be, and reads what it holds.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Recovered), JournalError> {
        private::folder(folder).map_err(|e| JournalError::io("make", folder, e))?;
        let lock = lock(folder)?;
        let (recovered, tail) = recovery::recover(folder)?;
        let path = path(folder, JOURNAL, tail.number);
        if tail.length > tail.confirmed {
            match rewriting::rewrite(folder, &path, tail.length) {
                // A full disk must not prevent a start. The old file then stays in use once there
                // is room, which does harm only if a sync of it had failed as well.
                Err(error) if is_full(&error) => {
                    tracing::warn!(%error, "Cannot write the last changes anew: make room");
                }
                outcome => outcome.map_err(|e| JournalError::io("rewrite", &path, e))?,
            }
        }
        let file = private::file()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| JournalError::io("open", &path, source))?;
        let mut journal = Self {
            folder: folder.to_owned(),
            number: tail.number,
            file,
            length: tail.length,
            bytes_since_snapshot: tail.bytes_since_snapshot,
            settled: 0,
            broken: None,
            buffer: Vec::new(),
            _lock: lock,
        };
        journal.begin().map_err(|source| JournalError::io("write", &path, source))?;
        for stale in tail.stale {
            fs::remove_file(&stale).map_err(|e| JournalError::io("remove", &stale, e))?;
        }
        Ok((journal, recovered))
    }

    /// Cuts off a torn end and writes the first bytes of a new file.
    fn begin(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() != self.length {
            self.file.set_len(self.length)?;
            // The next power cut must not bring the cut-off bytes back among the records that are
            // written there from now on.
            self.file.sync_all()?;
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        if self.length == 0 {
            self.file.write_all(MAGIC)?;
            sync_folder(&self.folder)?;
            self.length = MAGIC.len() as u64;
            self.bytes_since_snapshot += self.length;
        }
        Ok(())
    }

    /// Writes `record`; it is in the kernel's hands when this returns.
    ///
    /// After an error no part of the record is left in the file; if it cannot be removed, the
    /// journal takes no more writes.
    pub(crate) fn append(&mut self, record: &Record) -> io::Result<()> {
        self.usable()?;
        self.buffer.clear();
        record.encode(&mut self.buffer);
        if let Err(error) = self.file.write_all(&self.buffer) {
            let undone = self.file.set_len(self.length);
            let undone = undone.and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            if undone.is_err() {
                self.broken = Some(
                    "an earlier write failed and could not be taken back; check the disk, then \
                     restart ebb",
                );
            }
            return Err(error);
        }
        self.length += self.buffer.len() as u64;
        self.bytes_since_snapshot += self.buffer.len() as u64;
        Ok(())
    }

    fn usable(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |reason| Err(io::Error::other(reason)))
    }

    /// Whether a sync would confirm anything.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.broken.is_none() && self.length != self.settled
    }

    /// The bytes to sync; `None` if there are none, or if the journal takes no more writes.
    pub(crate) fn unsynced(&self) -> io::Result<Option<Unsynced>> {
        if !self.is_unsynced() {
            return Ok(None);
        }
        let file = self.file.try_clone()?;
        Ok(Some(Unsynced { file, number: self.number, length: self.length }))
    }

    /// Notes in the journal, where recovery looks for it, that the disk has confirmed `synced`.
    ///
    /// An error does no harm: the note is missing, and the next one covers more.
    pub(crate) fn settle(&mut self, synced: &Unsynced) -> io::Result<()> {
        // A journal that another one follows needs no note: it was synced before the other began.
        if self.number == synced.number {
            let last = self.length == synced.length;
            self.append(&Record::Synced { length: synced.length })?;
            // Otherwise each note would itself need a sync, for ever.
            self.settled = if last { self.length } else { synced.length };
        }
        Ok(())
    }

    /// Refuses all further writes: the disk failed to keep earlier ones, and nothing may follow
    /// them.
    pub(crate) fn give_up(&mut self) {
        self.broken =
            Some("the disk did not keep earlier changes; check the disk, then restart ebb");
    }

    /// Whether the journals have outgrown `live_bytes` of objects.
    pub(crate) fn outgrown(&self, live_bytes: u64) -> bool {
        self.broken.is_none()
            && self.bytes_since_snapshot > COMPACT_BYTES_MIN.max(COMPACT_FACTOR * live_bytes)
    }

    /// Begins a new journal. The caller then writes the snapshot of the state as it is now.
    ///
    /// The old journal is synced first: torn by a power cut after the new one has records, it could
    /// not be told from a damaged one. A failure of that sync is final. After any other error the
    /// old journal stays in use, and another attempt may succeed.
    pub(crate) fn rotate(&mut self) -> io::Result<Compaction> {
        self.usable()?;
        if let Err(error) = self.file.sync_data() {
            self.give_up();
            return Err(error);
        }
        let number = self.number + 1;
        let path = path(&self.folder, JOURNAL, number);
        let file = match begun(&self.folder, &path) {
            Ok(file) => file,
            Err(error) => {
                // If the file stays, recovery skips it and the next attempt overwrites it.
                drop(fs::remove_file(&path));
                return Err(error);
            }
        };
        let replaced_bytes = self.bytes_since_snapshot;
        self.file = file;
        self.number = number;
        self.length = MAGIC.len() as u64;
        self.settled = 0;
        self.bytes_since_snapshot += self.length;
        Ok(Compaction { folder: self.folder.clone(), number, replaced_bytes })
    }

    /// Notes that the snapshot of a compaction is on disk. Until then the journals count as
    /// outgrown.
    pub(crate) fn compacted(&mut self, replaced_bytes: u64) {
        self.bytes_since_snapshot = self.bytes_since_snapshot.saturating_sub(replaced_bytes);
    }
}

// === impl Compaction ===

impl Compaction {
    /// Writes the snapshot, then removes the files that it replaces; returns how many bytes of
    /// journals it replaces. A crash at any point leaves a folder that recovers to the same state,
    /// and so does an error.
    pub(crate) fn finish(self, records: impl Iterator<Item = Record>) -> io::Result<u64> {
        let Self { folder, number, replaced_bytes } = self;
        let path = path(&folder, SNAPSHOT, number);
        let unfinished = path.with_extension("new");
        if let Err(error) = write_snapshot(&unfinished, records) {
            // The unfinished file takes room, which may be what is missing.
            drop(fs::remove_file(&unfinished));
            return Err(error);
        }
        fs::rename(&unfinished, &path)?;
        // The rename must be on disk before the replaced files are removed.
        sync_folder(&folder)?;
        for stale in recovery::older_than(&folder, number)? {
            fs::remove_file(stale)?;
        }
        Ok(replaced_bytes)
    }
}

fn write_snapshot(path: &Path, records: impl Iterator<Item = Record>) -> io::Result<()> {
    let mut file = private::file().write(true).create(true).truncate(true).open(path)?;
    let mut buffer = MAGIC.to_vec();
    for record in records {
        record.encode(&mut buffer);
        if buffer.len() >= SNAPSHOT_BUFFER_BYTES {
            file.write_all(&buffer)?;
            buffer.clear();
        }
    }
    file.write_all(&buffer)?;
    file.sync_all()
}

/// Begins a new journal at `path`, over the rest of a failed attempt that may lie there.
fn begun(folder: &Path, path: &Path) -> io::Result<File> {
    let mut options = private::file();
    let mut file = options.create(true).truncate(true).read(true).write(true).open(path)?;
    file.write_all(MAGIC)?;
    sync_folder(folder)?;
    Ok(file)
}

/// Syncs the names of the files in `folder`.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn path(folder: &Path, prefix: &str, number: u64) -> PathBuf {
    folder.join(format!("{prefix}{number:08}"))
}

fn lock(folder: &Path) -> Result<Lock, JournalError> {
    let path = folder.join(LOCK);
    let opened = private::file().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|source| JournalError::io("open", &path, source))?;
    Lock::try_new(file).map_err(|error| match error {
        TryLockError::WouldBlock => JournalError::InUse { folder: folder.to_owned() },
        TryLockError::Error(source) => JournalError::io("lock", &path, source),
    })
}

#[cfg(test)]
mod tests;
