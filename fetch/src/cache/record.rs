//! What a cache knows of a finished model.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::CachePlace;

/// Largest record: 10,000 files with names of 1,024 bytes.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// A finished model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModelRecord {
    /// Where it is from, without secrets.
    pub(crate) source: String,
    /// SHA-256 of the whole source, with a URL's query: two that differ only there may have one key.
    #[serde(default)]
    pub(crate) source_sha256: String,
    /// The commit of a repository, or a server's name for the state of a file.
    pub(crate) version: Option<String>,
    /// When it was whole, in UTC.
    pub(crate) fetched: String,
    pub(crate) files: Vec<RecordedFile>,
}

/// One of its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedFile {
    /// Its name within the model's folder.
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

// === impl ModelRecord ===

impl ModelRecord {
    /// The record at a place, if one can be read.
    pub(crate) fn read(place: &CachePlace) -> Option<Self> {
        read_json(&place.record(), RECORD_BYTES_MAX)
    }

    /// Whether the files are there, with the sizes that they had, and are those of the source.
    pub(crate) fn is_whole(&self, place: &CachePlace, source_sha256: &str) -> bool {
        let folder = place.folder();
        self.source_sha256 == source_sha256
            && folder.is_dir()
            && self.files.iter().all(|file| {
                fs::symlink_metadata(folder.join(&file.path))
                    .is_ok_and(|found| found.is_file() && found.len() == file.size)
            })
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    pub(crate) fn write(&self, place: &CachePlace) -> io::Result<()> {
        super::replace(&place.record(), &serde_json::to_vec_pretty(self)?, true)
    }
}

/// Sets the last use to `now`. A cache that is read-only for this process has no last uses.
pub(crate) fn touch(place: &CachePlace, now: SystemTime) {
    let touched = File::options().write(true).open(place.record());
    drop(touched.and_then(|file| file.set_modified(now)));
}

/// A small file of JSON; `None` if it is not there, too large or something else.
pub(crate) fn read_json<T: for<'a> Deserialize<'a>>(path: &Path, max: u64) -> Option<T> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(max + 1).read_to_end(&mut bytes).ok()?;
    let length = u64::try_from(bytes.len()).ok()?;
    (length <= max).then(|| serde_json::from_slice(&bytes).ok()).flatten()
}
